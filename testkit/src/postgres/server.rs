//! Starts, kills and restarts one server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::installation::{Installation, USER, run};
use crate::processes::{self, Process, Signal};
use crate::{ports, programs, wait};

/// Far longer than a start or a recovery takes on a busy machine: only a hang reaches it.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The same for an end.
const END_LIMIT: Duration = Duration::from_secs(60);
/// How often a server that ends at once is started again: another process may have taken its port.
const START_TRIES_MAX: u32 = 5;
/// Between two tries on the same port, so that another process has time to free it.
const TRY_PAUSE: Duration = Duration::from_millis(200);

/// A server with its data in a temporary folder. Dropping it kills the server and removes the folder.
#[derive(Debug)]
pub struct Postgres {
    installation: Installation,
    port: u16,
    /// Settings beside those of every server, by [`Self::configure`].
    settings: Vec<String>,
    /// None while the server is down.
    running: Option<Running>,
    /// Declared last, so that it is removed last.
    folder: TempDir,
}

#[derive(Debug)]
struct Running {
    watchdog: Process,
    /// The first of the server's processes, which starts all others.
    postmaster: u32,
}

impl Postgres {
    /// Whether there is a PostgreSQL server to start; a test that needs one and finds none says so and ends.
    pub fn is_installed() -> bool {
        programs::find_server("initdb").is_some()
    }

    /// Makes an empty server and waits until it accepts connections.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or the server does not start.
    pub fn start() -> Result<Self> {
        let installation = Installation::find()?;
        let folder = tempfile::Builder::new()
            .prefix("sortie-postgres-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        installation.make_data(folder.path())?;
        let mut postgres = Self { installation, port: 0, settings: Vec::new(), running: None, folder };
        for _ in 0..START_TRIES_MAX {
            postgres.port = ports::free()?;
            postgres.running = postgres.launch()?;
            if postgres.running.is_some() {
                return Ok(postgres);
            }
        }
        bail!("PostgreSQL does not start: {}", postgres.last_words())
    }

    /// The address of the server, also after a restart.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL by which a client connects to a database. `postgres` is always there.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{database}", self.address())
    }

    /// The folder of the data, the log and the Unix socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// When the server is down, or has a database of that name.
    pub fn create_database(&self, name: &str) -> Result<()> {
        let mut createdb = self.installation.client("createdb", self.port);
        createdb.args(["--", name]);
        run(createdb).with_context(|| format!("cannot make database {name:?}"))
    }

    /// Stops the server and starts it again with these settings, such as `("fsync", "off")`, instead of those by an earlier call.
    ///
    /// # Errors
    /// When it is down, or does not start with them.
    pub fn configure(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        self.stop()?;
        self.settings = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.restart()
    }

