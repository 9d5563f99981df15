//! Programs that go on from their checkpoints, with real processes: coordinator, worker, guard, Python, SIGKILL.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod code;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "it is shared with other tests")]
mod support;

use sortie_testkit::programs::isolated;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sortie_testkit::processes::children_of;
use support::{World, wait};

const STEPS: u64 = 60;

/// Whether Python is there, with this module; a line says so where it is not.
fn has_python(module: &str) -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", &format!("import {module}")]).stdout(Stdio::null()).stderr(Stdio::null());
    let has = python.status().is_ok_and(|status| status.success());
    if !has {
        println!("skipped: needs python3 with the module {module}");
    }
    has
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resume/train.py")
}

/// One trial of the script.
fn submit(world: &World, options: &str) {
    let text = format!(
        "name = \"work\"\n[run]\ncommand = [\"python3\", {:?}, \"--checkpoints={{checkpoints}}\", \"--steps={{steps}}\", \"--seed={{seed}}\"{options}]\n\
         steps = {STEPS}\ncomplete_at = {STEPS}\n[data]\ndataset = \"TimesOfDay\"\ndomains = [\"dawn\", \"dusk\"]\n[grid]\nheld_out = [\"dusk\"]\nseeds = 1\n",
        script()
    );
    world.submit_text("work", &text, &[]);
}

