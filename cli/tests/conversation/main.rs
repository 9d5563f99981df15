//! What the program asks a coordinator and how it tells the answers, with a coordinator that answers from a script.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod script;
mod sweeps;
mod warnings;
mod workers_and_files;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use script::{Coordinator, Script};
use serde_json::{Value, json};
use sortie_core::job::StateName;
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;
use sortie_proto::v1;

fn status(succeeded: u64, failed: u64) -> v1::SweepStatus {
    v1::SweepStatus {
        sweep: "s".into(),
        state: v1::SweepState::Open.into(),
        planned: 4,
        succeeded,
        failed,
        ..Default::default()
    }
}

#[test]
fn a_submission_tells_how_far_it_is_and_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.toml");
    std::fs::write(&file, "name = \"s\"\n[run]\ncommand = [\"true\"]\n").unwrap();
    let path = file.to_str().unwrap();
    let progress = |expanded, added, done| v1::SubmitProgress {
        sweep: "s".into(),
        planned: 100,
        expanded,
        added,
        reused: added / 2,
        done,
        lacking: None,
    };
    let script = Script {
        progress: vec![progress(50, 4, false), progress(55, 4, false), progress(100, 8, true)],
        ..Script::default()
    };
    let coordinator = Coordinator::start(script.clone());
    let output = coordinator.run(&["submit", path, "--no-reuse", "--priority", "-2"]);
    let text = "sweep s: 8 trials added, 100 in all; 4 of them have succeeded in other sweeps and will not run again\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "50 of 100 trials looked at, 4 added\n");
    let none_lacking = json!({"trials": 0, "average": 0, "ensemble": 0, "final_weights": 0, "selected_weights": 0, "logits": 0});
    assert_eq!(
        coordinator.json(&["submit", path]),
        json!({"sweep": "s", "planned": 100, "added": 8, "reused": 4, "lacking": none_lacking})
    );
    assert_eq!(coordinator.asked(), ["(true, Some(-2))", "(false, None)"]);
    // A coordinator that goes away in the middle.
    let broken = Coordinator::start(Script { progress: vec![progress(50, 4, false)], ..Script::default() });
    let error = broken.refuses(&["submit", path, "--json"], 1);
    assert!(error.contains("submit it again") && error.contains("stopped answering"), "{error}");
}

#[test]
fn waiting_and_watching_outlive_a_coordinators_restart() {
    let watched =
        "1/4 trials done, 0 running, time left: waits for a free worker\n4/4 trials done, 0 running\n";
    for (words, said) in [(&["wait", "s"][..], ""), (&["status", "s", "--watch"], watched)] {
        let first = Coordinator::start(Script { status: status(1, 0), ..Script::default() });
        let mut child = first.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while first.asked().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let address = first.address;
        drop(first);
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "the coordinator stopped answering; asking again\n");
        let second = Coordinator::start_at(address, Script { status: status(4, 0), ..Script::default() });
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stdout).unwrap().as_str()),
            (Some(0), said),
            "{words:?}"
        );
        drop(second);
    }
}

#[test]
fn waiting_ends_with_what_did_not_succeed_or_when_its_time_is_up() {
    let ended = Coordinator::start(Script { status: status(3, 1), ..Script::default() });
    let error =
        "error: sweep s ended with 3/4 trials done, 0 running, 1 failed; `sortie trials s` says why\n";
    assert_eq!(ended.refuses(&["wait", "s"], 1), error);
    assert_eq!(ended.refuses(&["wait", "nope"], 1), "error: no sweep is called \"nope\"; there is s\n");
    let slow = Coordinator::start(Script { status: status(3, 0), ..Script::default() });
    let error = slow.refuses(&["wait", "s", "--timeout", "0"], 1);
    assert!(error.starts_with("error: gave up after 0 s: "), "{error}");
    let error = slow.refuses(&["wait", "s", "--timeout", "1"], 1);
    assert_eq!(
        error,
        "error: gave up after 1 s: sweep s has 3/4 trials done, 0 running, time left: waits for a free worker\n"
    );
    let expanding = v1::SweepStatus { state: v1::SweepState::Expanding.into(), ..status(4, 0) };
    let growing = Coordinator::start(Script { status: expanding, ..Script::default() });
    assert!(growing.refuses(&["wait", "s", "--timeout", "1"], 1).contains("gave up"));
    let cancelled = v1::SweepStatus { cancelled: 1, ..status(3, 0) };
    let cancelled = Coordinator::start(Script { status: cancelled, ..Script::default() });
    assert!(cancelled.refuses(&["wait", "s"], 1).contains("3/4 trials done, 0 running, 1 cancelled"));
}

