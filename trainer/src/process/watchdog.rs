//! Ends the trial process when its agent is gone, so that no orphan computes on a device that is leased to another trial.

use std::io::{self, Read};
use std::thread;

use rustix::process::{Signal, getpgrp, getpid, kill_process, kill_process_group};

/// Starts the thread that waits for the end of standard input, which only the agent holds open.
///
/// # Errors
/// When the system refuses another thread.
pub(super) fn start() -> io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(|| {
        wait_for_end(io::stdin().lock());
        die();
    })?;
    Ok(())
}

fn wait_for_end(mut input: impl Read) {
    let mut ignored = [0_u8; 64];
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A pipe that cannot be read gives no more evidence of a living agent than a closed one.
            Err(_) => return,
        }
    }
}

/// Sends SIGKILL. An orderly exit would run libtorch's destructors while a training thread still computes.
fn die() -> ! {
    let pid = getpid();
    // The agent makes each trial the leader of a process group. In a process that was started from a shell, the group may hold others.
    let killed = if getpgrp() == pid {
        kill_process_group(pid, Signal::KILL)
    } else {
        kill_process(pid, Signal::KILL)
    };
    // A process may always signal itself. If that fails, `abort` ends it.
    let _ = killed;
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_input_counts() {
        let (reader, mut writer) = io::pipe().unwrap();
        let waiting = thread::spawn(move || wait_for_end(reader));
        io::Write::write_all(&mut writer, b"whatever\n").unwrap();
        assert!(!waiting.is_finished());
        drop(writer);
        waiting.join().unwrap();
    }
}
