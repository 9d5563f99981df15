//! A coordinator on a port that stays, and workers that run on when it is gone.

use sortie_testkit::programs::isolated;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sortie_testkit::postgres::Postgres;
use sqlx::Connection as _;

/// Trials of the sweep.
pub const TRIALS: u64 = 16;
/// Far longer than anything takes on a busy machine: only a hang meets it.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Where a database is.
pub enum Place {
    File,
    Server(Box<Postgres>, &'static str),
}

impl Place {
    pub fn file() -> Self {
        Self::File
    }

    pub fn server(server: Postgres, name: &'static str) -> Self {
        server.create_database(name).unwrap();
        Self::Server(Box::new(server), name)
    }
}

/// The processes of one test and their folder; all of them are killed at its end.
pub struct Cluster {
    folder: tempfile::TempDir,
    place: Place,
    /// How often it was restored.
    restores: usize,
    listen: String,
    coordinator: Option<Child>,
    workers: Vec<Child>,
}

impl Cluster {
    /// Starts a coordinator on an empty database.
    pub fn start(place: Place) -> Self {
        let (folder, listen) = (tempfile::tempdir().unwrap(), "127.0.0.1:0".to_owned());
        let mut cluster = Self { folder, place, restores: 0, listen, coordinator: None, workers: Vec::new() };
        cluster.start_coordinator();
        cluster
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The file of the database.
    pub fn file(&self) -> PathBuf {
        let name =
            if self.restores == 0 { "sortie.db".to_owned() } else { format!("restored{}.db", self.restores) };
        self.folder.path().join(name)
    }

    fn database(&self) -> String {
        match &self.place {
            Place::File => format!("sqlite://{}", self.file().display()),
            Place::Server(server, name) => server.url(name),
        }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.listen)
    }

    /// The port that the first one took is the port of all.
    fn start_coordinator(&mut self) {
        let mut command = program();
        command.args(["serve", "--lease", "3", "--listen", &self.listen, "--db", &self.database()]);
        command.arg("--store").arg(self.folder.path().join("artifacts"));
        let mut child = command.stdout(Stdio::piped()).stderr(self.log("coordinator")).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on https://");
        self.listen =
            address.unwrap_or_else(|| panic!("{line:?} {}", self.read_log("coordinator"))).to_owned();
        self.coordinator = Some(child);
    }

    pub fn kill_coordinator(&mut self) {
        let mut coordinator = self.coordinator.take().unwrap();
        coordinator.kill().unwrap();
        coordinator.wait().unwrap();
    }

    /// Waits for the coordinator to end by itself: its exit code, and what it said.
    pub fn coordinator_ended(&mut self) -> (Option<i32>, String) {
        let mut coordinator = self.coordinator.take().unwrap();
        let begun = now();
        let status = loop {
            if let Some(status) = coordinator.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = coordinator.kill();
                panic!("the coordinator goes on: {}", self.read_log("coordinator"));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        (status.code(), self.read_log("coordinator"))
    }

    /// Makes another database of a backup, and serves it on the same port.
    pub fn restore(&mut self, backup: &Path, place: Place) {
        (self.place, self.restores) = (place, self.restores + 1);
        let said = self.sortie(&["restore", backup.to_str().unwrap(), "--db", &self.database()]);
        assert!(said.contains("1 sweeps with 16 trials"), "{said}");
        self.start_coordinator();
    }

    /// Submits the sweep.
    pub fn submit(&self) {
        let program = env!("CARGO_BIN_EXE_sortie");
        let text = format!(
            "name = \"made-up\"\n[run]\ncommand = [{program:?}, \"synthetic\"]\nsteps = 20\n\
             [grid]\nheld_out = [\"a\", \"b\"]\ndropout = [0.0, 0.5]\nseeds = 4\n"
        );
        let file = self.folder.path().join("sweep.toml");
        fs::write(&file, text).unwrap();
        self.sortie(&["submit", file.to_str().unwrap()]);
    }

    /// Starts a worker, at which a trial takes so long. That changes no number.
    pub fn add_worker(&mut self, seconds: &str, options: &[&str]) {
        let mut command = program();
        command.env("SORTIE_SYNTHETIC_SECONDS", seconds);
        command
            .args(["worker", "--devices", "cpu", "--allow-commands", "--coordinator", &self.url()])
            .args(options);
        command.arg("--cache").arg(self.folder.path().join("cache"));
        self.workers.push(command.stdout(Stdio::null()).stderr(self.log("worker")).spawn().unwrap());
    }

    /// Waits until all workers have ended by themselves.
    pub fn wait_for_workers(&mut self) {
        for mut worker in std::mem::take(&mut self.workers) {
            assert!(worker.wait().unwrap().success(), "{}", self.worker_log());
        }
    }

    pub fn wait_until(&self, what: &str, reached: impl Fn(&Value) -> bool) {
        let begun = now();
        loop {
            let status = self.json(&["status", "made-up", "--json"])["sweeps"][0].clone();
            if reached(&status) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{what} never came: {status}{}{}",
                self.worker_log(),
                self.read_log("coordinator")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn succeeded(&self) -> u64 {
        self.json(&["status", "made-up", "--json"])["sweeps"][0]["succeeded"].as_u64().unwrap()
    }

    /// The results, to the last digit.
    pub fn table(&self) -> String {
        self.sortie(&["results", "made-up", "--by", "dropout", "--format", "csv"])
    }

    /// The token of an attempt that runs.
    pub fn running_token(&self) -> i64 {
        let begun = now();
        loop {
            let sql = "SELECT MAX(holder) FROM trials WHERE state = 'running'";
            if let Some(token) = self.number(sql) {
                return token;
            }
            assert!(begun.elapsed() < PATIENCE, "no trial runs");
        }
    }

    pub fn incarnation(&self) -> i64 {
        self.number("SELECT MAX(number) FROM incarnation").unwrap()
    }

    /// What attempts reported under a token.
    pub fn stored_under(&self, token: i64) -> i64 {
        self.number(&format!("SELECT COUNT(*) FROM training_losses WHERE token = {token} AND loss = 9.0"))
            .unwrap()
    }

    /// What the database answers, beside its coordinator.
    fn number(&self, sql: &str) -> Option<i64> {
        let (url, sql) = (self.database(), sqlx::AssertSqlSafe(sql.to_owned()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            match &self.place {
                Place::File => {
                    let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
                    let number = sqlx::query_scalar(sql).fetch_one(&mut file).await.unwrap();
                    file.close().await.unwrap();
                    number
                }
                Place::Server(..) => {
                    let mut server = sqlx::PgConnection::connect(&url).await.unwrap();
                    sqlx::query_scalar(sql).fetch_one(&mut server).await.unwrap()
                }
            }
        })
    }

    fn run(&self, words: &[&str]) -> Output {
        program().args(["--coordinator", &self.url()]).args(words).stdin(Stdio::null()).output().unwrap()
    }

    /// What a command that must succeed prints.
    pub fn sortie(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}{}", self.read_log("coordinator"));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.sortie(words)).unwrap()
    }

    /// What a command says that must be refused.
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn log(&self, name: &str) -> File {
        File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{name}.log")))
            .unwrap()
    }

    fn read_log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    pub fn worker_log(&self) -> String {
        self.read_log("worker")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for mut child in self.workers.drain(..).chain(self.coordinator.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The program, without the settings of whoever runs the tests.
fn program() -> Command {
    let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SORTIE_") {
            command.env_remove(name);
        }
    }
    command
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test that waits for real processes needs a limit in real time"
)]
pub fn now() -> Instant {
    Instant::now()
}
