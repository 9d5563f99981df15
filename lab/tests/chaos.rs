//! A sweep with kills, crashes and cuts on each database.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sortie_lab::environment::Store;
use sortie_testkit::processes::{Process, Signal, with_variable};
use sortie_testkit::wait;

use support::{is_there, programs};

/// Far longer than anything takes on a busy machine: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a round of faults and returns its report; none if a program or a database is missing.
fn round(store: Store) -> Option<Value> {
    let programs = programs()?;
    if !is_there(store) {
        return None;
    }
    let name = format!("{store:?}").to_lowercase();
    let mut lab = Command::new(env!("CARGO_BIN_EXE_sortie-lab"));
    lab.args([
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
    let output = lab.arg(programs).stdin(Stdio::null()).output().unwrap();
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
    assert_eq!(count("/restored"), 2);
    assert_eq!((count("/lost"), count("/doubled"), &report["identical"]), (0, 0, &Value::Bool(true)));
    assert_eq!(count("/processes_left"), 0);
    // The faults interrupted running trials that had reported results.
    assert!(count("/wasted_steps") > 0 && count("/attempts") > 300, "{report}");
    assert!(count("/acknowledged_calls") > 300 && count("/acknowledged_rows") > 300 * 40, "{report}");
}

#[test]
fn a_sweep_on_sqlite_survives_everything() {
    if let Some(report) = round(Store::Sqlite) {
        check(&report, 0);
    }
}

#[test]
fn a_sweep_on_postgres_survives_everything() {
    if let Some(report) = round(Store::Postgres) {
        check(&report, 5);
    }
}

#[test]
fn nothing_is_left_of_a_run_that_is_interrupted() {
    let Some(programs) = programs() else { return };
    for signal in [Signal::INT, Signal::KILL] {
        let folder = tempfile::tempdir().unwrap();
        let mut lab = Command::new(env!("CARGO_BIN_EXE_sortie-lab"));
        lab.args(["chaos", "--kills", "1", "--trials", "3000", "--json", "--programs"]).arg(&programs);
        // A killed run leaves its folder inside ours. The variable distinguishes its processes from others.
        lab.env("TMPDIR", folder.path()).env("LAB_TEST", folder.path());
        let lab = Process::start("lab", &mut lab, &folder.path().join("log")).unwrap();
        let entry = format!("LAB_TEST={}", folder.path().display());
        let count = || with_variable(&entry).unwrap().len();
        // The lab, a coordinator, four workers, a trial and its guard.
        assert!(wait::until(PATIENCE, || count() >= 8), "{}", lab.written());
        lab.signal(signal).unwrap();
        lab.wait_for_end(PATIENCE).unwrap();
        assert!(
            wait::until(PATIENCE, || count() == 0),
            "{signal:?}: {} are left of\n{}",
            count(),
            lab.written()
        );
    }
}