    /// Makes a file the server's own, which nobody else may read: what it asks of the key of its certificate.
    ///
    /// # Errors
    /// What the system says.
    pub fn own_secret(&self, file: &Path) -> Result<()> {
        self.installation.own(file)?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("cannot protect {}", file.display()))
    }

    /// A crash: SIGKILL for all of the server's processes, which are dead when this returns. What was committed is on disk.
    ///
    /// # Errors
    /// When it is down already, or does not die.
    pub fn kill(&mut self) -> Result<()> {
        let running = self.running.take().context("PostgreSQL is down already; it cannot be killed")?;
        running.kill()
    }

    /// Shuts down without waiting for clients: their transactions are rolled back.
    ///
    /// # Errors
    /// When it is down already, or does not end.
    pub fn stop(&mut self) -> Result<()> {
        let running = self.running.take().context("PostgreSQL is down already; it cannot be stopped")?;
        processes::signal(running.postmaster, Signal::INT)?;
        running.wait_for_end()
    }

    /// Starts the server again after [`Self::kill`] or [`Self::stop`], on the same port, with the same data.
    ///
    /// # Errors
    /// When it is not down, or does not start.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "PostgreSQL is running; stop() or kill() it before restart()");
        for _ in 0..START_TRIES_MAX {
            self.running = self.launch()?;
            if self.running.is_some() {
                return Ok(());
            }
            std::thread::sleep(TRY_PAUSE);
        }
        bail!("PostgreSQL does not start again on port {}: {}", self.port, self.last_words())
    }

    /// Starts the server and waits until it accepts connections; none if it ends before.
    fn launch(&self) -> Result<Option<Running>> {
        let mut command = self.installation.server(self.folder(), self.port, &self.settings);
        let watchdog = Process::start("PostgreSQL server", &mut command, &self.log())?;
        let postmaster = watchdog.wait_for_line("server ", START_LIMIT)?;
        let postmaster = postmaster.parse().with_context(|| format!("{postmaster:?} is no process id"))?;
        let accepts = wait::for_some(START_LIMIT, || {
            let alive = processes::is_alive(postmaster);
            let ready = alive && self.is_ready(postmaster);
            (ready || !alive).then_some(ready)
        });
        match accepts {
            Some(true) => Ok(Some(Running { watchdog, postmaster })),
            Some(false) => Ok(None),
            None => {
                bail!("PostgreSQL did not accept connections within {START_LIMIT:?}: {}", self.last_words())
            }
        }
    }

    /// Whether the server's own file says that it is ready. A connection to its port could reach another server.
    fn is_ready(&self, postmaster: u32) -> bool {
        let lines = self.lock_file();
        lines.first() == Some(&postmaster.to_string()) && lines.get(7).is_some_and(|state| state == "ready")
    }

    /// The lines of `postmaster.pid`: process id, folder, start, port, socket, address, shared memory, state.
    fn lock_file(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder().join("data/postmaster.pid")).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// The id of the System V segment by which a server notices that another one uses its data.
    fn shared_memory(&self) -> Option<String> {
        self.lock_file().get(6)?.split_whitespace().nth(1).map(str::to_owned)
    }

    fn log(&self) -> PathBuf {
        self.folder().join("server.log")
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let fatal = log.lines().rfind(|line| line.contains("FATAL"));
        fatal.map_or_else(|| processes::last_line(&log), |line| line.trim().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // If that fails, end the watchdog and its group.
            let _ = running.kill();
        }
        // A killed server does not remove its shared memory, and the system has only a few thousand segments. A stopped one did.
        if let Some(segment) = self.shared_memory() {
            let mut ipcrm = Command::new("ipcrm");
            let _ = ipcrm
                .args(["--shmem-id", &segment])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Running {
    fn kill(self) -> Result<()> {
        // A stopped postmaster starts no more processes, and does not react to the first that dies.
        processes::signal(self.postmaster, Signal::STOP)?;
        let stopped = || processes::is_stopped(self.postmaster) || !processes::is_alive(self.postmaster);
        ensure!(wait::until(END_LIMIT, stopped), "PostgreSQL's process {} does not stop", self.postmaster);
        let others = processes::children_of(self.postmaster)?;
        for pid in others.iter().chain([&self.postmaster]) {
            processes::signal(*pid, Signal::KILL)?;
        }
        let gone = || !others.iter().any(|pid| processes::is_alive(*pid));
        ensure!(wait::until(END_LIMIT, gone), "PostgreSQL's processes {others:?} do not die");
        self.wait_for_end()
    }

    /// Waits for the end of the first process, which stays a zombie until the watchdog reaps it after a signal.
    fn wait_for_end(mut self) -> Result<()> {
        let gone = || !processes::is_alive(self.postmaster);
        ensure!(wait::until(END_LIMIT, gone), "PostgreSQL's process {} does not end", self.postmaster);
        self.watchdog.say("ended")?;
        self.watchdog.wait_for_end(END_LIMIT)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    /// The other half of the last test, which runs it in a process of its own and sets this variable.
    const CHILD: &str = "postgres::server::tests::starts_one_and_waits_to_be_killed";
    const IS_CHILD: &str = "SORTIE_TESTBED_IS_CHILD";

    /// None, with a line that says so, where there is no PostgreSQL. `cargo xtask test` requires one.
    fn start() -> Option<Postgres> {
        if !Postgres::is_installed() {
            println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
            return None;
        }
        Some(Postgres::start().unwrap())
    }

    impl Postgres {
        fn psql(&self, database: &str, sql: &str) -> String {
            let mut psql = self.installation.client("psql", self.port);
            let output = psql
                .args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", sql, database])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        }

        /// A client whose server process computes and would not notice for a long time that the others are dead.
        fn busy_client(&self) -> Process {
            let mut psql = self.installation.client("psql", self.port);
            psql.args(["--no-psqlrc", "--command", "DO $$ BEGIN LOOP END LOOP; END $$", "postgres"]);
            let client = Process::start("client", &mut psql, &self.folder().join("client.log")).unwrap();
            let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'";
            assert!(wait::until(START_LIMIT, || self.psql("postgres", count) == "1"), "{}", client.written());
            client
        }

        fn pids(&self) -> Vec<u32> {
            let postmaster = self.running.as_ref().unwrap().postmaster;
            [vec![postmaster], processes::children_of(postmaster).unwrap()].concat()
        }
    }

    fn is_shared_memory(segment: &str) -> bool {
        let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        segments.lines().any(|line| line.split_whitespace().nth(1) == Some(segment))
    }

    #[test]
    fn what_was_committed_survives_a_crash_and_a_stop() {
        let Some(mut postgres) = start() else { return };
        postgres.create_database("sweeps").unwrap();
        let error = format!("{:#}", postgres.create_database("sweeps").unwrap_err());
        assert!(
            error.contains("cannot make database \"sweeps\"") && error.contains("already exists"),
            "{error}"
        );
        postgres.psql("sweeps", "CREATE TABLE trials (id int)");
        postgres.psql("sweeps", "INSERT INTO trials SELECT generate_series(1, 1000)");
        assert_eq!(postgres.psql("sweeps", "SHOW fsync"), "on");

        let busy = postgres.busy_client();
        let (url, pids) = (postgres.url("sweeps"), postgres.pids());
        postgres.kill().unwrap();
        drop(busy);
        assert!(!pids.iter().any(|pid| processes::is_alive(*pid)));
        assert!(TcpStream::connect(postgres.address()).is_err());
        assert!(postgres.kill().unwrap_err().to_string().contains("is down already"));

        postgres.restart().unwrap();
        assert_eq!(postgres.url("sweeps"), url);
        assert_eq!(postgres.psql("sweeps", "SELECT count(*) FROM trials"), "1000");
        let log = fs::read_to_string(postgres.log()).unwrap();
        assert!(log.contains("was not properly shut down"), "{log}");

        assert!(postgres.restart().unwrap_err().to_string().contains("is running"));
        postgres.stop().unwrap();
        let taken = TcpListener::bind(postgres.address()).unwrap();
        assert!(postgres.launch().unwrap().is_none());
        assert!(postgres.last_words().contains("FATAL"), "{}", postgres.last_words());
        drop(taken);
        postgres.restart().unwrap();
        assert_eq!(postgres.psql("sweeps", "SELECT count(*) FROM trials"), "1000");
    }

    #[test]
    fn several_run_side_by_side_and_leave_nothing() {
        let (Some(mut first), Some(second)) = thread::scope(|scope| {
            let (first, second) = (scope.spawn(start), scope.spawn(start));
            (first.join().unwrap(), second.join().unwrap())
        }) else {
            return;
        };
        assert_ne!(first.address(), second.address());
        first.create_database("mine").unwrap();
        second.create_database("mine").unwrap();
        let pids = [first.pids(), second.pids()].concat();
        let folders = [first.folder().to_owned(), second.folder().to_owned()];
        let segments = [first.shared_memory().unwrap(), second.shared_memory().unwrap()];
        assert!(segments.iter().all(|segment| is_shared_memory(segment)), "{segments:?}");
        first.kill().unwrap();
        drop((first, second));
        assert!(!pids.iter().any(|pid| processes::is_alive(*pid)));
        assert!(!folders.iter().any(|folder| folder.exists()));
        assert!(!segments.iter().any(|segment| is_shared_memory(segment)), "{segments:?}");
    }

    #[test]
    fn starts_one_and_waits_to_be_killed() {
        if std::env::var_os(IS_CHILD).is_none() {
            return;
        }
        let postgres = Postgres::start().unwrap();
        // The test runner's line is not complete.
        println!("\nfolder {}", postgres.folder().display());
        println!("postmaster {}", postgres.running.as_ref().unwrap().postmaster);
        thread::sleep(START_LIMIT);
    }

    #[test]
    fn it_dies_with_the_process_that_started_it() {
        if !Postgres::is_installed() {
            println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "--nocapture", CHILD]).env(IS_CHILD, "yes");
        let test = Process::start("test", &mut test, &folder.path().join("log")).unwrap();
        let data = PathBuf::from(test.wait_for_line("folder ", START_LIMIT).unwrap());
        let postmaster = test.wait_for_line("postmaster ", START_LIMIT).unwrap().parse().unwrap();
        assert!(data.exists() && processes::is_alive(postmaster));
        let segment = fs::read_to_string(data.join("data/postmaster.pid")).unwrap();
        let segment = segment.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap();
        test.kill().unwrap();
        assert!(wait::until(END_LIMIT, || !processes::is_alive(postmaster) && !data.exists()));
        assert!(!is_shared_memory(segment));
    }
}
