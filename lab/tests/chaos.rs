//! A sweep under kills, crashes and cuts, as often as the acceptance asks for, on each database.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sortie_lab::place::Kind;
use sortie_testkit::processes::{Process, Signal, with_variable};
use sortie_testkit::wait;

use support::{is_there, programs};

/// Far longer than anything takes on a busy machine: only a hang meets it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a round of strikes and gives what it found; none where something that it needs is missing.
fn round(store: Kind) -> Option<Value> {
    let programs = programs()?;
    if !is_there(store) {
        return None;
    }
    let name = format!("{store:?}").to_lowercase();
    let mut rig = Command::new(env!("CARGO_BIN_EXE_sortie-lab"));
    rig.args([
        "chaos",
        "--store",
        &name,
        "--kills",
        "60",
        "--trials",
        "300",
        "--workers",
        "4",
        "--seed",
        "1",
        "--json",
        "--programs",
    ]);
    let output = rig.arg(programs).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{stderr}"));
    println!("{report}");
    assert!(output.status.success(), "{report}\n{stderr}");
    Some(report)
}

fn check(report: &Value, databases: u64) {
    let count = |pointer: &str| {
        report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {report}"))
    };
    assert_eq!((count("/trials"), count("/kills/worker"), count("/kills/coordinator")), (300, 60, 10));
    assert_eq!((count("/kills/database"), count("/kills/network"), count("/stopped")), (databases, 3, 3));
    assert_eq!((count("/lost"), count("/doubled"), &report["identical"]), (0, 0, &Value::Bool(true)));
    assert_eq!(count("/processes_left"), 0);
    // The strikes hit trials that ran, and there was something that could have been lost.
    assert!(count("/wasted_steps") > 0 && count("/attempts") > 300, "{report}");
    assert!(count("/acknowledged_calls") > 300 && count("/acknowledged_rows") > 300 * 40, "{report}");
}

#[test]
fn a_sweep_on_sqlite_survives_everything() {
    if let Some(report) = round(Kind::Sqlite) {
        check(&report, 0);
    }
}

#[test]
fn a_sweep_on_postgres_survives_everything() {
    if let Some(report) = round(Kind::Postgres) {
        check(&report, 5);
    }
}

#[test]
fn nothing_is_left_of_a_run_that_is_interrupted() {
    let Some(programs) = programs() else { return };
    for signal in [Signal::INT, Signal::KILL] {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Command::new(env!("CARGO_BIN_EXE_sortie-lab"));
        rig.args(["chaos", "--kills", "1", "--trials", "3000", "--json", "--programs"]).arg(&programs);
        // A killed run leaves its folder; it is ours. Our folder's name tells its processes from others.
        rig.env("TMPDIR", folder.path()).env("RIG_TEST", folder.path());
        let rig = Process::start("rig", &mut rig, &folder.path().join("log")).unwrap();
        let entry = format!("RIG_TEST={}", folder.path().display());
        let count = || with_variable(&entry).unwrap().len();
        // Itself, a coordinator, four workers, and a trial and its guard.
        assert!(wait::until(PATIENCE, || count() >= 8), "{}", rig.written());
        rig.signal(signal).unwrap();
        rig.wait_for_end(PATIENCE).unwrap();
        assert!(
            wait::until(PATIENCE, || count() == 0),
            "{signal:?}: {} are left of\n{}",
            count(),
            rig.written()
        );
    }
}
