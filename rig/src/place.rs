//! A database of its own for each measurement, and the coordinator's process on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use sortie_testbed::postgres::Postgres;
use sortie_testbed::processes::Process;

/// How long a coordinator may take to answer.
const START_MAX: Duration = Duration::from_secs(60);

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A file.
    Sqlite,
    /// A server of its own.
    Postgres,
}

/// A folder, and a server where the kind has one.
pub struct Place {
    folder: tempfile::TempDir,
    postgres: Option<Postgres>,
}

impl Place {
    /// Makes one; a Postgres server is started.
    pub fn make(kind: Kind) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let postgres = if kind == Kind::Postgres { Some(Postgres::start()?) } else { None };
        Ok(Self { folder, postgres })
    }

    /// The URL of a new database in it.
    pub fn database(&self, name: &str) -> Result<String> {
        match &self.postgres {
            Some(server) => {
                server.create_database(name)?;
                Ok(server.url(name))
            }
            None => Ok(format!("sqlite://{}", self.folder.path().join(format!("{name}.db")).display())),
        }
    }

    /// The folder on whose disk its databases lie.
    pub fn disk(&self) -> &Path {
        self.postgres.as_ref().map_or(self.folder.path(), Postgres::folder)
    }
}

/// A coordinator on a database.
pub struct Coordinator {
    process: Process,
    log: PathBuf,
    /// Where it listens.
    pub url: String,
}

impl Coordinator {
    /// Starts one and waits until it listens.
    pub fn start(program: &Path, database: &str, place: &Place) -> Result<Self> {
        let log = place.folder.path().join("coordinator.log");
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--db", database]).env("SORTIE_LOG", "warn").stdin(Stdio::null());
        let process = Process::start("coordinator", &mut command, &log)?;
        let url = process.wait_for_line("listening on ", START_MAX)?;
        Ok(Self { process, log, url })
    }

    /// What it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory that it ever held, in MiB.
    pub fn peak_memory_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// Processor time that it used so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 = [11, 12].iter().filter_map(|&field| fields.get(field)?.parse::<f64>().ok()).sum();
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }
}
