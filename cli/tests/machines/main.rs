//! Machines that lack something, beside one that does not: no trial fails, and the broken machine is named with its reason.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod kernel;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "it is shared with other tests")]
mod support;

use sortie_testkit::programs::isolated;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sortie_core::trial::PROTOCOL_VERSION;
use support::World;

/// The program of the sweep that runs a command: it prints one metric.
const TOOL: &str =
    "#!/bin/sh\necho '{\"step\": 1, \"domain\": \"all\", \"split\": \"out\", \"value\": 0.5}'\n";
const TRIALS: usize = 8;

/// A sweep whose trials run the program `sortie-test-tool`, which a worker finds in its PATH.
fn submit_commands(world: &World) {
    submit_limited(world, "", TRIALS);
}

fn submit_limited(world: &World, limits: &str, seeds: usize) {
    let file = world.folder.path().join("commands.toml");
    let run = "[run]\ncommand = [\"sortie-test-tool\"]";
    let text = format!("name = \"work\"\n{run}\n{limits}\n[grid]\nseeds = {seeds}\n");
    fs::write(&file, text).unwrap();
    world.json(&["submit", file.to_str().unwrap(), "--json"]);
    let tool = world.folder.path().join("bin/sortie-test-tool");
    fs::create_dir_all(tool.parent().unwrap()).unwrap();
    fs::write(&tool, TOOL).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A worker on a machine of this name. What it is given may be broken.
struct WorkerProcess {
    command: Command,
    /// Where its log goes.
    log: PathBuf,
}

impl WorkerProcess {
    fn on(world: &World, machine: &str) -> Self {
        Self::with_devices(world, machine, "cpu")
    }

    fn with_devices(world: &World, machine: &str, devices: &str) -> Self {
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command
            .args(["worker", "--devices", devices, "--threads", "1", "--coordinator", &world.url])
            .args(["--machine", machine])
            .env("PATH", format!("{}:/usr/bin:/bin", world.folder.path().join("bin").display()));
        Self { command, log: world.folder.path().join(format!("{machine}.log")) }
    }

    fn args(mut self, words: &[&str]) -> Self {
        self.command.args(words);
        self
    }

    fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Started by another program, which these words begin.
    fn below(self, words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            command.env(name, value.unwrap());
        }
        Self { command, log: self.log }
    }

    fn start(mut self) -> Running {
        let log = fs::File::options().create(true).append(true).open(self.log).unwrap();
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Running(self.command.spawn().unwrap())
    }
}

