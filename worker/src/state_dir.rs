//! The folder of one agent below the cache: the processes that it runs, and reports that wait on disk. Several agents may share a cache.
//! Each holds a lock in its folder while it runs, and one that starts removes what ended ones left.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sortie_core::keys::AttemptToken;

use crate::machine::processes::{PidScope, ProcessId};

const RECORD: &str = "running.json";
const LOCK: &str = "lock";

/// An agent and the groups that it runs, as stored in [`RECORD`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    worker_id: String,
    place: PidScope,
    agent: ProcessId,
    /// The leaders of its trials' process groups.
    groups: Vec<ProcessId>,
}

/// This agent's folder. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct StateDir {
    folder: PathBuf,
    record: Mutex<Record>,
    /// Held, not read.
    _lock: File,
}

impl StateDir {
    /// Creates the folder of a new agent, and cleans up after agents that have ended.
    ///
    /// # Errors
    /// When the cache folder cannot be used.
    pub(crate) fn open(cache: &Path, worker_id: &str) -> io::Result<Self> {
        let agents = cache.join("agents");
        fs::create_dir_all(&agents)?;
        // One agent at a time, so that none removes a folder that another is creating. On a file system without locks the agent works
        // too, and removes only folders of agents that have surely ended.
        let gate = File::create(agents.join(LOCK))?;
        let _ = gate.lock();
        clear_dead(&agents);
        let folder = agents.join(worker_id);
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join(LOCK))?;
        let _ = lock.try_lock();
        let agent = ProcessId::of(std::process::id().cast_signed())
            .ok_or_else(|| io::Error::other("/proc does not show this process"))?;
        let record =
            Record { worker_id: worker_id.to_owned(), place: PidScope::here(), agent, groups: Vec::new() };
        let state_dir = Self { folder, record: Mutex::new(record), _lock: lock };
        state_dir.write(&state_dir.record())?;
        Ok(state_dir)
    }

    /// The file in which an attempt's reports wait.
    pub(crate) fn reports(&self, token: AttemptToken) -> PathBuf {
        self.folder.join(format!("{token}.reports"))
    }

    /// Notes that the process group led by this process runs, until the note is dropped.
    pub(crate) fn running(&self, pid: i32) -> Running<'_> {
        Running { state_dir: self, leader: self.note(pid) }
    }

    /// Notes that the process group led by this process runs, if that is not noted yet. Groups that have ended are forgotten.
    pub(crate) fn note(&self, pid: i32) -> Option<ProcessId> {
        let leader = ProcessId::of(pid)?;
        if !self.record().groups.contains(&leader) {
            self.change(|groups| {
                groups.retain(|group| group.is_alive());
                groups.push(leader);
            });
        }
        Some(leader)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<ProcessId>)) {
        let mut record = self.record();
        change(&mut record.groups);
        if let Err(error) = self.write(&record) {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot note which processes run");
        }
    }

    /// Replaces the file atomically, so that it is never read half written.
    fn write(&self, record: &Record) -> io::Result<()> {
        sortie_files::replace(&self.folder.join(RECORD), &serde_json::to_vec(record)?)
    }

    /// A panic of another holder cannot leave the record half changed: every change is one call.
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // The next agent removes what stays.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A note that a process group runs.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    state_dir: &'a StateDir,
    leader: Option<ProcessId>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            self.state_dir.change(|groups| groups.retain(|group| *group != leader));
        }
    }
}

/// Kills the groups and removes the folders of agents that have ended.
fn clear_dead(agents: &Path) {
    let entries = fs::read_dir(agents).into_iter().flatten().flatten();
    for folder in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let record =
            fs::read(folder.join(RECORD)).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        if !is_dead(&folder, record.as_ref()) {
            continue;
        }
        if let Some(Record { worker_id, groups, .. }) =
            record.filter(|record| record.place == PidScope::here())
        {
            for group in groups {
                if group.kill_group() {
                    tracing::warn!(worker = %worker_id, pid = group.pid, "killed a trial that its dead agent had left");
                }
            }
        }
        let _ = fs::remove_dir_all(&folder);
    }
}

/// An agent whose lock can be taken has ended, whatever its machine. On file systems without locks, its process decides.
fn is_dead(folder: &Path, record: Option<&Record>) -> bool {
    let here = record.filter(|record| record.place == PidScope::here());
    let lives = here.map(|record| record.agent.is_alive());
    match File::options().read(true).write(true).open(folder.join(LOCK)).map(|lock| lock.try_lock()) {
        Ok(Ok(())) => lives != Some(true),
        Ok(Err(TryLockError::WouldBlock)) => false,
        Ok(Err(TryLockError::Error(_))) | Err(_) => lives == Some(false),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").process_group(0).spawn().unwrap()
    }

    /// Changes a folder to what a killed agent leaves: no lock, and a process that does not exist.
    fn kill_agent(state_dir: StateDir, folder: &Path) -> PathBuf {
        let mut record = state_dir.record().clone();
        record.agent.started += 1;
        state_dir.write(&record).unwrap();
        let copy = folder.join("agents/dead");
        fs::create_dir(&copy).unwrap();
        for name in [RECORD, LOCK] {
            fs::copy(state_dir.folder.join(name), copy.join(name)).unwrap();
        }
        drop(state_dir);
        copy
    }

    #[test]
    fn what_a_dead_agent_left_is_ended_and_a_living_one_keeps_its_own() {
        let cache = tempfile::tempdir().unwrap();
        let (mut left, mut kept) = (sleeper(), sleeper());
        let living = StateDir::open(cache.path(), "living").unwrap();
        let _running = living.running(kept.id().cast_signed());
        let dying = StateDir::open(cache.path(), "dying").unwrap();
        let running = dying.running(left.id().cast_signed());
        fs::write(dying.reports(AttemptToken(3)), b"x").unwrap();
        // As a kill would: the note stays.
        std::mem::forget(running);
        let dead = kill_agent(dying, cache.path());
        let next = StateDir::open(cache.path(), "next").unwrap();
        assert!(!dead.exists() && living.folder.exists());
        // Collected only if it ended.
        assert!(!left.wait().unwrap().success());
        assert!(kept.try_wait().unwrap().is_none());
        kept.kill().unwrap();
        kept.wait().unwrap();
        drop(next);
        assert!(!cache.path().join("agents/next").exists());
    }

    #[test]
    fn another_user_of_the_cache_may_read_what_runs() {
        use std::os::unix::fs::PermissionsExt as _;
        let cache = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(cache.path(), "one").unwrap();
        let ordinary = cache.path().join("ordinary");
        fs::write(&ordinary, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        for name in [RECORD, LOCK] {
            assert_eq!(mode(&state_dir.folder.join(name)), mode(&ordinary), "{name}");
        }
    }

    #[test]
    fn a_group_whose_process_is_another_now_is_left_alone() {
        let cache = tempfile::tempdir().unwrap();
        let mut other = sleeper();
        let dying = StateDir::open(cache.path(), "dying").unwrap();
        let running = dying.running(other.id().cast_signed());
        std::mem::forget(running);
        dying.record().groups[0].started += 1;
        let dead = kill_agent(dying, cache.path());
        drop(StateDir::open(cache.path(), "next").unwrap());
        assert!(!dead.exists() && other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
