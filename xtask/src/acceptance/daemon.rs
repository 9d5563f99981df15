//! A daemon of somebody else's, run in the foreground for as long as we need it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a daemon that was asked to stop may take before it is killed, in steps of [`POLL`].
const STOP_POLLS_MAX: u32 = 100;
const POLL: Duration = Duration::from_millis(100);

/// A daemon that runs beside us. Dropping it ends it; it also ends when we are killed.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts it, with everything that it prints going to `log`.
    pub fn start(name: &'static str, arguments: &[&str], log: PathBuf) -> Result<Self> {
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let output_too = output.try_clone().context("cannot share a log file")?;
        // A daemon has no end of input to notice our death by.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(name).args(arguments);
        // Daemons lie where an ordinary user's PATH does not lead.
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        command.env("PATH", path);
        // A group of its own: it must not hear our terminal's Ctrl-C before we have ended its jobs.
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(output_too);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, log, child })
    }

    /// Fails with what it said last if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().with_context(|| format!("cannot ask how {} is", self.name))? {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            bail!("{} ended with {status}: {}", self.name, text.lines().last().unwrap_or("it said nothing"));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for _ in 0..STOP_POLLS_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                // Asking again does no harm, and it was not waited for yet: the id is still its own.
                let _ = kill_process(pid, Signal::TERM);
            }
            std::thread::sleep(POLL);
        }
        eprintln!("{} did not stop when asked to; killing it", self.name);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