#[test]
fn a_sweep_is_controlled_as_it_was_said_and_nothing_is_sent_that_cannot_be_read() {
    let coordinator = Coordinator::start(Script::default());
    for (words, text) in [
        (&["pause", "s"][..], "sweep s is paused; trials that run go on\n"),
        (&["resume", "s"], "sweep s is open again, and so are its 3 trials that were cancelled\n"),
        (
            &["cancel", "s", "--where", "lr=0.1 and seed=2", "--state", "queued"],
            "sweep s: 3 trials cancelled\n",
        ),
        (&["retry", "s", "--state", "diverged"], "sweep s: 3 trials will run again\n"),
        (&["priority", "s", "-4"], "sweep s has priority -4\n"),
        (&["rename", "s", "t"], "sweep s is called t from now on; write that into its file, too\n"),
        (
            &["archive", "s"],
            "sweep s is archived; its results stay, and `sortie archive --undo s` takes it back\n",
        ),
        (
            &["archive", "s", "--undo"],
            "sweep s is listed again; its trials start again unless it is paused or cancelled\n",
        ),
    ] {
        assert_eq!(coordinator.says(words), text);
    }
    let json = coordinator.json(&["retry", "s"]);
    assert_eq!(json, json!({"sweep": "s", "action": "retry", "trials": 3}));
    for (words, part) in [
        (&["cancel", "s", "--where", "lr"][..], "AXIS=VALUE"),
        (&["cancel", "s", "--state", "succeeded"], "queued, running"),
        (&["retry", "s", "--where", ""], "AXIS=VALUE"),
        (&["retry", "s", "--state", "running"], "failed, diverged, cancelled"),
        (&["priority", "s", "high"], "high"),
    ] {
        assert!(coordinator.refuses(words, 2).contains(part), "{words:?}");
    }
    let expected = [
        r#"("s", Pause, "", Unspecified, 0)"#,
        r#"("s", Resume, "", Unspecified, 0)"#,
        r#"("s", Cancel, "lr=0.1 and seed=2", Queued, 0)"#,
        r#"("s", Retry, "", Diverged, 0)"#,
        r#"("s", Priority, "", Unspecified, -4)"#,
        r#"("s", Rename, "t")"#,
        r#"("s", Archive, "", Unspecified, 0)"#,
        r#"("s", Unarchive, "", Unspecified, 0)"#,
        r#"("s", Retry, "", Unspecified, 0)"#,
    ];
    assert_eq!(coordinator.asked(), expected);
}

fn trial() -> v1::Trial {
    let scalar =
        |value| v1::Scalar { value: Some(v1::scalar::Value::Number(value)), ..v1::Scalar::default() };
    let parameters = [("lr".to_owned(), scalar(1e-3)), ("batch".to_owned(), scalar(32.0))].into();
    v1::Trial {
        trial_id: "94f9de813446924ef6b1cf831eaa3ef4".into(),
        point: Some(v1::Point { held_out: vec![], parameters, seed: 1, split_seed: 0 }),
        state: v1::TrialState::Running.into(),
        attempts: 2,
        step: 4,
        steps: 9,
        worker: "gpu4:4711".into(),
        error: "lost: not heard from".into(),
        reused_from: String::new(),
    }
}

