//! `sortie run` with real processes: interrupted, killed in every part, and called again, it loses nothing and runs nothing twice.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "../support/mod.rs"]
mod support;

use sortie_testkit::programs::isolated;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sortie_testkit::processes::{children_of, is_alive};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

/// Longer than anything here takes on a busy machine.
const POLLS_MAX: u32 = 6_000;
const POLL: Duration = Duration::from_millis(50);

/// A folder with a sweep of six short trials and its images.
struct Sweep {
    folder: tempfile::TempDir,
    cache: std::path::PathBuf,
}

impl Sweep {
    fn new(steps: u64) -> Option<Self> {
        let cache = support::prerequisites()?;
        let folder = tempfile::tempdir().unwrap();
        support::copy_images(&cache.join("data/EmojiStyles"), &folder.path().join("data/Tiny"));
        fs::write(folder.path().join("tiny.toml"), support::sweep("tiny", steps, "1")).unwrap();
        Some(Self { folder, cache })
    }

    fn start(&self) -> Child {
        self.command(&[]).spawn().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command.args(["run", "tiny.toml", "--data", "data", "--devices", "cpu", "--threads", "1", "--cache"]);
        command.arg(&self.cache).args(["--output", "out"]).current_dir(self.folder.path());
        for variable in ["SORTIE_DB", "SORTIE_DATA", "SORTIE_STORE", "SORTIE_COORDINATOR"] {
            command.env_remove(variable);
        }
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// How many attempts succeeded, and for how many trials.
    fn succeeded(&self) -> (i64, i64) {
        self.counted("SELECT COUNT(*), COUNT(DISTINCT trial) FROM attempts WHERE outcome = 'succeeded'")
    }

    /// Two numbers from the database.
    fn counted(&self, sql: &'static str) -> (i64, i64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let file = self.folder.path().join("sortie.db");
            let options = SqliteConnectOptions::new().filename(file).read_only(true);
            let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
            sqlx::query_as(sql).fetch_one(&pool).await.unwrap()
        })
    }
}

/// The process of a trial that this one runs, once there is one.
fn trial_of(run: &mut Child) -> u32 {
    for _ in 0..POLLS_MAX {
        assert!(run.try_wait().unwrap().is_none(), "it ended before a trial ran");
        let is_trial = |pid: &u32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.ends_with(b"sortie-trainer\0trial\0cpu\0"))
        };
        if let Some(trial) = children_of(run.id()).unwrap().into_iter().find(is_trial) {
            return trial;
        }
        std::thread::sleep(POLL);
    }
    panic!("no trial was started");
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

fn wait_for_death(pid: u32) {
    for _ in 0..POLLS_MAX {
        if !is_alive(pid) {
            return;
        }
        std::thread::sleep(POLL);
    }
    panic!("process {pid} is left");
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn interrupted_and_killed_in_every_part_it_goes_on_and_runs_nothing_twice() {
    let Some(sweep) = Sweep::new(12) else { return };
    // Ctrl-C.
    let mut run = sweep.start();
    let trial = trial_of(&mut run);
    signal(run.id(), Signal::INT);
    let output = run.wait_with_output().unwrap();
    let (_, said) = texts(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the same command goes on"), "{said}");
    wait_for_death(trial);
    // The whole command dies; its trial must not live on.
    let mut run = sweep.start();
    let trial = trial_of(&mut run);
    signal(run.id(), Signal::KILL);
    run.wait().unwrap();
    wait_for_death(trial);
    // A trial dies, and the command goes on to the end by itself.
    let mut run = sweep.start();
    signal(trial_of(&mut run), Signal::KILL);
    let output = run.wait_with_output().unwrap();
    let (table, said) = texts(&output);
    assert!(output.status.success(), "{table}{said}");
    assert!(table.contains(" --by dropout") && table.contains("serve"), "{table}");
    assert_eq!(sweep.succeeded(), (6, 6));
    for name in ["results.json", "results.csv", "figure.svg", "figure.png"] {
        assert!(sweep.folder.path().join("out").join(name).metadata().unwrap().len() > 0, "{name}");
    }
    // Once more: everything is there.
    let output = sweep.start().wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(sweep.succeeded(), (6, 6));
}

#[test]
fn trials_whose_results_lack_files_run_again_for_them_and_once() {
    let Some(sweep) = Sweep::new(4) else { return };
    let file = sweep.folder.path().join("tiny.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let run = |words: &[&str]| {
        let output = sweep.command(words).output().unwrap();
        let (table, said) = texts(&output);
        assert!(output.status.success(), "{table}{said}");
        (table, said)
    };
    let (first, said) = run(&[]);
    assert!(!said.contains("lack"), "{said}");
    // What each trial's process wrote is in the database.
    let logged =
        "SELECT COUNT(DISTINCT token), SUM(CAST(text AS TEXT) LIKE '%evaluated after step 4: %') FROM logs";
    assert_eq!(sweep.counted(logged), (6, 6));
    let weights = || sweep.counted("SELECT COUNT(*), COUNT(key) FROM artifacts WHERE kind = 'final-weights'");
    assert_eq!(weights(), (6, 0));
    fs::write(&file, format!("{plain}[keep]\nweights = \"final\"\ncheckpoint_minutes = 1440\n")).unwrap();
    let (anyway, said) = run(&["--reuse-anyway"]);
    assert!(!said.contains("lack"), "{said}");
    assert_eq!((sweep.succeeded(), anyway == first), ((6, 6), true));
    let (again, said) = run(&[]);
    let line =
        "6 trials lack final weights: they run again; --reuse-anyway lets their results count as they are\n";
    assert!(said.contains(line), "{said}");
    assert_eq!((sweep.succeeded(), weights()), ((12, 6), (12, 6)));
    // The numbers are those of before, and nothing is lacking any more.
    assert_eq!(again, first);
    assert_eq!((run(&[]).0, sweep.succeeded()), (first, (12, 6)));
}

#[test]
fn a_second_command_joins_the_coordinator_that_serves_the_database() {
    let Some(sweep) = Sweep::new(12) else { return };
    let mut first = sweep.start();
    trial_of(&mut first);
    let second = sweep.start();
    let [first, second] = [first, second].map(|run| run.wait_with_output().unwrap());
    let (_, said) = texts(&second);
    assert!(said.contains("joining the coordinator at https://127.0.0.1:"), "{said}");
    assert!(first.status.success(), "{:?}", texts(&first));
    assert_eq!(sweep.succeeded(), (6, 6));
}

#[test]
fn what_cannot_run_here_is_one_line_and_exit_code_1() {
    let Some(sweep) = Sweep::new(12) else { return };
    let libtorch = sweep.folder.path().join("nowhere");
    let run = |words: &[&str]| {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command.args(["run", "tiny.toml", "--data", "data", "--devices", "cpu"]).args(words);
        let output = command.current_dir(sweep.folder.path()).stdin(Stdio::null()).output().unwrap();
        let (_, said) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        said.lines().last().unwrap_or_default().to_owned()
    };
    let said = run(&["--libtorch", path(&libtorch)]);
    assert!(said.starts_with("error: --libtorch: ") && said.contains("holds no libtorch_cpu.so"), "{said}");
    let said = run(&["--db", "mysql://x"]);
    assert!(said.contains("mysql:// is not supported; use sqlite://PATH"), "{said}");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
