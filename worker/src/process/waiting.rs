//! A trainer that waits for a trial: libtorch is loaded and the device opened before there is one, so that a slot idles for less time
//! between two trials. It runs one trial, like any other.

use std::ffi::{OsStr, OsString};

use tokio::process::{Child, Command};

use super::child;
use crate::state_dir::StateDir;

/// A process that waits. Dropping it kills it; it also ends when its standard input closes.
#[derive(Debug)]
pub(crate) struct WaitingTrainer {
    command: CommandLine,
    process: Child,
}

impl WaitingTrainer {
    /// Starts one; none if the system refuses.
    pub(crate) fn start(command: Command, state_dir: &StateDir) -> Option<Self> {
        let line = CommandLine::of(&command);
        match child::start(command, true) {
            Ok(process) => {
                if let Some(pid) = process.id() {
                    state_dir.note(pid.cast_signed());
                }
                Some(Self { command: line, process })
            }
            // The next trial starts one of its own, and says what is wrong.
            Err(error) => {
                tracing::debug!(%error, "cannot start a trainer that waits");
                None
            }
        }
    }

    /// Its process, if it was started by such a command and still runs. Otherwise it is ended.
    pub(crate) fn into_process(mut self, command: &Command) -> Option<Child> {
        let fits = self.command == CommandLine::of(command) && matches!(self.process.try_wait(), Ok(None));
        fits.then_some(self.process)
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
pub(crate) mod tests {
    use super::*;
    use crate::machine::processes::ProcessId;

    /// A program that ends when its input closes, for a slot on this device.
    pub(crate) fn cat(device: &str) -> Command {
        let mut command = Command::new("cat");
        command.env("CUDA_VISIBLE_DEVICES", device).env_remove("OTHER").process_group(0);
        command
    }

    pub(crate) fn state_dir(folder: &tempfile::TempDir) -> StateDir {
        StateDir::open(folder.path(), "worker").unwrap()
    }

    impl WaitingTrainer {
        pub(crate) fn pid(&self) -> i32 {
            self.process.id().unwrap().cast_signed()
        }
    }

    pub(crate) async fn ended(pid: i32) {
        while ProcessId::of(pid).is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn it_goes_to_what_would_have_started_it_and_to_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = state_dir(&folder);
        let start = || WaitingTrainer::start(cat("a"), &state_dir).unwrap();
        let first = start();
        let pid = first.pid();
        // Should the agent be killed, the next one finds it here.
        let record = std::fs::read_to_string(folder.path().join("agents/worker/running.json")).unwrap();
        assert!(record.contains(&format!("\"pid\":{pid},")), "{record}");
        let taken = first.into_process(&cat("a")).unwrap();
        assert_eq!(taken.id().map(u32::cast_signed), Some(pid));
        drop(taken);
        ended(pid).await;

        let mut argument = cat("a");
        argument.arg("-");
        let mut variable = cat("a");
        variable.env("OTHER", "");
        for other in [cat("b"), argument, variable] {
            let waiting = start();
            let pid = waiting.pid();
            assert!(waiting.into_process(&other).is_none(), "{other:?}");
            ended(pid).await;
        }
        let waiting = start();
        let pid = rustix::process::Pid::from_raw(waiting.pid()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // Its parent has not collected it yet.
        while std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            tokio::task::yield_now().await;
        }
        assert!(waiting.into_process(&cat("a")).is_none());
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(WaitingTrainer::start(Command::new("/nowhere/cat"), &state_dir(&folder)).is_none());
    }
}
