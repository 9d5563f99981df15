//! What becomes of whole sweeps: what a submission changes, and what a deletion takes away.

use serde_json::json;
use sortie_proto::v1;

use crate::script::{Coordinator, Script};

#[test]
fn a_submission_shows_what_it_changes_before_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.toml");
    std::fs::write(&file, "name = \"s\"\n[run]\ncommand = [\"true\"]\n").unwrap();
    let dry = ["submit", file.to_str().unwrap(), "--dry-run"];
    let (key, old, new) = ("keep".to_owned(), "a".to_owned(), "b".to_owned());
    let kept = |key: &str, values: &str| v1::KeptValues { key: key.into(), values: values.into() };
    let preview = v1::PreviewResponse {
        sweep: "s".into(),
        is_new: false,
        trials: 6,
        combinations: 2,
        changes: vec![v1::SettingChange { key, old, new }],
        kept: vec![kept("grid.seeds", "2, 3"), kept("select", "loo")],
    };
    let done =
        v1::SubmitProgress { sweep: "s".into(), planned: 8, expanded: 8, added: 8, reused: 0, done: true };
    let script = |preview: &v1::PreviewResponse| Script {
        preview: preview.clone(),
        progress: vec![done.clone()],
        ..Script::default()
    };
    let coordinator = Coordinator::start(script(&preview));
    let differences = "what changes: keep: a -> b\n\
        what the sweep keeps, though the file does not have it: grid.seeds: 2, 3; select: loo\n";
    let text = format!("sweep s is stored, and would get 6 trials and 2 combinations\n{differences}");
    assert_eq!(coordinator.says(&dry), text);
    let expected = json!({
        "sweep": "s", "is_new": false, "trials": 6, "combinations": 2,
        "changes": [{"key": "keep", "old": "a", "new": "b"}],
        "kept": [{"key": "grid.seeds", "values": "2, 3"}, {"key": "select", "values": "loo"}],
    });
    assert_eq!(coordinator.json(&dry), expected);
    assert!(coordinator.asked().is_empty(), "something was submitted");
    // A submission says the same before it is stored.
    let output = coordinator.run(&dry[..2]);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), differences);
    let new = v1::PreviewResponse { is_new: true, trials: 3, ..v1::PreviewResponse::default() };
    let new = Coordinator::start(script(&v1::PreviewResponse { sweep: "s".into(), ..new }));
    assert_eq!(new.says(&dry), "sweep s would be new, with 3 trials\n");
}

#[test]
fn a_sweep_is_deleted_when_somebody_agrees() {
    let coordinator = Coordinator::start(Script::default());
    // Nobody is there to be asked.
    let asked = coordinator.refuses(&["delete", "s"], 1);
    assert_eq!(asked, "error: sweep s has 4 trials, 3 of them with a result: add --yes to delete them\n");
    let text = "sweep s is deleted, with 4 trials, 3 of them with a result; \
                2 files (2.00 KiB) that they left stay, in file:///store or on the workers' disks\n";
    assert_eq!(coordinator.says(&["delete", "s", "--yes"]), text);
    let json = coordinator.json(&["delete", "s", "--yes"]);
    let left = json!({"sweep": "s", "trials": 4, "succeeded": 3, "files_left": 2, "bytes_left": 2_048, "store": "file:///store"});
    assert_eq!(json, left);
    let expected = [r#"("s", true)"#, r#"("s", false)"#, r#"("s", false)"#];
    assert_eq!(coordinator.asked(), expected);
}

#[test]
fn archived_sweeps_are_listed_where_all_are_asked_for() {
    let archived = v1::SweepStatus {
        sweep: "s".into(),
        state: v1::SweepState::Archived.into(),
        planned: 4,
        succeeded: 3,
        queued: 1,
        ..v1::SweepStatus::default()
    };
    let coordinator = Coordinator::start(Script { status: archived, ..Script::default() });
    let list = coordinator.says(&["status", "--all"]);
    assert!(list.contains("archived") && !list.contains("waits for a free worker"), "{list}");
    assert_eq!(coordinator.json(&["status"])["sweeps"][0]["state"], "archived");
    assert_eq!(coordinator.asked(), [r#""all""#, r#""""#]);
    // Nobody waits for trials that nobody runs.
    let error = coordinator.refuses(&["wait", "s"], 1);
    assert!(error.contains("sweep s ended with 3/4 trials done"), "{error}");
}
