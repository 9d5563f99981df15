//! Trainers that wait for a trial: libtorch is loaded and the device opened before there is one, so that a slot idles for less time
//! between two trials. Each runs one trial, like any other.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::process::{Child, Command};

use super::child;
use crate::state_dir::StateDir;

/// The processes that wait, one for each slot at most. Dropping them kills them; each also ends when its standard input closes.
#[derive(Debug, Default)]
pub(crate) struct WaitingTrainers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_slot: BTreeMap<usize, Waiting>,
    /// The agent ends: no other process is started.
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    command: CommandLine,
    process: Child,
}

impl WaitingTrainers {
    /// The process that waits for this slot, if it was started by such a command and still runs. Any other that waits there is ended.
    pub(crate) fn take(&self, slot: usize, command: &Command) -> Option<Child> {
        let Waiting { command: started_by, mut process } = self.lock().by_slot.remove(&slot)?;
        let fits = started_by == CommandLine::of(command) && matches!(process.try_wait(), Ok(None));
        fits.then_some(process)
    }

    /// Starts the process that waits for this slot, unless one does.
    pub(crate) fn start(&self, slot: usize, command: Command, state_dir: &StateDir) {
        let mut state = self.lock();
        if state.closed || state.by_slot.contains_key(&slot) {
            return;
        }
        let line = CommandLine::of(&command);
        match child::start(command, true) {
            Ok(process) => {
                if let Some(pid) = process.id() {
                    state_dir.note(pid.cast_signed());
                }
                state.by_slot.insert(slot, Waiting { command: line, process });
            }
            // The next trial starts one of its own, and says what is wrong.
            Err(error) => tracing::debug!(%error, "cannot start a trainer that waits"),
        }
    }

    /// Ends all of them. None is started any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.by_slot.clear();
    }

    /// A panic of another holder cannot leave it half changed: every change is one call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a process was started by: program, arguments, and variables that are set or removed.
#[derive(Debug, PartialEq, Eq)]
struct CommandLine {
    words: Vec<OsString>,
    variables: Vec<(OsString, Option<OsString>)>,
}

impl CommandLine {
    fn of(command: &Command) -> Self {
        let command = command.as_std();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let variables = command.get_envs();
        Self {
            words: words.map(OsStr::to_owned).collect(),
            variables: variables.map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::processes::ProcessId;

    fn cat(device: &str) -> Command {
        let mut command = Command::new("cat");
        command.env("CUDA_VISIBLE_DEVICES", device).env_remove("OTHER").process_group(0);
        command
    }

    fn state_dir(folder: &tempfile::TempDir) -> StateDir {
        StateDir::open(folder.path(), "worker").unwrap()
    }

    /// The process that waits for the first slot.
    fn waits(waiting: &WaitingTrainers) -> Option<i32> {
        waiting.lock().by_slot.get(&0).and_then(|waiting| waiting.process.id()).map(u32::cast_signed)
    }

    async fn ended(pid: i32) {
        while ProcessId::of(pid).is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_waits_for_each_slot_and_goes_to_what_would_have_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let (waiting, state_dir) = (WaitingTrainers::default(), state_dir(&folder));
        assert!(waiting.take(0, &cat("a")).is_none());
        waiting.start(0, cat("a"), &state_dir);
        let first = waits(&waiting).unwrap();
        waiting.start(0, cat("a"), &state_dir);
        assert_eq!(waits(&waiting), Some(first));
        assert!(waiting.take(1, &cat("a")).is_none());
        let taken = waiting.take(0, &cat("a")).unwrap();
        assert_eq!((taken.id().map(u32::cast_signed), waits(&waiting)), (Some(first), None));
        drop(taken);
        ended(first).await;
    }

    #[tokio::test]
    async fn one_that_does_not_fit_or_has_ended_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (waiting, state_dir) = (WaitingTrainers::default(), state_dir(&folder));
        let mut argument = cat("a");
        argument.arg("-");
        let mut variable = cat("a");
        variable.env("OTHER", "");
        for other in [cat("b"), argument, variable] {
            waiting.start(0, cat("a"), &state_dir);
            let pid = waits(&waiting).unwrap();
            assert!(waiting.take(0, &other).is_none(), "{other:?}");
            ended(pid).await;
        }
        waiting.start(0, cat("a"), &state_dir);
        let pid = waits(&waiting).unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        ended(pid).await;
        assert!(waiting.take(0, &cat("a")).is_none());
    }

    #[tokio::test]
    async fn none_is_left_when_the_agent_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (waiting, state_dir) = (WaitingTrainers::default(), state_dir(&folder));
        waiting.start(0, cat("a"), &state_dir);
        let pid = waits(&waiting).unwrap();
        // Should the agent be killed, the next one finds it here.
        let record = std::fs::read_to_string(folder.path().join("agents/worker/running.json")).unwrap();
        assert!(record.contains(&format!("\"pid\":{pid},")), "{record}");
        waiting.close();
        ended(pid).await;
        waiting.start(0, cat("a"), &state_dir);
        assert!(waiting.take(0, &cat("a")).is_none());
    }
}
