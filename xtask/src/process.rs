//! Running other programs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// How long a process that was asked to stop may take before it is killed, in steps of [`POLL`].
const STOP_POLLS_MAX: u32 = 150;
const POLL: Duration = Duration::from_millis(100);

pub use sortie_testkit::processes::run;

/// `cargo`, the one that runs us.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Where cargo puts what it builds.
pub fn target(repository: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository.join("target"), |target| repository.join(target))
}

/// A process that runs beside us. It stops when its standard input closes, so it ends with us, however we end; it does not hear our
/// terminal's Ctrl-C, so that it can be stopped in good order.
pub struct Companion {
    name: &'static str,
    child: Child,
}

impl Companion {
    /// Starts it, with stderr going to the end of a log file.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start the {name}"))?;
        Ok(Self { name, child })
    }

    /// The first line that it prints; none if it ended without one.
    pub fn first_line(&mut self) -> Option<String> {
        let mut line = String::new();
        BufReader::new(self.child.stdout.as_mut()?).read_line(&mut line).ok()?;
        Some(line).filter(|line| !line.is_empty())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        for _ in 0..STOP_POLLS_MAX {
            if self.has_ended() {
                return;
            }
            std::thread::sleep(POLL);
        }
        eprintln!("the {} did not stop when asked to; killing it", self.name);
        // It may have ended meanwhile: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
