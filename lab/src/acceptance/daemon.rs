//! A daemon of somebody else's, run in the foreground for as long as we need it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use sortie_testkit::processes::{Process, Signal};

/// How long a daemon that was asked to stop may take before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A daemon that runs beside us. Dropping it asks it to end, and kills it if it does not; it also ends when we are killed.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    process: Process,
}

impl Daemon {
    /// Starts it, with everything that it prints going to `log`.
    pub fn start(name: &'static str, arguments: &[&str], log: &Path) -> Result<Self> {
        // A daemon does not heed the end of its input, by which it could notice our death.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(name).args(arguments);
        // Daemons lie where an ordinary user's PATH does not lead.
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        command.env("PATH", path);
        Ok(Self { name, process: Process::start(name, &mut command, log)? })
    }

    /// Fails with what it said last if it has ended.
    pub fn check(&self) -> Result<()> {
        if self.process.has_ended() {
            let written = self.process.written();
            bail!("{} has ended: {}", self.name, written.lines().last().unwrap_or("it said nothing"));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended by itself needs no signal.
        if self.process.signal(Signal::TERM).is_ok() && self.process.wait_for_end(STOP_LIMIT).is_err() {
            eprintln!("{} did not stop when asked to; killing it", self.name);
        }
    }
}
