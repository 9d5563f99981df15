//! The worker against a coordinator in the test's process: the real program, real processes, real signals.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions as tests, but not what they share")]

mod artifacts;
mod commands;
mod fake;
mod lifetimes;
mod logs;
mod scripted;
mod sharing;
mod waiting;
mod worker;

use std::path::Path;
use std::time::Duration;

use fake::{Fake, Heard, eventually};
use rustix::process::Signal;
use sortie_core::job::{ErrorClass, Outcome};
use tonic::Status;
use worker::{Worker, command, is_trial, make_endless, make_images, spec, wait_for_death, without_libtorch};

fn class(outcome: &Outcome) -> Option<ErrorClass> {
    match outcome {
        Outcome::Failed { class, .. } => Some(*class),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_in_one_line() {
    let fake = Fake::start().await;
    for by_status in [true, false] {
        fake.script(|script| match by_status {
            true => {
                script.refuse_register =
                    Some(Status::failed_precondition("sortie 9 speaks version 99 of the protocol"))
            }
            false => (script.refuse_register, script.api_version) = (None, Some(99)),
        });
        let folder = tempfile::tempdir().unwrap();
        let mut worker = Worker::start(folder.path(), &fake.url(), &[]);
        assert_eq!(worker.ended().await.code(), Some(1));
        let stderr = worker.stderr();
        assert!(
            stderr.lines().count() == 1 && stderr.starts_with("error: ") && stderr.contains("version 99"),
            "{stderr}"
        );
    }
}

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    for arguments in [
        &["--coordinator", "nonsense"][..],
        &["--coordinator", "https://127.0.0.1:7070"],
        &["--devices", "cuda:77"],
    ] {
        let output = command().arg("worker").args(arguments).output().unwrap();
        let stderr = without_libtorch(&String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.lines().count() == 1 && stderr.starts_with("error: "), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_exits_only_when_told_to() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut leaving = Worker::start(folder.path(), &fake.url(), &["--exit-when-idle", "--sweep", "some"]);
    assert_eq!(leaving.ended().await.code(), Some(0), "{}", leaving.stderr());
    let asked = fake
        .heard()
        .into_iter()
        .find_map(|heard| if let Heard::Lease(request) = heard { Some(request) } else { None })
        .unwrap();
    assert_eq!((asked.count_max, asked.sweep.as_str(), asked.return_when_idle), (1, "some", true));

    let mut staying = Worker::start(folder.path(), &fake.url(), &["--slots", "3", "--stop-on-stdin-close"]);
    let stayed = |heard: &Heard| matches!(heard, Heard::Lease(request) if request.count_max == 3 && !request.return_when_idle);
    eventually("a request", || fake.heard().iter().any(stayed).then_some(())).await;
    assert!(staying.child.try_wait().unwrap().is_none());
    drop(staying.child.stdin.take());
    assert_eq!(staying.ended().await.code(), Some(0), "{}", staying.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_folder_fails_the_trial_by_path_and_the_worker_lives_on() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let tokens = [fake.queue(&spec("Gone", 0)), fake.queue(&spec("Gone", 1))];
    let mut worker = Worker::start(folder.path(), &fake.url(), &["--exit-when-idle"]);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    for token in tokens {
        let Some(Outcome::Failed { class, message }) = fake.outcome(token) else {
            panic!("{:?}", fake.heard())
        };
        assert_eq!(class, ErrorClass::Machine);
        let path = folder.path().join("data/Gone");
        assert!(message.contains(path.to_str().unwrap()) && message.lines().count() == 1, "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_ends_the_process_without_another_word() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    make_endless(folder.path(), "Endless");
    let lost = fake.queue(&spec("Endless", 0));
    let worker = Worker::start(folder.path(), &fake.url(), &[]);
    let trial = worker.trial().await;
    let told = |heard: &Heard| matches!(heard, Heard::Heartbeat(attempts) if attempts.iter().any(|(token, _)| *token == lost));
    eventually("a heartbeat", || fake.heard().iter().any(told).then_some(())).await;
    fake.script(|script| script.stale.insert(lost));
    wait_for_death(trial).await;
    let next = fake.queue(&spec("Gone", 1));
    assert_eq!(class(&fake.wait_for_outcome(next).await), Some(ErrorClass::Machine));
    assert_eq!(fake.outcome(lost), None);
    let silent = |heard: &Heard| matches!(heard, Heard::Heartbeat(attempts) if attempts.is_empty());
    eventually("silence about it", || fake.heard().last().is_some_and(silent).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trial_survives_a_killed_agent() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    make_endless(folder.path(), "Endless");
    for seed in 0..2 {
        fake.queue(&spec("Endless", seed));
    }
    let mut worker = Worker::start(folder.path(), &fake.url(), &["--slots", "2"]);
    let trial = worker.trial().await;
    worker.child.kill().unwrap();
    worker.child.wait().unwrap();
    wait_for_death(trial).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_to_stop_hands_its_trials_back() {
    // Twice, as `timeout` does, which signals a program and its group; and as the end of a login does.
    for signals in [[Signal::TERM, Signal::TERM], [Signal::HUP, Signal::HUP]] {
        let fake = Fake::start().await;
        let folder = tempfile::tempdir().unwrap();
        make_endless(folder.path(), "Endless");
        let tokens = [fake.queue(&spec("Endless", 0)), fake.queue(&spec("Endless", 1))];
        let mut worker = Worker::start(folder.path(), &fake.url(), &["--slots", "2"]);
        let trial = worker.trial().await;
        let both = |heard: &Heard| matches!(heard, Heard::Heartbeat(attempts) if attempts.len() == 2);
        eventually("both", || fake.heard().iter().any(both).then_some(())).await;
        for signal in signals {
            worker.signal(signal);
        }
        assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
        for token in tokens {
            let outcome = fake.outcome(token);
            let class = outcome.as_ref().and_then(class);
            assert_eq!(class, Some(ErrorClass::Preempted), "{}", worker.stderr());
        }
        assert!(!is_trial(trial));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_nohup_the_end_of_the_terminal_stops_nothing() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    make_endless(folder.path(), "Endless");
    let token = fake.queue(&spec("Endless", 0));
    let ignoring = ["env", "--ignore-signal=HUP"];
    let mut worker = Worker::start_below(&ignoring, Path::new("."), folder.path(), &fake.url(), &[]);
    let trial = worker.trial().await;
    worker.signal(Signal::HUP);
    let heard = fake.heard().len();
    let alive = |heard: &Heard| matches!(heard, Heard::Heartbeat(attempts) if attempts.len() == 1);
    let beats = || fake.heard().iter().skip(heard).filter(|heard| alive(heard)).count();
    eventually("heartbeats", || (beats() > 3).then_some(())).await;
    assert!(is_trial(trial) && fake.outcome(token).is_none());
    worker.signal(Signal::TERM);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_a_coordinator_that_is_gone() {
    for (signals, code) in [(1, 0), (2, 1)] {
        let mut fake = Fake::start().await;
        let folder = tempfile::tempdir().unwrap();
        make_endless(folder.path(), "Endless");
        fake.queue(&spec("Endless", 0));
        let mut worker = Worker::start(folder.path(), &fake.url(), &[]);
        let trial = worker.trial().await;
        fake.kill();
        worker.signal(Signal::INT);
        if signals == 2 {
            eventually("the first stop", || worker.stderr().contains("handing trials back").then_some(()))
                .await;
            // Long enough after the first that it is no echo of it.
            tokio::time::sleep(Duration::from_secs(1)).await;
            worker.signal(Signal::INT);
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), worker.ended()).await.unwrap();
        assert_eq!(ended.code(), Some(code), "{}", worker.stderr());
        assert!(!is_trial(trial));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_its_coordinator_and_attaches_again_to_a_restarted_one() {
    let mut fake = Fake::stopped().await;
    let folder = tempfile::tempdir().unwrap();
    make_endless(folder.path(), "Endless");
    let worker = Worker::start(folder.path(), &fake.url(), &["--slots", "2"]);
    eventually("a line", || worker.stderr().contains("cannot reach the coordinator").then_some(())).await;
    fake.queue(&spec("Endless", 0));
    fake.resume().await;
    let trial = worker.trial().await;
    fake.kill();
    eventually("the loss", || {
        (worker.stderr().matches("cannot reach the coordinator").count() == 2).then_some(())
    })
    .await;
    let before = fake.heard().len();
    fake.resume().await;
    let next = fake.queue(&spec("Gone", 1));
    fake.wait_for_outcome(next).await;
    let since = fake.heard().split_off(before);
    assert!(matches!(since.first(), Some(Heard::Register(_))), "{since:?}");
    eventually("a heartbeat", || {
        fake.heard()
            .iter()
            .skip(before)
            .any(|heard| matches!(heard, Heard::Heartbeat(running) if running.len() == 1))
            .then_some(())
    })
    .await;
    assert!(is_trial(trial), "the outage ended a trial");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_another_build_would_name_differently_is_handed_back_and_the_worker_stops() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = fake.queue_as(&spec("Gone", 0), &"0".repeat(32));
    let mut worker = Worker::start(folder.path(), &fake.url(), &[]);
    assert_eq!(worker.ended().await.code(), Some(1));
    assert_eq!(fake.outcome(token).as_ref().and_then(class), Some(ErrorClass::Preempted));
    assert!(worker.stderr().contains("use builds of one version"), "{}", worker.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_trial_trains_and_reports() {
    let user = directories::BaseDirs::new().map(|folders| folders.cache_dir().join("sortie"));
    let cache = std::env::var_os("SORTIE_CACHE").map(Into::into).or(user).unwrap();
    let weights = cache.join("weights");
    if !weights.join("efficientnet-lite0.pth").exists() {
        eprintln!("skipped: there are no weights in {}; `cargo xtask setup` gets them", weights.display());
        return;
    }
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    make_images(folder.path(), "Tiny");
    std::fs::create_dir(folder.path().join("cache")).unwrap();
    std::os::unix::fs::symlink(&weights, folder.path().join("cache/weights")).unwrap();
    let token = fake.queue(&spec("Tiny", 0));
    // Answers get lost on the way: what was said twice must be stored once.
    fake.script(|script| script.reports_lost = 3);
    let mut worker = Worker::start(folder.path(), &fake.url(), &["--exit-when-idle"]);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    assert_eq!(fake.outcome(token), Some(Outcome::Succeeded), "{}", worker.stderr());
    let batches = fake.batches(token);
    let sequences: Vec<u64> = batches.iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, (1..=batches.len() as u64).collect::<Vec<_>>());
    assert!(batches[0].fingerprint.is_some() && batches[1..].iter().all(|batch| batch.fingerprint.is_none()));
    let steps: Vec<u64> =
        batches.iter().flat_map(|batch| batch.losses.iter().map(|loss| loss.step)).collect();
    assert_eq!(steps, (0..=20).collect::<Vec<_>>());
    let evaluations: Vec<(u64, String, String)> = batches
        .iter()
        .flat_map(|batch| {
            batch.evaluations.iter().map(|row| (row.step, row.domain.clone(), row.split.clone()))
        })
        .collect();
    let expected = [0, 10, 20]
        .into_iter()
        .flat_map(|step| [("ink", "out"), ("oil", "in"), ("oil", "out")].map(|row| (step, row)));
    assert_eq!(
        evaluations,
        expected
            .map(|(step, (domain, split))| (step, domain.to_owned(), split.to_owned()))
            .collect::<Vec<_>>()
    );
}
