//! The real program, and trials for it.

use sortie_testkit::programs::isolated;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use sortie_core::command::CommandSettings;
use sortie_core::finetune::{Backbone, FinetunePoint, Settings};
use sortie_core::parameters::{Parameters, Scalar};
use sortie_core::trial::{DatasetSpec, Layout, MissingClasses, Point, SplitBy, TrialSpec, Work};

use crate::fake::eventually;

/// What a worker printed, but for the line that says which libtorch it found.
pub fn without_libtorch(stderr: &str) -> String {
    let lines = stderr.lines().filter(|line| !line.contains("INFO libtorch"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// A worker process with folders of its own. Killed when dropped.
pub struct Worker {
    pub child: Child,
    folder: PathBuf,
}

impl Worker {
    /// Starts `sortie worker` against this coordinator, on the CPU.
    pub fn start(folder: &Path, url: &str, arguments: &[&str]) -> Self {
        Self::start_in(Path::new("."), folder, url, arguments)
    }

    /// Likewise, in this working directory.
    pub fn start_in(working: &Path, folder: &Path, url: &str, arguments: &[&str]) -> Self {
        // The tests themselves may run below `nohup`.
        Self::start_below(&["env", "--default-signal=HUP"], working, folder, url, arguments)
    }

    /// Likewise, started by these words.
    pub fn start_below(words: &[&str], working: &Path, folder: &Path, url: &str, arguments: &[&str]) -> Self {
        let stderr = fs::File::create(folder.join("stderr")).unwrap();
        let mut command = without_settings(Command::new(words[0]));
        command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_sortie")).current_dir(working);
        command.args(["worker", "--devices", "cpu", "--threads", "1", "--coordinator", url]);
        // Programs for tests note in it what was acknowledged.
        command.env("SORTIE_JOURNAL", folder.join("journal"));
        command.arg("--data").arg(folder.join("data")).arg("--cache").arg(folder.join("cache"));
        let child = command.args(arguments).stdin(Stdio::piped()).stderr(stderr).spawn().unwrap();
        Self { child, folder: folder.to_owned() }
    }

    pub fn stderr(&self) -> String {
        without_libtorch(&fs::read_to_string(self.folder.join("stderr")).unwrap())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the worker's end", || self.child.try_wait().unwrap()).await
    }

    /// The process of its trial, once there is one.
    pub async fn trial(&self) -> u32 {
        eventually("a trial's process", || trial_processes(self.child.id()).first().copied()).await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, without the settings of whoever runs the tests.
pub fn command() -> Command {
    without_settings(isolated(env!("CARGO_BIN_EXE_sortie")))
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SORTIE_") {
            command.env_remove(name);
        }
    }
    // The coordinators of these tests are fakes that prove nothing.
    command.env("SORTIE_INSECURE", "1").stdout(Stdio::null());
    command
}

/// The processes that an agent runs trials in.
fn trial_processes(agent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|&pid| parent(pid) == Some(agent) && is_trial(pid)).collect()
}

pub fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether this process lives; false for one that is dead and not collected yet.
pub fn is_alive(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// The process whose id a trial wrote into this file, once it has.
pub async fn process_in(file: &Path) -> u32 {
    eventually("a process", || fs::read_to_string(file).ok()?.trim().parse().ok()).await
}

/// Whether this process runs a trial; false for one that is dead and not collected yet, whose command line is empty.
pub fn is_trial(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"sortie-trainer\0trial\0cpu\0"))
}

pub async fn wait_for_death(pid: u32) {
    eventually("the end of the trial's process", || (!is_trial(pid)).then_some(())).await;
}

/// A trial on a dataset of this name; the seed makes it another one.
pub fn spec(dataset: &str, seed: u64) -> TrialSpec {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (name, split_by) = (dataset.to_owned(), SplitBy::Image);
    let dataset = DatasetSpec {
        name,
        domains: words("ink oil"),
        classes: words("bars discs"),
        split_by,
        layout: Layout::default(),
        missing_classes: MissingClasses::default(),
    };
    let settings = Settings {
        pixels: 32,
        steps: 20,
        batch_per_domain: 2,
        evaluate_every: 10,
        milestones: Vec::new(),
        ..Settings::reference(dataset, Backbone::EfficientNetLite0)
    };
    let (held_out, lr, weight_decay) = (words("oil"), 1e-3, 1e-4);
    let point =
        FinetunePoint { held_out, dropout: 0.0, lr, weight_decay, head_lr_factor: 1.0, seed, split_seed: 0 };
    TrialSpec { work: Work::Finetune(settings), point: (&point).into(), combination: None }
}

/// A trial that runs this script in a shell, whose braces stand for themselves.
pub fn shell(script: &str, domains: &[&str], steps: Option<u64>) -> TrialSpec {
    command_trial(&["/bin/sh", "-c", &script.replace('{', "{{").replace('}', "}}")], domains, steps)
}

/// A trial that runs this command, with placeholders.
pub fn command_trial(command: &[&str], domains: &[&str], steps: Option<u64>) -> TrialSpec {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    let settings =
        CommandSettings { command, dataset: Some("Any".into()), domains, steps, complete_at: None };
    let parameters = Parameters::from([("lr".to_owned(), Scalar::Number(1e-3.into()).with_written("1e-3"))]);
    let point = Point { held_out: vec!["oil".into()], parameters, seed: 7, split_seed: 0 };
    TrialSpec { work: Work::Command(settings), point, combination: None }
}

/// A dataset whose trial waits for ever, without weights or images: its description is a pipe that nobody writes to.
pub fn make_endless(folder: &Path, dataset: &str) {
    let path = folder.join("data").join(dataset);
    fs::create_dir_all(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path.join("dataset.toml"), 0o600.into()).unwrap();
}

/// Two domains of 2 x 6 images.
pub fn make_images(folder: &Path, dataset: &str) {
    for (domain, colour) in [("ink", [20, 20, 90]), ("oil", [200, 120, 30])] {
        for (class, spread) in [("bars", 40_u8), ("discs", 120)] {
            let path = folder.join("data").join(dataset).join(domain).join(class);
            fs::create_dir_all(&path).unwrap();
            for number in 0..6_u8 {
                let [r, g, b] = colour;
                let image = image::RgbImage::from_fn(40, 36, |x, y| {
                    let dark = if (x / 4 + y / 9).is_multiple_of(2) { spread } else { number };
                    image::Rgb([r, g.saturating_add(dark), b])
                });
                image.save(path.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}