#[test]
fn a_trial_is_listed_and_explained() {
    let lost_event =
        v1::TrialEvent { ago_ms: 61_500, token: 17, what: "lost".into(), detail: "not heard from".into() };
    let started =
        v1::TrialEvent { ago_ms: 1_000, token: 18, what: "started".into(), detail: "on gpu4:4711".into() };
    let story = v1::ExplainResponse {
        sweep: "s".into(),
        trial: Some(trial()),
        token: 18,
        events: vec![lost_event, started],
        note: "old".into(),
        ..Default::default()
    };
    let coordinator = Coordinator::start(Script { trials: vec![trial()], story, ..Script::default() });
    assert_eq!(coordinator.says(&["trials", "s", "--where", "batch=32"]).lines().count(), 2);
    assert_eq!(coordinator.json(&["trials", "s", "--where", "lr=1"])["trials"], json!([]));
    let none = coordinator.run(&["trials", "s", "--where", "lr=1 and batch=32", "--state", "failed"]);
    assert_eq!(String::from_utf8(none.stderr).unwrap(), "no trial of sweep s has lr = 1: it has 1e-3\n");
    assert_eq!(String::from_utf8(none.stdout).unwrap(), "no trials meet these conditions\n");
    let error = coordinator.refuses(&["trials", "s", "--where", "speed=3"], 1);
    assert_eq!(
        error,
        "error: \"speed\" is not an axis of this sweep; its axes are batch, lr, sweep, held_out, seed, split\n"
    );
    let text = coordinator.says(&["explain", "s/94f9"]);
    let expected = "trial 94f9de813446924ef6b1cf831eaa3ef4 of sweep s
  state       running
  step        4/9
  attempts    2
  waits       old
  worker      gpu4:4711
  lr          1e-3
  batch       32
  seed        1
  split seed  0

61 s ago  attempt 1  lost     not heard from
 1 s ago  attempt 2  started  on gpu4:4711
";
    assert_eq!(text, expected);
    let json = coordinator.json(&["explain", "94f9"]);
    assert_eq!(
        (&json["trial"], &json["point"]["batch"]),
        (&"94f9de813446924ef6b1cf831eaa3ef4".into(), &json!(32.0))
    );
    assert_eq!(
        (&json["attempt"], &json["token"], &json["waits_seconds"]),
        (&json!(2), &json!(18), &json!(0.0))
    );
    assert_eq!((&json["reused_from"], &json["note"]), (&Value::Null, &json!("old")));
    let lost =
        json!({"ago_seconds": 61.5, "attempt": 1, "token": 17, "what": "lost", "detail": "not heard from"});
    assert_eq!(json["events"][0], lost);
    assert_eq!(coordinator.asked().last().unwrap(), "\"94f9\"");
}

#[test]
fn a_trial_whose_result_lacks_files_says_which() {
    let trial = v1::Trial { state: v1::TrialState::Succeeded.into(), ..trial() };
    let lacks = "final weights and logits".to_owned();
    let story = v1::ExplainResponse { sweep: "s".into(), trial: Some(trial), lacks, ..Default::default() };
    let coordinator = Coordinator::start(Script { story, ..Script::default() });
    let line = "  lacks       final weights and logits, for which `sortie submit` lets it run again\n";
    assert!(coordinator.says(&["explain", "94f9"]).contains(line));
    assert_eq!(coordinator.json(&["explain", "94f9"])["lacks"], "final weights and logits");
}

#[test]
fn a_linked_trial_says_to_what() {
    let trial = v1::Trial {
        reused_from: "other/94f9de81".into(),
        state: v1::TrialState::Succeeded.into(),
        error: String::new(),
        ..trial()
    };
    let story = v1::ExplainResponse { sweep: "s".into(), trial: Some(trial.clone()), ..Default::default() };
    let coordinator = Coordinator::start(Script { trials: vec![trial], story, ..Script::default() });
    assert!(coordinator.says(&["trials", "s"]).contains("other/94f9de81"));
    assert!(coordinator.says(&["explain", "s/94f9"]).contains("  result      reused from other/94f9de81\n"));
    assert_eq!(coordinator.json(&["explain", "s/94f9"])["reused_from"], "other/94f9de81");
}

#[test]
fn conditions_that_no_trial_meets_are_told_by_what_would_change_trials() {
    let coordinator =
        Coordinator::start(Script { trials: vec![trial()], changes_nothing: true, ..Script::default() });
    let output = coordinator.run(&["cancel", "s", "--where", "seed=4"]);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "no trial of sweep s has seed = 4: it has 1\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "sweep s: 0 trials cancelled\n");
    assert!(coordinator.run(&["retry", "s", "--where", "seed=1"]).stderr.is_empty(), "some trial meets it");
}

