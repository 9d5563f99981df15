//! A database of its own for each measurement, and the coordinator's process on it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sortie_testkit::postgres::Postgres;
use sortie_testkit::processes::{Process, Signal};

/// How long a coordinator may take to answer.
const START_MAX: Duration = Duration::from_secs(60);
/// How long one may take to stop when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A file.
    Sqlite,
    /// A server of its own.
    Postgres,
}

/// A folder, and a server where the kind has one.
#[derive(Debug)]
pub struct Place {
    /// Declared first, so that the server ends before its place is gone.
    postgres: Option<Postgres>,
    folder: tempfile::TempDir,
}

impl Place {
    /// Makes one; a Postgres server is started.
    ///
    /// # Errors
    /// When the system has no folder to give, or no server.
    pub fn make(kind: Kind) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("sortie-lab-").tempdir().context("cannot make a folder")?;
        let postgres = if kind == Kind::Postgres { Some(Postgres::start()?) } else { None };
        Ok(Self { postgres, folder })
    }

    /// The URL of a new database in it.
    ///
    /// # Errors
    /// When the server does not make it.
    pub fn database(&self, name: &str) -> Result<String> {
        match &self.postgres {
            Some(server) => {
                server.create_database(name)?;
                Ok(server.url(name))
            }
            None => Ok(format!("sqlite://{}", self.folder.path().join(format!("{name}.db")).display())),
        }
    }

    /// The folder for logs and the like.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is when this is dropped.
    pub fn keep(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// The database's server, where there is one.
    pub fn server(&mut self) -> Option<&mut Postgres> {
        self.postgres.as_mut()
    }

    /// The folder on whose disk its databases lie.
    pub fn disk(&self) -> &Path {
        self.postgres.as_ref().map_or(self.folder.path(), Postgres::folder)
    }
}

/// How a coordinator is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program `sortie`.
    pub program: PathBuf,
    /// The database's URL.
    pub database: String,
    /// Where it listens; 0 for any port.
    pub port: u16,
    /// The lease that it gives, in seconds; its own default if none.
    pub lease_seconds: Option<u64>,
    /// A variable for it and everything that it starts: name and value.
    pub mark: Option<(String, String)>,
    /// Where it writes its log.
    pub log: PathBuf,
}

/// A program of ours without the settings of whoever runs this.
pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SORTIE_")) {
        command.env_remove(name);
    }
    command
}

/// The most memory that a process ever held, in MiB.
pub(crate) fn peak_memory_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// A coordinator on a database. It ends with this process, however that ends.
#[derive(Debug)]
pub struct Coordinator {
    process: Process,
    /// Where it listens.
    pub url: String,
}

impl Coordinator {
    /// Starts one on any port with a log of its own, and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: &Path, database: &str, place: &Place) -> Result<Self> {
        let log = place.folder().join("coordinator.log");
        let _ = std::fs::remove_file(&log);
        let (program, database) = (program.to_owned(), database.to_owned());
        Self::launch(&Launch { program, database, port: 0, lease_seconds: None, mark: None, log })
    }

    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn launch(launch: &Launch) -> Result<Self> {
        let Launch { program, database, port, lease_seconds, mark, log } = launch;
        let mut command = clean(program);
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        command.args(["serve", "--stop-on-stdin-close", "--listen", &listen.to_string(), "--db", database]);
        if let Some(seconds) = lease_seconds {
            command.args(["--lease", &seconds.to_string()]);
        }
        command.env("SORTIE_LOG", "warn").envs(mark.iter().map(|(name, value)| (name, value)));
        let process = Process::start("coordinator", &mut command, log)?;
        let url = process.wait_for_line("listening on ", START_MAX)?;
        Ok(Self { process, url })
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it has ended before.
    pub fn kill(self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// When it does not, or has ended before.
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

    /// The most memory that it ever held, in MiB.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn peak_memory_mib(&self) -> Result<f64> {
        peak_memory_mib(self.process.pid())
    }

    /// Processor time that it used so far, in seconds.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 = [11, 12].iter().filter_map(|&field| fields.get(field)?.parse::<f64>().ok()).sum();
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }
}
