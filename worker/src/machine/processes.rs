//! Unique identities of processes: the system may reuse a process id alone.

use std::fs;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

/// A process by its id and its start, in clock ticks since the machine booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

impl ProcessId {
    /// The process that has this id now; none if it is gone.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let started = started(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self { pid, started })
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Kills its group, if it still runs and leads one.
    pub(crate) fn kill_group(self) -> bool {
        match Pid::from_raw(self.pid) {
            Some(pid) if self.is_alive() => kill_process_group(pid, Signal::KILL).is_ok(),
            _ => false,
        }
    }
}

/// Field 22 of `/proc/PID/stat`; none for a zombie. The second field, the program's name, may hold
/// anything, parentheses and spaces too.
fn started(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// The boot and the container within which process ids are unique. Other machines may share the cache folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PidScope {
    boot: String,
    process_namespace: String,
}

impl PidScope {
    /// Where this process runs.
    pub(crate) fn here() -> Self {
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self { boot, process_namespace: namespace.to_string_lossy().into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_its_id_and_its_start() {
        let own = ProcessId::of(std::process::id().cast_signed()).unwrap();
        assert!(own.is_alive() && own.started > 0);
        let other = ProcessId { started: own.started + 1, ..own };
        assert!(!other.is_alive() && !other.kill_group());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id().cast_signed();
        while ProcessId::of(id).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        assert_eq!(
            (started(stat), started(&stat.replace(") S", ") Z")), started("7 (a")),
            (Some(4242), None, None)
        );
    }
}
