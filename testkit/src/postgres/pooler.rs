//! PgBouncer, a pooler of sessions, in front of a server.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::Postgres;
use super::account::Account;
use super::installation::{USER, WATCHDOG};
use crate::processes::{self, Process};
use crate::{ports, programs, wait};

/// Far longer than a start takes on a busy machine: only a hang reaches it.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often one that ends at once is started again: another process may have taken its port.
const START_TRIES_MAX: u32 = 5;

/// When a session is given to another connection.
#[derive(Clone, Copy, Debug)]
pub enum PoolMode {
    /// When the connection ends.
    Session,
    /// After each transaction.
    Transaction,
    /// After each statement.
    Statement,
}

impl fmt::Display for PoolMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        })
    }
}

/// A pooler with its settings in a temporary folder. Dropping it kills it and removes the folder.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    process: Process,
    /// Declared last, so that it is removed last.
    _folder: TempDir,
}

impl PgBouncer {
    /// Whether there is a PgBouncer to start; a test that needs one and finds none says so and ends.
    pub fn is_installed() -> bool {
        programs::find_server("pgbouncer").is_some()
    }

    /// Starts one with so many sessions for each database of the server. `ignored` are the parameters of a session's start that it drops
    /// instead of refusing them.
    ///
    /// # Errors
    /// When PgBouncer is not installed, or does not start.
    pub fn start(server: &Postgres, mode: PoolMode, pool_size: u32, ignored: &str) -> Result<Self> {
        let program = programs::find_server("pgbouncer");
        let program = program
            .context("there is no PgBouncer on this machine; get one with: apt-get install pgbouncer")?;
        let account = Account::needed()?;
        for _ in 0..START_TRIES_MAX {
            let folder = tempfile::Builder::new().prefix("sortie-pgbouncer-").tempdir();
            let folder = folder.context("cannot make a temporary folder")?;
            let (port, file) = (ports::free()?, folder.path().join("pgbouncer.ini"));
            let settings = settings(server.address(), port, mode, pool_size, ignored);
            fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))?;
            let mut command = Command::new("sh");
            command.args(["-c", WATCHDOG, "sh"]).arg(folder.path()).arg(&program).arg(&file);
            command.current_dir(folder.path());
            if let Some(account) = account {
                account.own(folder.path())?;
                account.apply(&mut command);
            }
            let process = Process::start("PgBouncer", &mut command, &folder.path().join("log"))?;
            let pid = process.wait_for_line("server ", START_LIMIT)?;
            let pid = pid.parse().with_context(|| format!("{pid:?} is no process id"))?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let answers = wait::for_some(START_LIMIT, || {
                let answers =
                    process.written().contains("listening on") && TcpStream::connect(address).is_ok();
                (answers || !processes::is_alive(pid)).then_some(answers)
            });
            match answers {
                Some(true) => return Ok(Self { port, process, _folder: folder }),
                Some(false) => {}
                None => bail!("PgBouncer does not answer: {}", processes::last_line(&process.written())),
            }
        }
        bail!("PgBouncer does not start")
    }

    /// The URL by which a client connects to a database of the server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.written()
    }
}

fn settings(server: SocketAddr, port: u16, mode: PoolMode, pool_size: u32, ignored: &str) -> String {
    format!(
        "[databases]\n\
         * = host={} port={} user={USER}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = {mode}\n\
         default_pool_size = {pool_size}\n\
         ignore_startup_parameters = {ignored}\n",
        server.ip(),
        server.port()
    )
}
