//! Kills every process that descends from this one, so that none is left.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use sortie_testkit::processes::children_of;

/// How often the killing is repeated: a process may have started another one just before its end.
const ROUNDS_MAX: u32 = 50;
const POLL: Duration = Duration::from_millis(100);

/// While this value exists, a process whose parent ends becomes a child of this process. Slurm's processes do so when they become daemons.
/// Dropping the value kills all descendants by id, so it must be dropped last.
#[derive(Debug)]
pub struct DescendantKiller(());

impl DescendantKiller {
    /// Makes this process the parent of its orphaned descendants.
    pub fn start() -> Result<Self> {
        set_child_subreaper(Some(getpid())).context("the system does not let this process adopt orphans")?;
        Ok(Self(()))
    }
}

impl Drop for DescendantKiller {
    fn drop(&mut self) {
        for round in 0..ROUNDS_MAX {
            // Ended children stay listed until they are waited for.
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            let left = descendants_of(std::process::id());
            if left.is_empty() {
                return;
            }
            if round == 0 {
                eprintln!("killing {} remaining processes", left.len());
            }
            for pid in left.into_iter().filter_map(|pid| i32::try_from(pid).ok().and_then(Pid::from_raw)) {
                // A process that has ended in the meantime needs no signal.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(POLL);
        }
        eprintln!("some processes could not be ended; `ps -ef` shows them");
    }
}

fn descendants_of(ancestor: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(parent) = next.pop() {
        // Without /proc no children are found.
        let children = children_of(parent).unwrap_or_default();
        next.extend(&children);
        found.extend(children);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use sortie_testkit::processes::Process;
    use sortie_testkit::wait;

    use super::*;

    #[test]
    fn descendants_are_found_however_deep() {
        let folder = tempfile::tempdir().unwrap();
        let script = "sh -c 'sleep 1000 & sleep 1000 & wait' & wait";
        let shell =
            Process::start("shell", Command::new("sh").args(["-c", script]), &folder.path().join("log"))
                .unwrap();
        assert!(wait::until(Duration::from_secs(60), || descendants_of(shell.pid()).len() == 3));
        assert!(descendants_of(std::process::id()).contains(&shell.pid()));
    }
}
