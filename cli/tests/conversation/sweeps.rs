//! What becomes of whole sweeps: what a submission changes, what a deletion takes away, and the file of one of their trials.

use serde_json::json;
use sortie_core::spec::SweepSpec;
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
        lacking: Some(v1::LackingTrials { trials: 3, final_weights: 3, ..v1::LackingTrials::default() }),
    };
    let (planned, added, lacking) = (8, 8, preview.lacking);
    let done =
        v1::SubmitProgress { sweep: "s".into(), planned, expanded: 8, added, reused: 0, done: true, lacking };
    let script = |preview: &v1::PreviewResponse| Script {
        preview: preview.clone(),
        progress: vec![done.clone()],
        ..Script::default()
    };
    let coordinator = Coordinator::start(script(&preview));
    let differences = "what changes: keep: a -> b\n\
        what the sweep keeps, though the file does not have it: grid.seeds: 2, 3; select: loo\n";
    let lacking = "3 trials lack final weights: they would run again; --reuse-anyway lets their results count as they are\n";
    let text =
        format!("sweep s is stored, and would get 6 trials and 2 combinations\n{differences}{lacking}");
    assert_eq!(coordinator.says(&dry), text);
    let expected = json!({
        "sweep": "s", "is_new": false, "trials": 6, "combinations": 2,
        "changes": [{"key": "keep", "old": "a", "new": "b"}],
        "kept": [{"key": "grid.seeds", "values": "2, 3"}, {"key": "select", "values": "loo"}],
        "lacking": {"trials": 3, "average": 0, "ensemble": 0, "final_weights": 3, "selected_weights": 0, "logits": 0},
    });
    assert_eq!(coordinator.json(&dry), expected);
    assert!(coordinator.asked().is_empty(), "something was submitted");
    // A submission says the same before it is stored.
    let output = coordinator.run(&dry[..2]);
    let said = format!("{differences}{}", lacking.replace("would run", "run"));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), said);
    let output = coordinator.run(&["submit", dry[1], "--reuse-anyway"]);
    assert!(output.status.success());
    assert_eq!(coordinator.asked(), ["(false, None)", "\"reuse anyway\"", "(false, None)"]);
    coordinator.refuses(&["submit", dry[1], "--reuse-anyway", "--no-reuse"], 2);
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

#[test]
fn the_file_of_a_trial_plans_it_and_one_that_no_file_plans_is_refused() {
    let text = "name = 's'\n[run]\ncommand = ['run', '{lr}']\n[grid]\nlr = [1e-3, 0.5]\nseeds = 2\n";
    let sweep = SweepSpec::parse(text, None).unwrap();
    let planned = sweep.trials().nth(1).unwrap();
    let id = planned.hash().to_string();
    let found = v1::Trial {
        trial_id: id.clone(),
        point: Some((&planned.point).into()),
        state: v1::TrialState::Queued.into(),
        ..v1::Trial::default()
    };
    let story = v1::ExplainResponse { sweep: "s".into(), trial: Some(found), ..Default::default() };
    let spec = serde_json::to_string(&sweep).unwrap();
    let script = Script { story, spec, ..Script::default() };
    let file = Coordinator::start(script.clone()).says(&["explain", &id, "--config"]);
    let ids: Vec<String> =
        SweepSpec::parse(&file, None).unwrap().trials().map(|trial| trial.hash().to_string()).collect();
    assert_eq!(ids, std::slice::from_ref(&id));
    let other = SweepSpec::parse(&text.replace("0.5", "0.25"), None).unwrap();
    let spec = serde_json::to_string(&other).unwrap();
    let error = Coordinator::start(Script { spec, ..script }).refuses(&["explain", &id, "--config"], 1);
    assert_eq!(error, format!("error: no sweep file plans trial {} of sweep s\n", &id[..8]));
}
