//! Processes that are watched, stopped and killed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

pub use rustix::process::Signal;

use crate::wait;

/// How long a process may live after SIGKILL: only one that hangs in the kernel takes this long.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// A child process that leads a group of its own, so that the terminal's Ctrl-C does not reach it. Dropping it kills the whole group. Its
/// output is appended to a log file. Its standard input is a pipe that closes when this process ends, however it ends, so that a program
/// that stops at the end of its input never outlives this process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where in the log this process begins: an earlier one may have written to the same file.
    log_start: u64,
}

impl Process {
    /// Starts it. The name is for messages: `coordinator`.
    ///
    /// # Errors
    /// When the log cannot be written or the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let cannot_write = || format!("cannot write {}", log.display());
        let file = File::options().create(true).append(true).open(log).with_context(cannot_write)?;
        let log_start = file.metadata().with_context(cannot_write)?.len();
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().with_context(cannot_write)?)
            .stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start the {name}, {}", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), log_start })
    }

    /// Its process id, which is not reused until this is dropped.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far, to stdout and stderr.
    pub fn written(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            file.seek(SeekFrom::Start(self.log_start))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        // A log that was removed meanwhile counts as empty.
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }

    /// Waits for a line that starts with the prefix, and returns the rest of the first one.
    ///
    /// # Errors
    /// When the process ends, or the limit is over, before it writes one.
    pub fn wait_for_line(&self, prefix: &str, limit: Duration) -> Result<String> {
        let found = wait::for_some(limit, || {
            // It may write the line and end between the two checks, so its end is checked first.
            let ended = self.has_ended();
            let written = self.written();
            let mut whole_lines = written.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            match whole_lines.find_map(|line| line.strip_prefix(prefix)) {
                Some(rest) => Some(Ok(rest.to_owned())),
                None if ended => Some(Err(anyhow!(
                    "the {} ended before it said {prefix:?}: {}",
                    self.name,
                    self.last_words()
                ))),
                None => None,
            }
        });
        found.unwrap_or_else(|| {
            bail!("the {} did not say {prefix:?} within {limit:?}: {}", self.name, self.last_words())
        })
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// When its standard input is closed.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let stdin =
            self.child.stdin.as_mut().with_context(|| format!("the input of the {} is closed", self.name))?;
        writeln!(stdin, "{line}").with_context(|| format!("the {} does not listen", self.name))
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Sends it a signal: TERM to ask it to end, STOP and CONT to make it miss its heartbeats. The rest of its group gets none.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ensure!(!self.has_ended(), "the {} has ended; it gets no signal any more", self.name);
        kill_process(self.raw_pid()?, signal).with_context(|| format!("cannot signal the {}", self.name))
    }

    /// SIGKILL: the process has ended when this returns. Its children are not killed, because tests check that they end too.
    ///
    /// # Errors
    /// When it has ended before, or does not die.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait_for_end(KILL_LIMIT)?;
        Ok(())
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        // waitid fails only if it is no child of this process any more.
        self.ended().map_or(true, |status| status.is_some())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the limit is over before; it is not killed then.
    pub fn wait_for_end(&self, limit: Duration) -> Result<ExitStatus> {
        let status = wait::for_some(limit, || self.ended().transpose());
        status
            .unwrap_or_else(|| bail!("the {} did not end within {limit:?}: {}", self.name, self.last_words()))
    }

    /// Checks without reaping, so that the ids of the process and its group are not reused before this is dropped.
    fn ended(&self) -> Result<Option<ExitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.raw_pid()?), options)
            .with_context(|| format!("cannot ask about the {}", self.name))?;
        Ok(status.map(|status| {
            // As wait(2) would have put it: the code in the second byte, or the signal in the first.
            let raw = status
                .exit_status()
                .map_or_else(|| status.terminating_signal().unwrap_or_default(), |code| code << 8);
            ExitStatus::from_raw(raw)
        }))
    }

    fn raw_pid(&self) -> Result<Pid> {
        raw(self.child.id())
    }

    fn last_words(&self) -> String {
        last_line(&self.written())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that no process of the group is left.
        let _ = self.raw_pid().map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.child.wait();
    }
}

/// Runs a command to its end. What it prints is shown.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status =
        command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!("`{} {}` failed ({status})", command.get_program().display(), arguments.join(" "));
    }
    Ok(())
}

/// The children of this process that exist, zombies included.
///
/// # Errors
/// When the system does not show its processes.
pub fn children_of(parent: u32) -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("cannot list processes in /proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = parent.to_string();
    Ok(pids.filter(|pid| status_line(*pid, "PPid:").as_ref() == Some(&parent)).collect())
}

/// The processes in whose environment this entry stands, such as `RUN=7`, whatever their parents are now. Zombies have none.
///
/// # Errors
/// When the system does not show its processes.
pub fn with_variable(entry: &str) -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("cannot list processes in /proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|&byte| byte == 0).any(|one| one == entry.as_bytes()))
    };
    Ok(pids.filter(has).collect())
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Whether all threads of a process are stopped, as some time after SIGSTOP.
///
/// The signal is sent to one thread, and the others run on until the kernel lets that one run.
pub fn is_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let threads: Vec<_> = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
    !threads.is_empty() && threads.into_iter().all(|thread| state(thread) == Some('T'))
}

