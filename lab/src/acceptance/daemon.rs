//! Daemons of other projects, run in the foreground.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use sortie_testkit::processes::{Process, Signal};

/// How long a daemon may take to stop after SIGTERM before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A running daemon. Dropping it sends SIGTERM, and SIGKILL if it does not end. It also ends when this process is killed.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    process: Process,
}

impl Daemon {
    /// Starts it. Its output goes to `log`.
    pub fn start(name: &'static str, arguments: &[&str], log: &Path) -> Result<Self> {
        // The end of its standard input does not stop a daemon, so the kernel sends it a signal when this process ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(name).args(arguments);
        // The folders of daemons are not in the PATH of ordinary users.
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        command.env("PATH", path);
        Ok(Self { name, process: Process::start(name, &mut command, log)? })
    }

    /// Fails with its last message if it has ended.
    pub fn check(&self) -> Result<()> {
        if self.process.has_ended() {
            let log = self.process.written();
            bail!("{} has ended: {}", self.name, log.lines().last().unwrap_or("no message"));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A daemon that has ended by itself needs no signal.
        if self.process.signal(Signal::TERM).is_ok() && self.process.wait_for_end(STOP_LIMIT).is_err() {
            eprintln!("{} did not stop after SIGTERM; killing it", self.name);
        }
    }
}
