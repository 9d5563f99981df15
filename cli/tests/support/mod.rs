//! Real processes on a small real data set: some emoji of each style, copied from what `cargo xtask setup` rendered.

use sortie_testkit::programs::isolated;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const DOMAINS: [&str; 3] = ["flat", "mono", "noto"];
const CLASSES: [&str; 3] = ["activities", "food_drink", "objects"];
const IMAGES_A_CLASS: usize = 10;
/// Far longer than anything takes on a busy machine: only a hang meets it.
const PATIENCE: Duration = Duration::from_secs(300);

/// The cache that setup filled; none where it or the trainer beside our program is missing, with a line that says so, where one is missing.
pub fn prerequisites() -> Option<PathBuf> {
    let trainer = Path::new(env!("CARGO_BIN_EXE_sortie")).with_file_name("sortie-trainer");
    let xdg = || Some(PathBuf::from(std::env::var_os("XDG_CACHE_HOME")?));
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("SORTIE_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(xdg().or_else(home)?.join("sortie")))?;
    let emoji = cache.join("data/EmojiStyles");
    if trainer.exists() && emoji.exists() {
        return Some(cache);
    }
    println!(
        "skipped: needs {} and {} (`cargo xtask setup`, `cargo build`)",
        trainer.display(),
        emoji.display()
    );
    None
}

/// A temporary folder with a data set, a database and the processes of one test; all of them are killed at its end.
pub struct World {
    pub folder: tempfile::TempDir,
    cache: PathBuf,
    pub url: String,
    coordinator: Option<Child>,
}

impl World {
    pub fn new() -> Option<Self> {
        let cache = prerequisites()?;
        let folder = tempfile::tempdir().unwrap();
        copy_images(&cache.join("data/EmojiStyles"), &folder.path().join("data/Tiny"));
        let mut world = Self { folder, cache, url: String::new(), coordinator: None };
        world.start_coordinator("127.0.0.1:0");
        Some(world)
    }

    /// For sweeps of commands: without images, and with a cache of its own.
    pub fn of_commands() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let mut world = Self { folder, cache, url: String::new(), coordinator: None };
        world.start_coordinator("127.0.0.1:0");
        world
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("sortie.db")
    }

    /// Starts a coordinator on the test's database, and learns its address.
    pub fn start_coordinator(&mut self, listen: &str) {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command
            .args(["serve", "--lease", "3", "--listen", listen, "--db"])
            .arg(format!("sqlite://{}", self.database().display()));
        let mut child = command.stdout(Stdio::piped()).stderr(self.log("coordinator")).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.url = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("coordinator said {line:?}"))
            .to_owned();
        self.coordinator = Some(child);
    }

    /// SIGKILL: no code of ours runs any more.
    pub fn kill_coordinator(&mut self) {
        let mut coordinator = self.coordinator.take().unwrap();
        coordinator.kill().unwrap();
        coordinator.wait().unwrap();
    }

    /// A worker that ends when nothing is left to do.
    pub fn start_worker(&self) -> Child {
        self.start_worker_with(&["--exit-when-idle"])
    }

    /// A worker with further options.
    pub fn start_worker_with(&self, options: &[&str]) -> Child {
        self.start_worker_where(options, &[])
    }

    /// Likewise, with these variables.
    pub fn start_worker_where(&self, options: &[&str], variables: &[(&str, &str)]) -> Child {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command.envs(variables.iter().copied());
        command
            .args(["worker", "--devices", "cpu", "--threads", "1", "--coordinator", &self.url])
            .args(options);
        command.arg("--data").arg(self.data()).arg("--cache").arg(&self.cache);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log("worker")).spawn().unwrap()
    }

    fn log(&self, name: &str) -> fs::File {
        fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{name}.log")))
            .unwrap()
    }

    /// Runs `sortie` with these words against the coordinator.
    pub fn sortie(&self, words: &[&str]) -> Output {
        sortie(&[&["--coordinator", &self.url], words].concat())
    }

    /// What a command that must succeed prints, as JSON.
    pub fn json(&self, words: &[&str]) -> Value {
        let output = self.sortie(words);
        assert!(
            output.status.success(),
            "{words:?}: {}{}",
            String::from_utf8_lossy(&output.stderr),
            self.logs()
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Writes a sweep file for the small data set and submits it.
    pub fn submit(&self, name: &str, steps: u64, seeds: &str) {
        self.submit_text(name, &sweep(name, steps, seeds), &["--data", self.data().to_str().unwrap()]);
    }

    /// Writes a sweep file and submits it.
    pub fn submit_text(&self, name: &str, text: &str, options: &[&str]) {
        let file = self.folder.path().join(format!("{name}.toml"));
        fs::write(&file, text).unwrap();
        self.json(&[&["submit", file.to_str().unwrap(), "--json"], options].concat());
    }

    pub fn status(&self, sweep: &str) -> Value {
        self.json(&["status", sweep, "--json"])["sweeps"][0].clone()
    }

    /// Waits until the sweep's status is as asked.
    pub fn wait_until(&self, sweep: &str, what: &str, reached: impl Fn(&Value) -> bool) {
        let start = now();
        while !reached(&self.status(sweep)) {
            assert!(now() - start < PATIENCE, "{what} never came: {}\n{}", self.status(sweep), self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn logs(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        format!("\n--- coordinator\n{}--- worker\n{}", read("coordinator.log"), read("worker.log"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut coordinator) = self.coordinator.take() {
            let _ = coordinator.kill();
            let _ = coordinator.wait();
        }
    }
}

/// Runs `sortie` with these words and nothing of the environment that could change what it does.
pub fn sortie(words: &[&str]) -> Output {
    let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
    for variable in ["SORTIE_COORDINATOR", "SORTIE_DB", "SORTIE_LISTEN", "SORTIE_DATA", "SORTIE_STORE"] {
        command.env_remove(variable);
    }
    command.args(words).stdin(Stdio::null()).output().unwrap()
}

/// Waits for a process to end by itself.
pub fn wait(child: &mut Child, world: &World) {
    let start = now();
    while child.try_wait().unwrap().is_none() {
        assert!(now() - start < PATIENCE, "a worker hangs{}", world.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}{}", world.logs());
}

pub fn sweep(name: &str, steps: u64, seeds: &str) -> String {
    format!(
        "name = \"{name}\"\n[data]\ndataset = \"Tiny\"\npixels = 32\n[model]\nbackbone = \"efficientnet-lite0\"\n[train]\nsteps = {steps}\n\
         batch_per_domain = 2\nevaluate_every = 4\n[grid]\ndropout = [0.0, 0.5]\nlr = 1e-3\nweight_decay = 1e-4\nseeds = {seeds}\n"
    )
}

pub fn copy_images(from: &Path, to: &Path) {
    for domain in DOMAINS {
        for class in CLASSES {
            let mut files: Vec<_> = fs::read_dir(from.join(domain).join(class))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            let folder = to.join(domain).join(class);
            fs::create_dir_all(&folder).unwrap();
            for file in &files[..IMAGES_A_CLASS] {
                fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    fs::write(to.join("dataset.toml"), "group = \"stem\"\n").unwrap();
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test that waits for real processes needs a limit in real time"
)]
fn now() -> Instant {
    Instant::now()
}