/// Sends a signal to a process by its id. It is no error if the process has ended.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    match kill_process(raw(pid)?, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot signal process {pid}")),
    }
}

/// The last line that is not empty, for messages of one line.
pub(crate) fn last_line(text: &str) -> String {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing").to_owned()
}

fn raw(pid: u32) -> Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))
}

fn state(pid: u32) -> Option<char> {
    status_line(pid, "State:")?.chars().next()
}

fn status_line(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(key))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than anything takes on a busy machine: only a hang reaches it.
    const WAIT_LIMIT: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> (tempfile::TempDir, Process) {
        let folder = tempfile::tempdir().unwrap();
        let process =
            Process::start("shell", Command::new("sh").args(["-c", script]), &folder.path().join("log"))
                .unwrap();
        (folder, process)
    }

    #[test]
    fn its_output_is_read_its_input_written_and_its_end_awaited() {
        let (_folder, mut shell) = shell("echo odd >&2; echo ready 7; read -r code; exit $code");
        assert_eq!(shell.wait_for_line("ready ", WAIT_LIMIT).unwrap(), "7");
        assert!(!shell.has_ended());
        shell.say("3").unwrap();
        assert_eq!(shell.wait_for_end(WAIT_LIMIT).unwrap().code(), Some(3));
        assert_eq!(shell.written(), "odd\nready 7\n");
        let error = shell.wait_for_line("other", WAIT_LIMIT).unwrap_err().to_string();
        assert!(error.contains("ended before it said \"other\": ready 7"), "{error}");
        assert!(shell.signal(Signal::TERM).unwrap_err().to_string().contains("has ended"));
    }

    #[test]
    fn a_second_process_does_not_hear_the_first_ones_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        for word in ["first", "second"] {
            let process = Process::start("echo", Command::new("echo").arg(word), &log).unwrap();
            process.wait_for_end(WAIT_LIMIT).unwrap();
            assert_eq!(process.written(), format!("{word}\n"));
        }
    }

    #[test]
    fn signals_reach_it_and_it_dies_at_once() {
        let (_folder, shell) = shell("while :; do sleep 1; done");
        assert!(!wait::until(Duration::from_millis(10), || shell.has_ended()));
        shell.signal(Signal::STOP).unwrap();
        assert!(wait::until(WAIT_LIMIT, || is_stopped(shell.pid())));
        shell.signal(Signal::CONT).unwrap();
        assert!(wait::until(WAIT_LIMIT, || !is_stopped(shell.pid())));
        assert!(is_alive(shell.pid()));
        shell.kill().unwrap();
        assert!(!is_alive(shell.pid()));
        assert_eq!(shell.wait_for_end(WAIT_LIMIT).unwrap().signal(), Some(9));
    }

    #[test]
    fn one_that_hangs_is_named_with_its_last_words() {
        let (_folder, mut shell) = shell("echo thinking; read -r word");
        shell.wait_for_line("thinking", WAIT_LIMIT).unwrap();
        let error = shell.wait_for_end(Duration::from_millis(1)).unwrap_err().to_string();
        assert_eq!(error, "the shell did not end within 1ms: thinking");
        shell.close_stdin();
        assert_eq!(shell.wait_for_end(WAIT_LIMIT).unwrap().code(), Some(1));
    }

    #[test]
    fn dropping_it_kills_its_group() {
        let (_folder, shell) = shell("sleep 1000 & sleep 1000 & echo two; wait");
        shell.wait_for_line("two", WAIT_LIMIT).unwrap();
        let children = children_of(shell.pid()).unwrap();
        assert_eq!(children.len(), 2);
        assert!(children.iter().all(|child| is_alive(*child)));
        drop(shell);
        assert!(wait::until(WAIT_LIMIT, || !children.iter().any(|child| is_alive(*child))));
    }

    #[test]
    fn processes_are_found_by_a_variable_that_they_inherited() {
        let folder = tempfile::tempdir().unwrap();
        let entry = format!("SORTIE_TESTBED_RUN={}", folder.path().display());
        let (name, value) = entry.split_once('=').unwrap();
        let mut command = Command::new("sh");
        // The inner shell's parent ends at once.
        command.args(["-c", "(sleep 1000 &); echo ready; read -r word"]).env(name, value);
        let shell = Process::start("shell", &mut command, &folder.path().join("log")).unwrap();
        shell.wait_for_line("ready", WAIT_LIMIT).unwrap();
        let found = with_variable(&entry).unwrap();
        assert!(found.len() == 2 && found.contains(&shell.pid()), "{found:?}");
        assert_eq!(with_variable(name).unwrap(), []);
        drop(shell);
        assert!(wait::until(WAIT_LIMIT, || with_variable(&entry).unwrap().is_empty()));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            Process::start("worker", &mut Command::new("/no/such/program"), &folder.path().join("log"))
                .unwrap_err();
        assert!(error.to_string().contains("cannot start the worker, /no/such/program"), "{error}");
    }
}
