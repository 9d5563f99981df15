//! A coordinator's process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sortie_access::{Place, State, Target};
use sortie_core::access::Role;
use sortie_testkit::processes::{Process, Signal};
use sortie_testkit::programs;

use crate::environment::Environment;

/// How long a coordinator may take to answer.
const START_MAX: Duration = Duration::from_secs(60);
/// How long one may take to stop after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How a coordinator is started.
#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// The program `sortie`.
    pub program: PathBuf,
    /// The database's URL.
    pub database: String,
    /// Whether its connections are neither encrypted nor authenticated.
    pub insecure: bool,
    /// The port that it listens on; 0 for any free port.
    pub port: u16,
    /// The duration of its leases in seconds; none for its own default.
    pub lease_seconds: Option<u64>,
    /// An environment variable for it and all processes that it starts: name and value.
    pub variable: Option<(String, String)>,
    /// The log file.
    pub log: PathBuf,
}

/// A coordinator on a database. It ends with this process, however this process ends.
#[derive(Debug)]
pub struct Coordinator {
    process: Process,
    /// The address that it listens on.
    pub url: String,
}

impl Coordinator {
    /// Starts one on any free port with a new log file, and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: &Path, database: &str, environment: &Environment) -> Result<Self> {
        Self::start_as(program, database, environment, false)
    }

    /// The same, perhaps one whose connections are neither encrypted nor authenticated.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_as(
        program: &Path,
        database: &str,
        environment: &Environment,
        insecure: bool,
    ) -> Result<Self> {
        let log = environment.folder().join("coordinator.log");
        // There is none yet at the first start.
        let _ = std::fs::remove_file(&log);
        let (program, database) = (program.to_owned(), database.to_owned());
        let (lease_seconds, variable) = (None, None);
        Self::launch(&LaunchOptions { program, database, insecure, port: 0, lease_seconds, variable, log })
    }

    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn launch(options: &LaunchOptions) -> Result<Self> {
        let LaunchOptions { program, database, insecure, port, lease_seconds, variable, log } = options;
        let mut command = without_settings(program);
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        command.args(["serve", "--stop-on-stdin-close", "--listen", &listen.to_string(), "--db", database]);
        if *insecure {
            command.arg("--insecure");
        }
        if let Some(seconds) = lease_seconds {
            command.args(["--lease", &seconds.to_string()]);
        }
        command.env("SORTIE_LOG", "warn").envs(variable.iter().map(|(name, value)| (name, value)));
        let process = Process::start("coordinator", &mut command, log)?;
        let url = process.wait_for_line("listening on ", START_MAX)?;
        Ok(Self { process, url })
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// When it has ended before.
    pub fn kill(self) -> Result<()> {
        self.process.kill()
    }

    /// Stops it with SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it does not stop, or has ended before.
    pub fn stop(self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        self.process.wait_for_end(STOP_MAX).map(|_| ())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// What it printed.
    pub fn log(&self) -> String {
        self.process.written()
    }

    /// The peak of its memory, in MiB.
    ///
    /// # Errors
    /// When the system does not report it.
    pub fn peak_memory_mib(&self) -> Result<f64> {
        peak_memory_mib(self.process.pid())
    }

    /// The processor time that it has used, in seconds.
    ///
    /// # Errors
    /// When the system does not report it.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 = [11, 12].iter().filter_map(|&field| fields.get(field)?.parse::<f64>().ok()).sum();
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }
}

/// How a coordinator of ours at this URL is reached: all have one identity, and what it proves and allows is in the lab's own state folder.
pub(crate) fn target(url: &str) -> Result<Target> {
    let Place { address, is_encrypted } = url.parse()?;
    if !is_encrypted {
        return Ok(Target::insecure(address));
    }
    let identity = State::new(programs::state_home().join("sortie")).identity_or_new()?;
    Ok(identity.target(Role::Operator, address)?)
}

/// A program of ours without the `SORTIE_` variables, the identity and the access files of whoever runs this.
pub(crate) fn without_settings(program: &Path) -> Command {
    let mut command = programs::isolated(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SORTIE_")) {
        command.env_remove(name);
    }
    command
}

/// The peak of a process's memory, in MiB.
pub(crate) fn peak_memory_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