#[test]
fn logs_are_printed_byte_for_byte() {
    let logs = v1::LogsChunk { token: 17, worker: "gpu4:4711".into(), text: b"a\xff\r\n\x1b[1mb".to_vec() };
    let started = |token| v1::TrialEvent { token, what: "started".into(), ..Default::default() };
    let story = v1::ExplainResponse { events: vec![started(16), started(17)], ..Default::default() };
    let coordinator =
        Coordinator::start(Script { logs: logs.clone(), story: story.clone(), ..Script::default() });
    assert_eq!(coordinator.run(&["logs", "s/94f9"]).stdout, logs.text);
    let json = coordinator.json(&["logs", "94f9", "--attempt", "2"]);
    let text = "a\u{fffd}\r\n\u{1b}[1mb";
    assert_eq!(
        json,
        json!({"trial": "94f9", "attempt": 2, "token": 17, "worker": "gpu4:4711", "text": text})
    );
    let error = coordinator.refuses(&["logs", "94f9", "--attempt", "3"], 1);
    assert_eq!(error, "error: trial 94f9 has no attempt 3: there were 2\n");
    let asked: Vec<String> = coordinator.asked().into_iter().filter(|asked| asked.starts_with('(')).collect();
    assert_eq!(asked, ["(\"s/94f9\", 0)", "(\"94f9\", 17)"]);
    let silent = Coordinator::start(Script {
        logs: v1::LogsChunk { text: vec![], ..logs },
        story,
        ..Script::default()
    });
    let output = silent.run(&["logs", "94f9"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "attempt 2 at trial 94f9 printed nothing\n");
    let none = Coordinator::start(Script::default());
    assert_eq!(none.refuses(&["logs", "94f9"], 1), "error: no attempt at trial 94f9 has started yet\n");
}

#[test]
fn a_verification_waits_for_both_runs_and_tells_the_certificate() {
    let certificate = v1::Certificate {
        identical: true,
        weights_digest: "ab".into(),
        metrics_digest: "cd".into(),
        kill_at: 12,
        resumed_at: Some(9),
        steps: 15,
        worker: "gpu4:4711".into(),
        difference: String::new(),
    };
    let coordinator = Coordinator::start(Script {
        status: status(4, 0),
        certificate: certificate.clone(),
        ..Script::default()
    });
    let words = ["verify", "s/94f9", "--kill-at", "12", "--steps", "15"];
    let text = "identical\n  killed   at step 12 of 15, resumed after step 9\n  worker   gpu4:4711\n  weights  ab\n  metrics  cd\n";
    assert_eq!(coordinator.says(&words), text);
    let json = coordinator.json(&words[..4]);
    let expected = json!({"identical": true, "weights_digest": "ab", "metrics_digest": "cd", "kill_at": 12, "resumed_at": 9, "steps": 15,
        "worker": "gpu4:4711", "difference": null});
    assert_eq!(json, expected);
    let (a, b) = ("verify-94f9de81-1-a", "verify-94f9de81-1-b");
    let asked = |steps| {
        vec![
            format!("(\"s/94f9\", 12, {steps})"),
            format!("{a:?}"),
            format!("{b:?}"),
            format!("(\"s/94f9\", [{a:?}, {b:?}])"),
        ]
    };
    assert_eq!(coordinator.asked(), [asked("Some(15)"), asked("None")].concat());
    let differs = v1::Certificate {
        identical: false,
        resumed_at: None,
        difference: "it started again".into(),
        ..certificate
    };
    let differs =
        Coordinator::start(Script { status: status(4, 0), certificate: differs, ..Script::default() });
    let output = differs.run(&words);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("NOT identical: it started again\n  killed   at step 12 of 15, not resumed\n")
    );
}

