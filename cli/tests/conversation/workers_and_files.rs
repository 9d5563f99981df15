//! Workers, and what trials leave.

use serde_json::{Value, json};
use sortie_proto::v1;

use crate::script::{Coordinator, Script};

#[test]
fn workers_are_listed() {
    let worker = v1::Worker {
        host: "gpu4".into(),
        pid: 4_711,
        state: v1::WorkerState::Idle.into(),
        ..Default::default()
    };
    let coordinator = Coordinator::start(Script { workers: vec![worker], ..Script::default() });
    assert!(coordinator.says(&["workers", "--all"]).contains("gpu4:4711"));
    assert_eq!(coordinator.json(&["workers"])["workers"][0]["pid"], 4_711);
    assert_eq!(coordinator.asked(), ["true", "false"]);
    assert!(Coordinator::start(Script::default()).says(&["workers"]).contains("sortie worker"));
}

#[test]
fn a_machine_is_released_by_name() {
    let coordinator = Coordinator::start(Script::default());
    assert_eq!(
        coordinator.says(&["workers", "--release", "gpu4-7f3a90c2"]),
        "machine gpu4-7f3a90c2 is tried again\n"
    );
    assert_eq!(coordinator.asked(), ["\"gpu4-7f3a90c2\""]);
}

#[test]
fn a_digest_is_pinned_and_forgotten_by_name() {
    let coordinator = Coordinator::start(Script::default());
    assert_eq!(
        coordinator.says(&["pin", "PACS", "3f2a"]),
        "dataset PACS has digest 3f2a0a; quarantined for it: gpu4-7f3a90c2\n\
         3 trials have a result that was made with another digest: it stays\n"
    );
    assert_eq!(
        coordinator.says(&["unpin", "vit-b-16", "--kind", "weights"]),
        "weights vit-b-16: 0a, 0b forgotten; the next report pins anew\n"
    );
    let pinned = json!({"kind": "dataset", "name": "PACS", "digest": "3f0a", "machines": ["gpu4-7f3a90c2"], "trials": 3});
    assert_eq!(coordinator.json(&["pin", "PACS", "3f"]), pinned);
    let asked = [r#"("PACS", "", "3f2a")"#, r#"("vit-b-16", "weights")"#, r#"("PACS", "", "3f")"#];
    assert_eq!(coordinator.asked(), asked);
    let error = coordinator.refuses(&["unpin", "PACS", "--kind", "data"], 2);
    assert!(error.contains("allowed: dataset, weights"), "{error}");
}

#[test]
fn where_workers_keep_checkpoints_is_listed() {
    let worker = v1::Worker {
        host: "gpu4".into(),
        pid: 4_711,
        state: v1::WorkerState::Idle.into(),
        checkpoints: "local".into(),
        ..Default::default()
    };
    let coordinator = Coordinator::start(Script { workers: vec![worker], ..Script::default() });
    let text = coordinator.says(&["workers"]);
    assert!(
        text.lines().next().unwrap().ends_with("checkpoints")
            && text.lines().nth(1).unwrap().ends_with("local"),
        "{text}"
    );
    assert_eq!(coordinator.json(&["workers"])["workers"][0]["checkpoints"], "local");
}

#[test]
fn what_a_trial_left_is_listed() {
    let kept = |kind: &str, key: &str, url: &str, host: &str| {
        let (method, digest) = ("plain".into(), "0a".repeat(32));
        let artifact =
            v1::Artifact { kind: kind.into(), method, step: 20, key: key.into(), digest, bytes: 7 };
        v1::StoredArtifact { token: 17, artifact: Some(artifact), url: url.into(), host: host.into() }
    };
    let artifacts = vec![
        kept("final-logits", "", "", ""),
        kept("final-weights", "weights/x", "s3://bucket/weights/x", ""),
        kept("selected-weights", "weights/y", "", "gpu4"),
    ];
    let artifacts =
        v1::ArtifactsResponse { trial_id: "94f9".into(), state: v1::TrialState::Succeeded.into(), artifacts };
    let coordinator = Coordinator::start(Script { artifacts, ..Script::default() });
    let text = coordinator.says(&["artifacts", "s/94f9"]);
    let ends = ["where", "not kept", "s3://bucket/weights/x", "weights/y below CACHE/artifacts on gpu4"];
    assert!(
        text.lines().zip(ends).all(|(line, end)| line.ends_with(end)) && text.lines().count() == 4,
        "{text}"
    );
    let json = coordinator.json(&["artifacts", "94f9"]);
    assert_eq!((&json["trial"], &json["state"]), (&"94f9".into(), &"succeeded".into()));
    let weights = json!({"attempt": 17, "kind": "final-weights", "method": "plain", "step": 20, "key": "weights/x", "digest": "0a".repeat(32),
        "bytes": 7, "url": "s3://bucket/weights/x", "host": null});
    assert_eq!(json["artifacts"][1], weights);
    assert_eq!((&json["artifacts"][0]["key"], &json["artifacts"][2]["host"]), (&Value::Null, &"gpu4".into()));
    assert_eq!(coordinator.asked(), ["\"s/94f9\"", "\"94f9\""]);
    let nothing = v1::ArtifactsResponse { state: v1::TrialState::Queued.into(), ..Default::default() };
    let nothing = Coordinator::start(Script { artifacts: nothing, ..Script::default() });
    assert!(nothing.says(&["artifacts", "94f9"]).contains("has left nothing"));
}

#[test]
fn a_backup_is_complete_or_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    let backup = vec!["one".to_owned(), "two".to_owned()];
    let whole = Coordinator::start(Script { backup: backup.clone(), ..Script::default() });
    let words = ["backup", path.to_str().unwrap()];
    assert_eq!(whole.says(&words), format!("wrote {}\n", path.display()));
    let torn = Script { backup: vec!["other".to_owned()], backup_breaks: true, ..Script::default() };
    assert_eq!(Coordinator::start(torn).refuses(&words, 1), "error: the disk is full\n");
    assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), names()), ("onetwo", 1));
}
