//! Every process that descends from this one, so that none is left behind.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

/// How often the killing is repeated: what is killed may have started something a moment before.
const ROUNDS_MAX: u32 = 50;
const POLL: Duration = Duration::from_millis(100);

/// While it lives, processes whose parent dies become children of this one, as Slurm's do when they turn into daemons. Dropping it kills,
/// by id, every descendant that is still there; so it is to be dropped last.
#[derive(Debug)]
pub struct Offspring(());

impl Offspring {
    /// From now on this process is the parent of what it starts, however far down.
    pub fn adopt() -> Result<Self> {
        set_child_subreaper(Some(getpid())).context("the system does not let this process adopt orphans")?;
        Ok(Self(()))
    }
}

impl Drop for Offspring {
    fn drop(&mut self) {
        for round in 0..ROUNDS_MAX {
            // The dead among our children stay listed until somebody asks for them.
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            let left = descendants(getpid(), &parents());
            if left.is_empty() {
                return;
            }
            if round == 0 {
                eprintln!("killing {} processes that were left", left.len());
            }
            for pid in left {
                // It may have ended meanwhile: then there is nothing to kill.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(POLL);
        }
        eprintln!("some processes could not be ended; `ps -ef` shows them");
    }
}

/// Every process of the machine that is seen, with its parent.
fn parents() -> Vec<(Pid, Pid)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    for entry in entries.flatten() {
        // Most names there are no numbers; and processes end while we read.
        let Some(pid) = entry.file_name().to_str().and_then(pid) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent(&stat) {
            found.push((pid, parent));
        }
    }
    found
}

/// The parent in a line of /proc/PID/stat, whose second field is a name in brackets that may hold anything.
fn parent(stat: &str) -> Option<Pid> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1).and_then(pid)
}

fn pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

fn descendants(of: Pid, parents: &[(Pid, Pid)]) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut next = vec![of];
    while let Some(ancestor) = next.pop() {
        for (pid, parent) in parents {
            if *parent == ancestor && !found.contains(pid) {
                found.push(*pid);
                next.push(*pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent("7 (a) b) (c) S 5 7 7 0").map(Pid::as_raw_nonzero).map(i32::from), Some(5));
        assert_eq!(parent("1 (init) S 0 1 1 0"), None);
    }

    #[test]
    fn descendants_are_found_however_deep_and_nobody_else() {
        let pid = |number: i32| Pid::from_raw(number).unwrap();
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 5)].map(|(child, parent)| (pid(child), pid(parent)));
        let mut found = descendants(pid(2), &parents);
        found.sort_unstable_by_key(|pid| pid.as_raw_pid());
        assert_eq!(found, [pid(3), pid(4)]);
    }
}
