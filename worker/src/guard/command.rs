//! The guard, a hidden command of `sortie`: runs one command for a worker's agent, so that nothing of it outlives the command or the agent.
//!
//! The agent holds the other end of its standard input. When it closes, the agent has ended, and the guard kills the
//! command and all its descendants: its process group and, as the subreaper of orphans, also processes that left the group. The command
//! itself has an empty standard input.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpgrp, getpid, kill_process,
    kill_process_group, set_child_subreaper, setrlimit, wait,
};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// The variable that names the file for what the agent has not read when it ends. The command does not get it.
pub(crate) const UNREAD_VARIABLE: &str = "SORTIE_GUARD_UNREAD";
/// This process's standard output, which can be opened for reading, too, if it is a pipe.
const OUTPUT: &str = "/proc/self/fd/1";
/// More than a pipe holds.
const UNREAD_BYTES_MAX: u64 = 4 << 20;

/// The exit statuses of shells for a program that is missing, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const CANNOT_RUN: u8 = 126;

/// Runs the command with these words, and ends as it ends.
pub fn run(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(program) = words.next() else {
        eprintln!("error: this command is for `sortie worker`, which starts it with the command of a trial");
        return ExitCode::from(2);
    };
    match guard(&program, words) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("error: cannot run {program:?}: {error}");
            ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN })
        }
    }
}

/// Runs the command and ends as it ended.
fn guard(program: &OsString, words: impl Iterator<Item = OsString>) -> io::Result<Infallible> {
    // Old kernels lack this; then only processes that stay in the group are killed.
    let _ = set_child_subreaper(Some(getpid()));
    // Signals to the group are for the command, and the guard must outlive it. Handlers, unlike ignored signals, are not inherited.
    for signal in [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let unread = Unread::open();
    let child = Command::new(program).args(words).env_remove(UNREAD_VARIABLE).stdin(Stdio::null()).spawn()?;
    let agent_is_gone = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&agent_is_gone);
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        wait_for_end();
        gone.store(true, Ordering::Release);
        super::descendants::kill_all();
        if let Some(unread) = unread {
            // What cannot be saved is printed again if the trial begins again.
            let _ = unread.save();
        }
        die(Signal::KILL)
    })?;
    let status = wait_for(Pid::from_child(&child))?;
    while agent_is_gone.load(Ordering::Acquire) {
        // The watchdog has killed the command, and ends this process when it has saved the output.
        std::thread::park();
    }
    super::descendants::kill_all();
    end_as(status)
}

/// What the command prints and nobody reads once the agent has ended. Checkpoints that the command wrote after it stay, so its metrics must
/// not be lost.
struct Unread {
    /// The other end of standard output. While it is open, the command can go on printing until it is killed.
    pipe: File,
    file: PathBuf,
}

impl Unread {
    /// None if the agent named no file, or the output is no pipe.
    fn open() -> Option<Self> {
        let file = PathBuf::from(std::env::var_os(UNREAD_VARIABLE)?);
        let is_pipe = std::fs::metadata(OUTPUT).is_ok_and(|output| output.file_type().is_fifo());
        // Without waiting: what is in the pipe once the command is dead is all that there is.
        let mut options = File::options();
        options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        is_pipe.then(|| options.open(OUTPUT).ok())?.map(|pipe| Self { pipe, file })
    }

    fn save(self) -> io::Result<()> {
        let mut bytes = Vec::new();
        // It ends with an error where a process that cannot be killed still holds the other end.
        let _ = self.pipe.take(UNREAD_BYTES_MAX).read_to_end(&mut bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        File::options().append(true).create(true).open(self.file)?.write_all(&bytes)
    }
}

/// Waits for the end of standard input. A read error counts as the end.
fn wait_for_end() {
    let mut ignored = [0_u8; 64];
    let mut input = io::stdin().lock();
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Err(error) if error.kind() != ErrorKind::Interrupted => return,
            _ => {}
        }
    }
}

/// Collects orphans until the command itself has ended.
fn wait_for(command: Pid) -> io::Result<WaitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => return Ok(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn end_as(status: WaitStatus) -> ! {
    if let Some(signal) = status.terminating_signal() {
        // The command has dumped its core, which the guard's must not overwrite.
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        // The handlers above prevent the default action of some signals.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = kill_process(getpid(), signal);
        }
        // The signal did not end the guard. Shells report such an end as 128 + signal.
        std::process::exit(128 + signal);
    }
    std::process::exit(status.exit_status().unwrap_or(1))
}

fn die(signal: Signal) -> ! {
    // The agent makes each guard the leader of a group. Without an agent, the group may be the shell's.
    let killed = if getpgrp() == getpid() {
        kill_process_group(getpid(), signal)
    } else {
        kill_process(getpid(), signal)
    };
    // If the signal failed, exit normally.
    let _ = killed;
    std::process::abort()
}