/// It ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Whether it succeeded, once it has ended by itself.
    fn end(&mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

fn quarantines(world: &World) -> Vec<(String, String)> {
    let workers = world.json(&["workers", "--all", "--json"])["workers"].as_array().unwrap().clone();
    let of = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = workers.iter().map(|row| (of(row, "machine"), of(row, "reason")));
    rows.filter(|(_, reason)| !reason.is_empty()).collect()
}

/// Runs a sweep on the broken machine first and then on a healthy one, too.
fn beside_a_healthy_one(world: &World, broken: WorkerProcess, healthy: WorkerProcess, reason: &str) {
    let _broken = broken.start();
    world.wait_until("work", "a quarantine", |_| !quarantines(world).is_empty());
    let _healthy = healthy.start();
    world.wait_until("work", "the end", |status| status["queued"] == 0 && status["running"] == 0);
    let status = world.status("work");
    assert_eq!((&status["succeeded"], &status["failed"]), (&status["planned"], &0.into()), "{status}");
    let (machine, said) = quarantines(world).remove(0);
    assert!(machine.starts_with("broken-") && said.contains(reason), "{machine}: {said}");
}

/// The broken machine lacks what its worker looks for: no trial is tried there.
fn commands_beside(broken: impl FnOnce(&World, WorkerProcess) -> WorkerProcess, reason: &str) {
    let Some(world) = World::new() else { return };
    submit_commands(&world);
    let on = |machine| WorkerProcess::on(&world, machine).args(&["--allow-commands"]);
    beside_a_healthy_one(&world, broken(&world, on("broken")), on("healthy"), reason);
    assert_one_attempt_each(&world);
}

fn assert_one_attempt_each(world: &World) {
    let trials = world.json(&["trials", "work", "--json"])["trials"].as_array().unwrap().clone();
    assert!(!trials.is_empty() && trials.iter().all(|trial| trial["attempts"] == 1), "{trials:?}");
}

fn trainings_beside(
    broken: impl FnOnce(&World, WorkerProcess) -> WorkerProcess,
    reason: &str,
) -> Option<World> {
    let world = World::new()?;
    world.submit("work", 4, "1");
    let (data, cache) = (world.data(), support::prerequisites().unwrap());
    let (data, cache) = (data.to_str().unwrap(), cache.to_str().unwrap());
    let healthy = WorkerProcess::on(&world, "healthy").args(&["--data", data, "--cache", cache]);
    beside_a_healthy_one(&world, broken(&world, WorkerProcess::on(&world, "broken")), healthy, reason);
    Some(world)
}

fn folder(world: &World, name: &str) -> String {
    let folder = world.folder.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder.display().to_string()
}

#[test]
fn a_program_that_is_missing_on_one_machine() {
    commands_beside(|_, worker| worker.env("PATH", "/usr/bin:/bin"), "sortie-test-tool");
}

#[test]
fn a_program_that_one_machine_may_not_execute() {
    let broken = |world: &World, worker: WorkerProcess| {
        let other = folder(world, "other");
        fs::write(Path::new(&other).join("sortie-test-tool"), TOOL).unwrap();
        worker.env("PATH", other)
    };
    commands_beside(broken, "sortie-test-tool");
}

#[test]
fn a_wrong_data_folder_on_one_machine() {
    let broken = |world: &World, worker: WorkerProcess| {
        let cache = support::prerequisites().unwrap();
        worker.args(&["--data", &folder(world, "empty"), "--cache", cache.to_str().unwrap()])
    };
    if let Some(world) = trainings_beside(broken, "empty/Tiny: the dataset's folder is missing") {
        assert_one_attempt_each(&world);
    }
}

#[test]
fn weights_that_one_machine_lacks() {
    let broken = |world: &World, worker: WorkerProcess| {
        let (cache, data) = (folder(world, "cache"), world.data());
        worker.args(&["--data", data.to_str().unwrap(), "--cache", &cache])
    };
    trainings_beside(broken, "weights");
}

#[test]
fn no_libtorch_on_one_machine() {
    let broken = |world: &World, worker: WorkerProcess| {
        let (cache, data) = (support::prerequisites().unwrap(), world.data());
        let none = folder(world, "none");
        worker.args(&["--data", data.to_str().unwrap(), "--cache", cache.to_str().unwrap()]).args(&[
            "--libtorch",
            &none,
            "--allow-commands",
        ])
    };
    trainings_beside(broken, "libtorch_cpu.so");
}

#[test]
fn a_gpu_without_cuda_libraries_on_one_machine() {
    let Some(world) = World::new() else { return };
    world.submit("work", 4, "1");
    let (data, cache) = (world.data(), support::prerequisites().unwrap());
    let words = ["--data", data.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
    // What a trainer says of a machine with a GPU and a libtorch for the CPU.
    let gpu = r#"{"uuid":"GPU-0","name":"NVIDIA H200","memory_bytes":150754820096}"#;
    let probe = format!(
        r#"{{"trainer":{{"build":"{}","protocol_version":{PROTOCOL_VERSION},"libtorch":"2.11.0+cpu"}},"folder":"/","cuda":null,"driver":{{"version":13000,"error":null,"gpus":[{gpu}]}}}}"#,
        env!("SORTIE_BUILD")
    );
    let trainer = world.folder.path().join("trainer");
    fs::write(&trainer, format!("#!/bin/sh\necho '{probe}'\n")).unwrap();
    fs::set_permissions(&trainer, fs::Permissions::from_mode(0o755)).unwrap();
    let broken = WorkerProcess::with_devices(&world, "broken", "all").args(&words);
    assert!(!broken.env("SORTIE_TRAINER", &trainer).start().end());
    let said = fs::read_to_string(world.folder.path().join("broken.log")).unwrap();
    assert!(said.contains("has no CUDA libraries"), "{said}");
    // It took no trial.
    let healthy = WorkerProcess::on(&world, "healthy").args(&words).args(&["--exit-when-idle"]);
    assert!(healthy.start().end());
    let status = world.status("work");
    assert_eq!((&status["succeeded"], &status["failed"]), (&status["planned"], &0.into()), "{status}");
    assert_one_attempt_each(&world);
}

#[test]
fn other_data_under_the_same_name_on_one_machine() {
    let Some(world) = World::new() else { return };
    world.submit("work", 4, "1");
    let (data, cache) = (world.data(), support::prerequisites().unwrap());
    let own = world.folder.path().join("own");
    support::copy_images(&cache.join("data/EmojiStyles"), &own.join("Tiny"));
    let image = fs::read_dir(own.join("Tiny/noto/objects")).unwrap().next().unwrap().unwrap().path();
    fs::copy(fs::read_dir(own.join("Tiny/flat/objects")).unwrap().next().unwrap().unwrap().path(), &image)
        .unwrap();
    let on = |machine, data: &Path| {
        let words = ["--data", data.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
        WorkerProcess::on(&world, machine).args(&words)
    };
    let first = on("healthy", &data).start();
    world.wait_until("work", "a result", |status| status["succeeded"].as_u64() >= Some(1));
    drop(first);
    // Nobody knows which of two machines is right: the trials are held, and both are named with what they have.
    let broken = on("broken", &own).start();
    let held =
        |_: &Value| String::from_utf8_lossy(&world.sortie(&["status", "work"]).stdout).contains("disagree");
    world.wait_until("work", "a dispute", held);
    let trials = world.json(&["trials", "work", "--state", "queued", "--json"])["trials"].clone();
    let explained = world.sortie(&["explain", trials[0]["trial"].as_str().unwrap()]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    let said = explained.split("machine healthy-").nth(1).unwrap_or_else(|| panic!("{explained}"));
    assert!(explained.contains("machine broken-"), "{explained}");
    let digest = said.split("has digest ").nth(1).unwrap().split([',', ';']).next().unwrap();
    let pinned = world.json(&["pin", "Tiny", digest, "--json"]);
    assert_eq!((&pinned["trials"], pinned["digest"].as_str().unwrap().len()), (&0.into(), 64), "{pinned}");
    assert!(pinned["machines"][0].as_str().unwrap().starts_with("broken-"), "{pinned}");
    let _healthy = on("healthy", &data).start();
    world.wait_until("work", "the end", |status| status["queued"] == 0 && status["running"] == 0);
    drop(broken);
    let status = world.status("work");
    assert_eq!((&status["succeeded"], &status["failed"]), (&status["planned"], &0.into()), "{status}");
    let (machine, reason) = quarantines(&world).remove(0);
    assert!(machine.starts_with("broken-") && reason.contains("which a user pinned"), "{machine}: {reason}");
}

#[test]
fn slurms_word_for_no_gpu_makes_a_worker_for_the_cpu() {
    let Some(world) = World::new() else { return };
    world.submit("work", 4, "1");
    let (data, cache) = (world.data(), support::prerequisites().unwrap());
    let words = ["--data", data.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
    let worker = WorkerProcess::with_devices(&world, "cpu", "all")
        .args(&words)
        .args(&["--exit-when-idle"])
        .env("CUDA_VISIBLE_DEVICES", "NoDevFiles");
    assert!(worker.start().end(), "{}", fs::read_to_string(world.folder.path().join("cpu.log")).unwrap());
    let status = world.status("work");
    assert_eq!(status["succeeded"], status["planned"]);
}

#[test]
fn only_a_broken_machine_everything_ends_with_the_reason_and_a_repaired_one_finishes() {
    let Some(world) = World::new() else { return };
    submit_commands(&world);
    let on = |machine| WorkerProcess::on(&world, machine).args(&["--allow-commands", "--exit-when-idle"]);
    let mut broken = on("m").env("PATH", "/usr/bin:/bin").start();
    assert!(!broken.end());
    let log = fs::read_to_string(world.folder.path().join("m.log")).unwrap();
    assert!(log.contains("none is for this machine") && log.contains("sortie-test-tool"), "{log}");
    let status = world.status("work");
    assert_eq!((&status["queued"], &status["failed"]), (&TRIALS.into(), &0.into()), "{status}");
    let waited = world.sortie(&["wait", "work", "--timeout", "60"]);
    let said = String::from_utf8_lossy(&waited.stderr);
    assert!(
        !waited.status.success() && said.contains("quarantined for commands") && !said.contains("gave up"),
        "{said}"
    );
    let trial = world.json(&["trials", "work", "--json"])["trials"][0]["trial"].as_str().unwrap().to_owned();
    let explained = world.sortie(&["explain", &trial]);
    assert!(String::from_utf8_lossy(&explained.stdout).contains("quarantined for commands"));
    // What was started with what was missing is another machine: nobody has to retry anything.
    assert!(on("m").start().end());
    assert_eq!(world.status("work")["succeeded"], TRIALS);
}

#[test]
fn a_released_machine_that_was_repaired_finishes() {
    let Some(world) = World::new() else { return };
    submit_commands(&world);
    let tool = world.folder.path().join("bin/sortie-test-tool");
    fs::rename(&tool, tool.with_extension("gone")).unwrap();
    let _worker = WorkerProcess::on(&world, "m").args(&["--allow-commands"]).start();
    world.wait_until("work", "a quarantine", |_| !quarantines(&world).is_empty());
    fs::rename(tool.with_extension("gone"), &tool).unwrap();
    let machine = quarantines(&world).remove(0).0;
    let released = world.sortie(&["workers", "--release", &machine]);
    assert!(released.status.success(), "{released:?}");
    world.wait_until("work", "the end", |status| status["succeeded"] == TRIALS);
    assert!(quarantines(&world).is_empty());
}

#[test]
fn a_trial_that_is_bad_everywhere_ends_on_one_machine_and_says_so() {
    let Some(world) = World::new() else { return };
    submit_commands(&world);
    fs::write(world.folder.path().join("bin/sortie-test-tool"), "#!/bin/sh\nexit 1\n").unwrap();
    let _worker = WorkerProcess::on(&world, "m").args(&["--allow-commands"]).start();
    world.wait_until("work", "the end", |status| status["failed"] == TRIALS);
    let trials = world.json(&["trials", "work", "--json"])["trials"].as_array().unwrap().clone();
    for trial in trials {
        let error = trial["error"].as_str().unwrap();
        assert!(error.starts_with("crashed: ") && error.ends_with("(one machine only)"), "{error}");
        assert_eq!(trial["attempts"], 2);
    }
}

/// Hangs as if it was stopped for good, the first time that it runs; the other times it prints its metric.
fn hang_once(world: &World) {
    let marker = world.folder.path().join("hung");
    let metric = TOOL.lines().last().unwrap();
    let text = format!(
        "#!/bin/sh\nif mkdir {} 2>/dev/null; then echo begun; kill -STOP $$; fi\n{metric}\n",
        marker.display()
    );
    fs::write(world.folder.path().join("bin/sortie-test-tool"), text).unwrap();
}

#[test]
fn a_trial_that_hangs_ends_and_runs_elsewhere() {
    let Some(world) = World::new() else { return };
    submit_limited(&world, "[limits]\nstall_minutes = 0.05", 1);
    hang_once(&world);
    let on = |machine| WorkerProcess::on(&world, machine).args(&["--allow-commands"]).start();
    let _workers = [on("one"), on("two")];
    world.wait_until("work", "the end", |status| status["succeeded"] == 1);
    let trial = world.json(&["trials", "work", "--json"])["trials"][0].clone();
    assert_eq!(trial["attempts"], 2);
    let story = world.json(&["explain", trial["trial"].as_str().unwrap(), "--json"]);
    let events = story["events"].as_array().unwrap();
    let failed = events.iter().find(|event| event["what"] == "failed").unwrap();
    let detail = failed["detail"].as_str().unwrap();
    assert!(detail.contains("stalled") && detail.contains("no progress for 3 seconds"), "{detail}");
    let workers: std::collections::BTreeSet<String> = events
        .iter()
        .filter(|event| event["what"] == "started")
        .map(|event| event["detail"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(workers.len(), 2, "{story}");
}

#[test]
fn a_command_that_prints_only_at_its_end_is_left_alone_and_one_beyond_its_time_is_not() {
    let Some(world) = World::new() else { return };
    submit_limited(&world, "", 1);
    let slow = TOOL.replace("#!/bin/sh\n", "#!/bin/sh\nsleep 5\n");
    fs::write(world.folder.path().join("bin/sortie-test-tool"), &slow).unwrap();
    let _worker = WorkerProcess::on(&world, "m").args(&["--allow-commands"]).start();
    world.wait_until("work", "the end", |status| status["succeeded"] == 1);
    let file = world.folder.path().join("long.toml");
    let run = "[run]\ncommand = [\"sh\", \"-c\", \"while true; do echo on; sleep 0.1; done\"]";
    fs::write(&file, format!("name = \"long\"\n{run}\n[limits]\nhours = 0.0003\n")).unwrap();
    world.json(&["submit", file.to_str().unwrap(), "--json"]);
    world.wait_until("long", "the end", |status| status["failed"] == 1);
    let trial = world.json(&["trials", "long", "--json"])["trials"][0].clone();
    let error = trial["error"].as_str().unwrap();
    assert!(
        error.starts_with("stalled: it ran for 1.1 seconds") && error.ends_with("(one machine only)"),
        "{error}"
    );
    assert_eq!(trial["attempts"], 2);
}