/// The objects that a program prints by itself, without a coordinator.
fn undisturbed(command: &mut Command) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let output = command.arg(format!("--checkpoints={}", folder.path().display())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn of_script() -> Vec<Value> {
    undisturbed(Command::new("python3").arg(script()).args(["--steps", &STEPS.to_string(), "--seed=0"]))
}

/// Every number of the result is one that the undisturbed program printed, and the other way round.
fn assert_is_result(world: &World, sweep: &str, printed: &[Value]) {
    let rows = |query: &str| world.json(&["sql", query, "--json"])["rows"].as_array().unwrap().clone();
    let losses = rows("select step, value as loss from v_curves where split = 'batch' order by step");
    let is_loss = |row: &&Value| row.get("domain").is_none() && row.get("loss").is_some();
    let expected: Vec<&Value> = printed.iter().filter(is_loss).collect();
    assert_eq!(losses.len(), expected.len(), "{sweep}");
    for (stored, printed) in losses.iter().zip(expected) {
        assert_eq!((&stored["step"], &stored["loss"]), (&printed["step"], &printed["loss"]));
    }
    // Times go on where the attempt before stopped.
    let timed = rows("select step, seconds from v_curves order by step, seconds");
    let seconds: Vec<f64> = timed.iter().map(|row| row["seconds"].as_f64().unwrap()).collect();
    assert!(seconds.is_sorted() && seconds[0] >= 0.0, "{sweep}: {timed:?}");
    let evaluations = rows("select step, domain, split, correct, loss from v_evaluations");
    let metrics = rows("select step, domain, split, metric, value from v_metrics");
    let expected: Vec<&Value> = printed.iter().filter(|row| row.get("domain").is_some()).collect();
    assert_eq!(evaluations.len(), expected.len(), "{sweep}");
    for printed in expected {
        let same = |row: &&Value| ["step", "domain", "split"].iter().all(|key| row[key] == printed[key]);
        let stored = evaluations.iter().find(same).unwrap();
        assert_eq!((&stored["correct"], &stored["loss"]), (&printed["correct"], &printed["loss"]));
        for row in metrics.iter().filter(same) {
            assert_eq!(row["value"], printed[row["metric"].as_str().unwrap()], "{row}");
        }
        assert!(metrics.iter().any(|row| same(&row)));
    }
}

fn worker(world: &World) -> Child {
    world.start_worker_with(&["--allow-commands", "--exit-when-idle"])
}

fn folders(world: &World) -> usize {
    fs::read_dir(world.folder.path().join("cache/checkpoints")).map_or(0, Iterator::count)
}

/// Waits until the program has made this step.
fn wait_for_step(world: &World, step: u64) {
    world.wait_until("work", "a step", |_| {
        let trials = world.json(&["trials", "work", "--json"]);
        trials["trials"][0]["step"].as_u64().unwrap() >= step
    });
}

fn kill(worker: &mut Child) {
    worker.kill().unwrap();
    worker.wait().unwrap();
}

fn explained(world: &World) -> String {
    let id = world.json(&["trials", "work", "--json"])["trials"][0]["trial"].as_str().unwrap().to_owned();
    String::from_utf8(world.sortie(&["explain", &id]).stdout).unwrap()
}

#[test]
fn a_program_whose_worker_is_killed_goes_on_and_comes_to_the_same_numbers() {
    if !has_python("json") {
        return;
    }
    let world = World::of_commands();
    submit(&world, ", \"--pause=0.1\"");
    let mut first = worker(&world);
    wait_for_step(&world, 20);
    kill(&mut first);
    assert_eq!(folders(&world), 1);
    let mut second = worker(&world);
    wait_for_step(&world, 40);
    kill(&mut second);
    wait(&mut worker(&world), &world);
    assert_is_result(&world, "work", &of_script());
    let explained = explained(&world);
    let resumed = |attempt: u32| {
        let line = format!("attempt {attempt}  resumed    after step ");
        explained.contains(&line) && explained.contains(&format!(" of attempt {}\n", attempt - 1))
    };
    assert!(resumed(2) && resumed(3), "{explained}");
    assert_eq!(folders(&world), 0, "a trial that has ended leaves nothing");
}

#[test]
fn a_program_whose_guard_is_killed_goes_on() {
    if !has_python("json") {
        return;
    }
    let world = World::of_commands();
    submit(&world, ", \"--pause=0.1\"");
    let mut running = worker(&world);
    wait_for_step(&world, 20);
    let guard = i32::try_from(children_of(running.id()).unwrap()[0]).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(guard).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    wait(&mut running, &world);
    assert_is_result(&world, "work", &of_script());
}

#[test]
fn a_program_that_failed_goes_on_at_a_worker_with_another_disk() {
    if !has_python("json") {
        return;
    }
    let world = World::of_commands();
    submit(&world, ", \"--fail-at=40\"");
    let mut first = world.start_worker_with(&["--allow-commands"]);
    wait_for_step(&world, 40);
    world.wait_until("work", "its failure", |status| status["queued"] == 1);
    kill(&mut first);
    // What the first worker has on its disk is gone; the coordinator's store has all that is needed.
    fs::remove_dir_all(world.folder.path().join("cache")).unwrap();
    wait(&mut worker(&world), &world);
    assert_is_result(&world, "work", &of_script());
    let explained = explained(&world);
    assert!(explained.contains("resumed    after step 39 of attempt 1"), "{explained}");
    let checkpoints = world.folder.path().join("artifacts/checkpoints");
    assert_eq!(fs::read_dir(checkpoints).map_or(0, Iterator::count), 0, "the store keeps none of them");
}

/// What the program printed and nobody read any more is part of the result: its checkpoint may be newer.
#[test]
fn a_guard_whose_agent_is_gone_saves_what_nobody_has_read() {
    let folder = tempfile::tempdir().unwrap();
    let (unread, ready) = (folder.path().join("unread"), folder.path().join("ready"));
    let script = format!("env; echo printed; touch '{}'; exec sleep 600", ready.display());
    let mut guard = isolated(env!("CARGO_BIN_EXE_sortie"));
    guard.args(["guard", "sh", "-c", &script]).env("SORTIE_GUARD_UNREAD", &unread);
    let mut guard = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    while !ready.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(guard.stdin.take());
    assert!(!guard.wait().unwrap().success());
    let saved = fs::read_to_string(unread).unwrap();
    assert!(saved.ends_with("\nprinted\n"), "{saved}");
    assert!(!saved.contains("SORTIE_GUARD_UNREAD"), "the program does not get the variable: {saved}");
}

#[test]
fn the_pytorch_example_goes_on_and_comes_to_the_same_numbers() {
    if !has_python("torch") {
        return;
    }
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let world = World::of_commands();
    let text = fs::read_to_string(clone.join("examples/pytorch_resume.toml")).unwrap();
    let example = clone.join("examples/pytorch_resume/train.py");
    let text = text
        .replace("examples/pytorch_resume/train.py", example.to_str().unwrap())
        .replace("name = \"pytorch-resume\"", "name = \"work\"")
        .replace("lr = [1e-3, 1e-2]", "lr = 1e-3")
        .replace("held_out = \"each\"", "held_out = [\"dusk\"]")
        .replace("200", "2000");
    world.submit_text("work", &text, &[]);
    let mut first = worker(&world);
    wait_for_step(&world, 300);
    kill(&mut first);
    wait(&mut worker(&world), &world);
    let options = ["--lr=1e-3", "--held-out=dusk", "--seed=0", "--steps=2000"];
    let mut python = Command::new("python3");
    let printed = undisturbed(python.arg(example).args(options).env("OMP_NUM_THREADS", "1"));
    assert_is_result(&world, "work", &printed);
}