#[test]
fn a_verification_that_cannot_end_is_called_off() {
    let failed = Coordinator::start(Script { status: status(3, 1), ..Script::default() });
    let output = failed.run(&["verify", "94f9", "--kill-at", "12"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && error.contains("verify-94f9de81-1-a ended with 3/4 trials done"),
        "{error}"
    );
    // Its worker is not among those that there are.
    let alone = Coordinator::start(Script { status: status(0, 0), ..Script::default() });
    let output = alone.run(&["verify", "94f9", "--kill-at", "12"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("worker gpu4:4711 left before"), "{error}");
    let calls_off =
        |sweep: &str| alone.asked().contains(&format!("({sweep:?}, Cancel, \"\", Unspecified, 0)"));
    assert!(calls_off("verify-94f9de81-1-a") && calls_off("verify-94f9de81-1-b"), "{:?}", alone.asked());
    assert!(alone.refuses(&["verify", "94f9", "--kill-at", "2"], 2).contains("--kill-at"));
}

#[test]
fn a_sweep_without_domains_has_a_table_and_no_figure() {
    let command = v1::Command {
        words: vec!["true".into()],
        dataset: None,
        domains: vec![],
        steps: None,
        complete_at: None,
    };
    let work = v1::Work { kind: Some(v1::work::Kind::Command(command)) };
    let v1::Trial { trial_id, point, state, .. } = trial();
    let result = v1::TrialResult { trial_id, point, state, ..Default::default() };
    let results = vec![
        v1::ResultsChunk { work: Some(work), trials: vec![] },
        v1::ResultsChunk { work: None, trials: vec![result] },
    ];
    let coordinator = Coordinator::start(Script { results, ..Script::default() });
    let table = coordinator.says(&["results", "s"]);
    assert!(table.contains("accuracy (out split, mean over domains)") && table.contains("0/1"), "{table}");
    let error = coordinator.refuses(&["figure", "s", "--kind", "rates", "-o", "x.svg"], 1);
    assert!(error.contains("holds out no domain"), "{error}");
}

#[test]
fn seeds_are_added_by_their_number_in_all() {
    let text = "name = 's'\n[run]\ncommand = ['true']\n[grid]\nseeds = 3\n";
    let spec = serde_json::to_string(&SweepSpec::parse(text, None).unwrap()).unwrap();
    let (planned, added, reused, done) = (6, 3, 1, true);
    let done =
        v1::SubmitProgress { sweep: "s".into(), planned, expanded: 6, added, reused, done, lacking: None };
    let coordinator = Coordinator::start(Script { spec, progress: vec![done], ..Script::default() });
    let said = coordinator.says(&["extend", "s", "--seeds", "+3"]);
    assert_eq!(
        said,
        "sweep s: 6 seeds, 3 trials added; 1 of them have succeeded in other sweeps and will not run again\n"
    );
    let json = coordinator.json(&["extend", "s", "--seeds", "9"]);
    assert_eq!(json, json!({ "sweep": "s", "seeds": 9, "added": 3, "reused": 1, "difference": null }));
    assert_eq!(coordinator.asked(), [r#"("s", 6)"#, r#"("s", 9)"#]);
    for (words, said) in [
        (&["extend", "s"][..], "--seeds"),
        (&["extend", "s", "--seeds", "0"], "+3 for three more"),
        (&["extend", "s", "--until-se", "0.01"], "--paired"),
        (&["extend", "s", "--until-se", "0.01", "--paired", "a=1", "a=2"], "--trials-max"),
    ] {
        let error = coordinator.refuses(words, 2);
        assert!(error.contains(said), "{words:?}: {error}");
    }
}

#[test]
fn a_report_is_one_file_that_is_there_as_a_whole() {
    let text = "name = 's'\n[run]\ncommand = ['true']\n[grid]\nlr = [1, 2]\nheld_out = ['<b>', 'photo']\n";
    let sweep = SweepSpec::parse(text, None).unwrap();
    let state = StateName::Queued;
    let records = sweep.trials().map(|trial| TrialRecord {
        id: trial.hash(),
        point: trial.point,
        state,
        validation: vec![],
        held_out: vec![],
    });
    let trials = records.map(v1::TrialResult::from).collect();
    let results = vec![v1::ResultsChunk { work: Some((&sweep.work).into()), trials }];
    let coordinator = Coordinator::start(Script {
        spec: serde_json::to_string(&sweep).unwrap(),
        results,
        ..Script::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.html");
    std::fs::write(&path, "old").unwrap();
    let file = path.to_str().unwrap();
    assert_eq!(coordinator.says(&["report", "s", "-o", file]), format!("wrote {file}\n"));
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(
        page.starts_with("<!DOCTYPE html>")
            && page.contains("0 of 4 trials have a result")
            && page.contains("&lt;b&gt;"),
        "{page}"
    );
    assert!(page.contains("sortie report s -o report.html"), "{page}");
    let json = coordinator
        .json(&["report", "s", "--select", "last,iid", "--method", "plain", "--date", "today", "-o", file]);
    assert_eq!(json, json!({"sweep": "s", "output": file, "trials": 4}));
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(
        page.contains("sortie report s --select last,iid --method plain -o report.html")
            && page.contains("<dd>today</dd>"),
        "{page}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    let nowhere = folder.path().join("no/r.html");
    let error = coordinator.refuses(&["report", "s", "-o", nowhere.to_str().unwrap()], 1);
    assert!(error.starts_with("error: cannot write "), "{error}");
    assert!(coordinator.refuses(&["report", "s", "-o", "r.pdf"], 1).contains("must be .html"));
    assert!(
        coordinator
            .refuses(&["report", "s", "--select", "best", "-o", file], 2)
            .contains("iid, loo, oracle, last")
    );
}
