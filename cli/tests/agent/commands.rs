//! Commands as trials: real processes under the real guard.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::spec::SweepSpec;
use sortie_core::trial::TrialSpec;
use sortie_proto::v1;

use crate::fake::{Fake, Heard, eventually};
use crate::scripted::Agent;
use crate::worker::{Worker, command_trial, is_alive, process_in, shell};

const JUDGED: &str = r#"echo '{"step":0,"domain":"oil","split":"in","n":10,"correct":4}'"#;

/// An outcome, or a failure's class with some words of its message.
type Expected = Result<Outcome, (ErrorClass, String)>;

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_command_has_its_outcome() {
    let agent = Agent::start("exit 9").await;
    let failed = |class, text: &str| Err((class, text.to_owned()));
    let cases: Vec<(String, Expected)> = vec![
        (format!("{JUDGED}; echo done"), Ok(Outcome::Succeeded)),
        // The last line has no newline.
        (r#"printf '{"step":0,"domain":"oil","split":"in","value":0.5}'"#.into(), Ok(Outcome::Succeeded)),
        (
            format!(r#"{JUDGED}; echo '{{"diverged":{{"step":7}}}}'; exit 3"#),
            Ok(Outcome::Diverged { step: 7 }),
        ),
        (r#"echo '{"step":3,"loss":NaN}'"#.into(), Ok(Outcome::Diverged { step: 3 })),
        (
            r#"echo '{"step":4,"domain":"oil","split":"in","value":0.5,"loss":Infinity}'; exit 1"#.into(),
            Ok(Outcome::Diverged { step: 4 }),
        ),
        ("echo not json; echo '{\"epoch\":3}'".into(), failed(ErrorClass::BadConfig, "printed no metrics")),
        (
            format!("{JUDGED}; echo no such image >&2; exit 65"),
            failed(ErrorClass::BadData, "crashed, exit 65; it printed last: no such image"),
        ),
        ("exit 78".into(), failed(ErrorClass::BadConfig, "crashed, exit 78")),
        ("exit 75".into(), failed(ErrorClass::Transient, "crashed, exit 75")),
        (format!("{JUDGED}; exit 1"), failed(ErrorClass::Crashed, "crashed, exit 1")),
        ("no-such-program".into(), failed(ErrorClass::Machine, "crashed, exit 127")),
        ("kill -SEGV $$".into(), failed(ErrorClass::Transient, "signal 11 (SIGSEGV)")),
        ("kill -TERM $$".into(), failed(ErrorClass::Transient, "signal 15 (SIGTERM)")),
        ("kill -9 $$".into(), failed(ErrorClass::Transient, "signal 9 (SIGKILL)")),
        (
            "echo 'torch.OutOfMemoryError: CUDA out of memory.' >&2; exit 1".into(),
            failed(ErrorClass::OutOfMemory, "CUDA out of memory"),
        ),
        (
            format!(
                r#"{JUDGED}; echo '{{"step":0,"domain":"oil","split":"in","n":10,"correct":5}}'; sleep 60"#
            ),
            failed(ErrorClass::BadConfig, "at step 0 was reported before, as 0.4"),
        ),
        (format!("{JUDGED}; {JUDGED}"), Ok(Outcome::Succeeded)),
        (
            r#"echo '{"step":0,"domain":"oil","split":"val","value":1}'"#.into(),
            failed(ErrorClass::BadConfig, "\"val\" is not a split; allowed: in, out: {\"step\":0"),
        ),
        (
            r#"echo '{"step":11,"loss":1}'; sleep 60"#.into(),
            failed(ErrorClass::BadConfig, "after the sweep's last step, 9"),
        ),
        (
            r#"echo '{"step":1,"domain":"ink","split":"in","value":1}'; sleep 60"#.into(),
            failed(ErrorClass::BadConfig, "domain \"ink\" is not allowed; allowed: oil, pen"),
        ),
    ];
    for (script, expected) in cases {
        let token = agent.fake.queue(&shell(&script, &["oil", "pen"], Some(9)));
        let outcome = agent.fake.wait_for_outcome(token).await;
        match (expected, outcome) {
            (Err((class, text)), Outcome::Failed { class: reported, message }) => {
                assert_eq!(reported, class, "{script}: {message}");
                assert!(message.contains(&text) && message.lines().count() == 1, "{script}: {message}");
            }
            (expected, outcome) => assert_eq!(expected, Ok(outcome), "{script}"),
        }
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_run_is_named() {
    let agent = Agent::start("exit 9").await;
    for (program, reason) in [("/no/such/program", "No such file"), ("/etc/passwd", "Permission denied")] {
        let token = agent.fake.queue(&command_trial(&[program], &[], None));
        let outcome = agent.fake.wait_for_outcome(token).await;
        let Outcome::Failed { class: ErrorClass::Machine, message } = outcome else { panic!("{outcome:?}") };
        assert!(message.contains(&format!("cannot run \"{program}\": {reason}")), "{message}");
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_metrics_and_output_go_where_they_are_promised() {
    let script = r#"echo "$SORTIE_PARAM_LR {lr} $SORTIE_PARAM_SEED {held_out} {data} $SORTIE_PARAM_DEVICE $OMP_NUM_THREADS [$CUDA_VISIBLE_DEVICES]"
pwd; echo '{{"step":0,"loss":1.5}}'; echo problem >&2; [ -z "$(cat)" ] && echo no input
echo '{{"step":3,"domain":"oil","split":"out","n":4,"correct":1,"loss":0.5,"method":"ensemble"}}'"#;
    let agent = Agent::start("exit 9").await;
    let token = agent.fake.queue(&command_trial(&["sh", "-c", script], &[], None));
    assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
    let batches = agent.fake.batches(token);
    let evaluation = v1::Evaluation {
        method: "ensemble".into(),
        step: 3,
        domain: "oil".into(),
        split: "out".into(),
        n: Some(4),
        correct: 1,
        loss: Some(0.5),
        ..v1::Evaluation::default()
    };
    let evaluations: Vec<_> = batches.iter().flat_map(|batch| batch.evaluations.clone()).collect();
    let losses: Vec<v1::TrainingLoss> = batches.iter().flat_map(|batch| batch.losses.clone()).collect();
    let (loss_at, evaluation_at) = (losses[0].seconds, evaluations[0].seconds);
    assert!(loss_at.is_some() && loss_at <= evaluation_at, "{loss_at:?} {evaluation_at:?}");
    assert_eq!(evaluations, [v1::Evaluation { seconds: evaluation_at, ..evaluation }]);
    assert_eq!(losses, [v1::TrainingLoss { step: 0, loss: 1.5, seconds: loss_at }]);
    let fingerprint = batches[0].fingerprint.clone().unwrap();
    assert_eq!((fingerprint.device.as_str(), fingerprint.threads), ("cpu", 3));
    assert!(fingerprint.software.starts_with("sortie ") && fingerprint.dataset_digest.is_empty());
    let log = String::from_utf8(batches.iter().flat_map(|batch| batch.log.clone()).collect()).unwrap();
    let data = agent.folder.path().join("Any");
    let first = format!("1e-3 1e-3 7 oil {} cpu 3 []", data.display());
    let here = std::env::current_dir().unwrap();
    for line in [first.as_str(), here.to_str().unwrap(), "problem", "no input"] {
        assert!(log.lines().any(|reported| reported == line), "{line:?} is not in {log}");
    }
    assert!(!log.contains("step"), "{log}");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_output_is_told_by_its_beginning_and_its_end() {
    let agent = Agent::start("exit 9").await;
    let script = format!("echo first; seq 1 40000; {JUDGED}; seq 40001 60000; echo last");
    let token = agent.fake.queue(&shell(&script, &[], None));
    assert_eq!(agent.fake.wait_for_outcome(token).await, Outcome::Succeeded);
    let log: Vec<u8> = agent.fake.batches(token).into_iter().flat_map(|batch| batch.log).collect();
    let log = String::from_utf8(log).unwrap();
    assert!(
        log.len() < (80 << 10) + 100 && log.starts_with("first\n1\n2\n") && log.ends_with("60000\nlast\n"),
        "{}",
        log.len()
    );
    assert_eq!(log.matches("bytes were left out here ...]").count(), 1);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_runs_commands_only_where_that_is_allowed() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(folder.path(), &fake.url(), &["--tag", "night", "--exit-when-idle"]);
    let token =
        fake.queue(&shell(&format!("touch {}; {JUDGED}", folder.path().join("ran").display()), &[], None));
    let outcome = fake.wait_for_outcome(token).await;
    let Outcome::Failed { class: ErrorClass::Preempted, message } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("--allow-commands"), "{message}");
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    assert!(!folder.path().join("ran").exists());
    let introduced = |heard: Heard| if let Heard::Register(request) = heard { Some(request) } else { None };
    let first = fake.heard().into_iter().find_map(introduced).unwrap();
    assert_eq!(
        (first.allow_commands, first.tags, first.slots, first.gpu_memory_gib),
        (false, vec!["night".to_owned()], 1, 0.0)
    );
    assert_eq!(fake.heard().last(), Some(&Heard::Leave));

    let mut allowed = Worker::start(folder.path(), &fake.url(), &["--allow-commands", "--exit-when-idle"]);
    let token = fake.queue(&shell(JUDGED, &[], None));
    assert_eq!(fake.wait_for_outcome(token).await, Outcome::Succeeded);
    assert_eq!(allowed.ended().await.code(), Some(0), "{}", allowed.stderr());
    assert!(fake.heard().into_iter().filter_map(introduced).any(|request| request.allow_commands));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_the_workers_environment_but_not_its_secrets() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let below =
        ["env", "--default-signal=HUP", "AWS_SECRET_ACCESS_KEY=hush", "SORTIE_ACCESS=/a", "AWS_REGION=here"];
    let options = ["--allow-commands", "--exit-when-idle"];
    let mut worker = Worker::start_below(&below, Path::new("."), folder.path(), &fake.url(), &options);
    let seen = folder.path().join("seen");
    let trial = format!("env > {}; {JUDGED}", seen.display());
    let token = fake.queue(&shell(&trial, &[], None));
    assert_eq!(fake.wait_for_outcome(token).await, Outcome::Succeeded);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    let seen = fs::read_to_string(seen).unwrap();
    assert!(!seen.contains("hush") && !seen.contains("SORTIE_ACCESS"), "{seen}");
    assert!(seen.contains("AWS_REGION=here\n") && seen.contains("SORTIE_PARAM_LR=1e-3\n"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_holds_what_was_acknowledged_and_nothing_else() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let worker = Worker::start(folder.path(), &fake.url(), &["--allow-commands"]);
    let lines = || -> Vec<serde_json::Value> {
        let text = fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // The first answer is lost: the same batch is reported again, and noted once.
    fake.script(|script| script.reports_lost = 1);
    let trial = shell(
        &format!(r#"echo '{{"step":0,"loss":0.5}}'; {JUDGED}; sleep 1.5; echo '{{"step":1,"loss":-2.0}}'"#),
        &[],
        None,
    );
    let token = fake.queue(&trial);
    assert_eq!(fake.wait_for_outcome(token).await, Outcome::Succeeded);
    eventually("the last line", || lines().last().filter(|line| line["outcome"] == "succeeded").map(|_| ()))
        .await;
    let noted = lines();
    assert!(
        noted.iter().all(|line| line["token"] == token && line["trial"] == trial.hash().to_string()),
        "{noted:?}"
    );
    let sequences: Vec<_> = noted.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=noted.len() as u64).collect::<Vec<_>>());
    let all =
        |key: &str| noted.iter().flat_map(|line| line[key].as_array().unwrap().clone()).collect::<Vec<_>>();
    assert_eq!(
        all("losses"),
        [serde_json::json!([0, "3fe0000000000000"]), serde_json::json!([1, "c000000000000000"])]
    );
    let judged = serde_json::json!({ "method": "plain", "step": 0, "domain": "oil", "split": "in", "n": 10, "correct": 4, "loss": null, "value": null, "metrics": {} });
    assert_eq!(all("evaluations"), [judged]);
    assert_eq!(noted.iter().filter(|line| !line["outcome"].is_null()).count(), 1);
    // What is refused is not noted.
    let refused = fake.queue(&shell(&format!("sleep 1; {JUDGED}"), &[], None));
    fake.script(|script| script.stale.insert(refused));
    eventually("the refusal", || worker.stderr().contains("lost").then_some(())).await;
    assert_eq!(lines(), noted);
}

/// A command that is deaf to polite signals, with an orphan that nothing but its reaper can reach: a session and a group of its own, no
/// standard input, a parent that is gone.
const STUBBORN: &str = r#"trap '' TERM HUP INT
(setsid sh -c 'exec <&- >/dev/null 2>&1; echo $$ > FOLDER/stubborn; while true; do sleep 0.1; done' &)
echo $$ > FOLDER/deaf; while true; do sleep 0.1; done"#;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_command_survives_a_killed_agent() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    fake.queue(&shell(&STUBBORN.replace("FOLDER", folder.path().to_str().unwrap()), &[], None));
    let mut worker = Worker::start(folder.path(), &fake.url(), &["--allow-commands"]);
    let pids =
        [process_in(&folder.path().join("stubborn")).await, process_in(&folder.path().join("deaf")).await];
    assert!(pids.into_iter().all(is_alive));
    worker.child.kill().unwrap();
    worker.child.wait().unwrap();
    let dead = async { eventually("their end", || (!pids.into_iter().any(is_alive)).then_some(())).await };
    tokio::time::timeout(Duration::from_secs(5), dead).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_stop_is_killed_with_all_it_started_and_handed_back_in_time() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = fake.queue(&shell(&STUBBORN.replace("FOLDER", folder.path().to_str().unwrap()), &[], None));
    let mut worker = Worker::start(folder.path(), &fake.url(), &["--allow-commands", "--grace", "1"]);
    let pids =
        [process_in(&folder.path().join("stubborn")).await, process_in(&folder.path().join("deaf")).await];
    worker.signal(rustix::process::Signal::TERM);
    // The grace and two seconds; the rest is for a machine that does other things too.
    let ended = tokio::time::timeout(Duration::from_secs(6), worker.ended()).await.unwrap();
    assert_eq!(ended.code(), Some(0), "{}", worker.stderr());
    let Some(Outcome::Failed { class, .. }) = fake.outcome(token) else { panic!("{}", worker.stderr()) };
    assert_eq!(class, ErrorClass::Preempted);
    eventually("their end", || (!pids.into_iter().any(is_alive)).then_some(())).await;
    assert_eq!(fake.heard().last(), Some(&Heard::Leave));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_may_end_in_good_order_within_the_grace() {
    let agent = Agent::start("exit 9").await;
    let saved = agent.folder.path().join("saved");
    let script = format!(
        r#"{JUDGED}; trap 'echo saved > {}; exit 0' TERM; touch "{}.ready"; while true; do sleep 0.05; done"#,
        saved.display(),
        saved.display()
    );
    let token = agent.fake.queue(&shell(&script, &[], None));
    eventually("its start", || saved.with_extension("ready").exists().then_some(())).await;
    let Agent { folder: _folder, fake, stop, task } = agent;
    stop.send_replace(sortie_worker::Stop::Gracefully);
    task.await.unwrap().unwrap();
    // It may have broken off in the middle, so its exit status says nothing.
    let outcome = fake.outcome(token);
    assert!(matches!(outcome, Some(Outcome::Failed { class: ErrorClass::Preempted, .. })), "{outcome:?}");
    assert_eq!(fs::read_to_string(saved).unwrap(), "saved\n");
}

/// Slurm signals every process of a job at once; the command may be gone before its agent knows why.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_signalled_just_before_its_agent_is_handed_back() {
    let agent = Agent::start("exit 9").await;
    let ready = agent.folder.path().join("ready");
    let token = agent.fake.queue(&shell(&format!("echo $$ > '{}'; sleep 60", ready.display()), &[], None));
    let command = process_in(&ready).await;
    let command = rustix::process::Pid::from_raw(command.try_into().unwrap()).unwrap();
    rustix::process::kill_process(command, rustix::process::Signal::TERM).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let Agent { folder: _folder, fake, stop, task } = agent;
    stop.send_replace(sortie_worker::Stop::Gracefully);
    task.await.unwrap().unwrap();
    let outcome = fake.outcome(token);
    assert!(matches!(outcome, Some(Outcome::Failed { class: ErrorClass::Preempted, .. })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_succeeds_diverges_and_fails_as_it_says() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3");
        return;
    }
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(clone.join("examples/command.toml")).unwrap();
    let sweep = SweepSpec::parse(&text, None).unwrap();
    assert!(sweep.require.commands);
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let trials: Vec<(TrialSpec, i64)> =
        sweep.trials().map(|trial| (trial.clone(), fake.queue(&trial))).collect();
    let mut worker = Worker::start_in(
        clone,
        folder.path(),
        &fake.url(),
        &["--allow-commands", "--slots", "2", "--exit-when-idle"],
    );
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    for (trial, token) in &trials {
        let value = |axis: &str| trial.point.parameters[axis].to_string();
        let outcome = fake.outcome(*token);
        match (value("labels").as_str(), value("lr").as_str()) {
            ("lost", _) => assert!(
                matches!(outcome, Some(Outcome::Failed { class: ErrorClass::BadData, .. })),
                "{outcome:?}"
            ),
            (_, "1e6") => assert!(matches!(outcome, Some(Outcome::Diverged { step: 1.. })), "{outcome:?}"),
            _ => assert_eq!(outcome, Some(Outcome::Succeeded)),
        }
    }
    assert_eq!(trials.len(), 18);
    let (_, token) =
        trials.iter().find(|(_, token)| fake.outcome(*token) == Some(Outcome::Succeeded)).unwrap();
    let batches = fake.batches(*token);
    // Six evaluation steps, three domains, two splits; a training loss at each of the 101 steps.
    assert_eq!(batches.iter().map(|batch| batch.evaluations.len()).sum::<usize>(), 36);
    assert_eq!(batches.iter().map(|batch| batch.losses.len()).sum::<usize>(), 101);
}
