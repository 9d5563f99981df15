//! Everything that a process started, directly or not.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};

/// How often survivors are searched for, and the pause in between: two seconds in all.
const PASSES_MAX: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Kills all descendants of this process, also those that start meanwhile, and waits until they have ended. Gives up after two seconds on
/// those that the kernel keeps, such as one that waits for a disk; they end when the kernel lets them.
pub(crate) fn kill_all() {
    for _ in 0..PASSES_MAX {
        // As the reaper of its orphans, a process without children has no descendants at all.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if matches!(wait(WaitOptions::NOHANG), Err(rustix::io::Errno::CHILD)) {
            return;
        }
        for pid in below(getpid(), &parents()) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The parent of every process that can be seen.
fn parents() -> BTreeMap<i32, i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

/// The fourth field of `/proc/PID/stat`. The second, the program's name, may hold anything, parentheses and spaces too.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn below(ancestor: Pid, parents: &BTreeMap<i32, i32>) -> Vec<Pid> {
    let ancestor = ancestor.as_raw_nonzero().get();
    let descends = |mut pid: i32| {
        // No chain of parents is longer than there are processes, even if it was read while it changed.
        for _ in 0..parents.len() {
            match parents.get(&pid) {
                Some(parent) if *parent == ancestor => return true,
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(|pid| descends(*pid)).filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_through_any_number_of_generations() {
        let parents = BTreeMap::from([(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (30, 31), (31, 30)]);
        let found: Vec<i32> = below(Pid::from_raw(10).unwrap(), &parents)
            .into_iter()
            .map(|pid| pid.as_raw_nonzero().get())
            .collect();
        assert_eq!(found, [11, 12]);
        assert_eq!(parent("12 (a) b (c) S 11 12 0"), Some(11));
        assert_eq!(parent("12 (torn"), None);
    }
}
