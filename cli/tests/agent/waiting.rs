//! The trainer that waits for the next trial of a slot: it computes what a fresh one does, and is never left behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use sortie_core::finetune::{Backbone, Finetune};
use sortie_core::job::Outcome;
use sortie_core::trial::{TrialSpec, Work};
use sortie_proto::v1;

use crate::fake::{Fake, eventually};
use crate::worker::{Worker, is_alive, make_images, parent, spec};

/// A trial that needs no weights.
pub fn scratch(seed: u64) -> TrialSpec {
    let mut trial = spec("Tiny", seed);
    if let Work::Finetune(settings) = &mut trial.work {
        (settings.backbone, settings.finetune) = (Backbone::MnistCnn, Finetune::Scratch);
        (settings.weights, settings.augment) = (String::new(), false);
    }
    trial
}

/// The trainers of an agent that have no trial yet.
fn waiting(agent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let waits = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sortie-waiting")
    };
    pids.filter(|&pid| parent(pid) == Some(agent)).filter(waits).collect()
}

async fn one_waits(worker: &Worker) -> u32 {
    eventually("a trainer that waits", || match waiting(worker.child.id())[..] {
        [one] => Some(one),
        _ => None,
    })
    .await
}

/// A worker that ran a trial on these images and has a trainer waiting for the next one.
async fn worker_with_a_waiting_trainer(fake: &Fake, folder: &Path) -> (Worker, i64, u32) {
    make_images(folder, "Tiny");
    let first = fake.queue(&scratch(0));
    let worker = Worker::start(folder, &fake.url(), &[]);
    assert_eq!(fake.wait_for_outcome(first).await, Outcome::Succeeded, "{}", worker.stderr());
    let waits = one_waits(&worker).await;
    (worker, first, waits)
}

async fn gone(pid: u32) {
    eventually("the end of the trainer that waited", || (!is_alive(pid)).then_some(())).await;
}

/// A process gives its memory back before its parent can notice its end.
async fn ended(pid: u32) {
    let runs = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with('Z'))
    };
    eventually("the end of a process", || (runs() != Some(true)).then_some(())).await;
}

/// Everything that a trial reported of its numbers, but not when.
pub fn numbers(fake: &Fake, token: i64) -> String {
    let batches = fake.batches(token);
    let losses = batches.iter().flat_map(|batch| &batch.losses);
    let losses: Vec<(u64, u64)> = losses.map(|loss| (loss.step, loss.loss.to_bits())).collect();
    let evaluations = batches.iter().flat_map(|batch| &batch.evaluations);
    let evaluations: Vec<_> =
        evaluations.map(|evaluation| v1::Evaluation { seconds: None, ..evaluation.clone() }).collect();
    let digests = batches.iter().flat_map(|batch| &batch.artifacts);
    let digests: Vec<_> = digests.map(|file| (&file.kind, file.step, &file.digest)).collect();
    assert!(!losses.is_empty() && !evaluations.is_empty() && !digests.is_empty());
    format!("{losses:?} {evaluations:?} {digests:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_in_a_process_that_waited_is_the_same_to_the_byte() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (worker, first, waits) = worker_with_a_waiting_trainer(&fake, folder.path()).await;
    let second = fake.queue(&scratch(0));
    assert_eq!(fake.wait_for_outcome(second).await, Outcome::Succeeded, "{}", worker.stderr());
    assert_eq!(numbers(&fake, second), numbers(&fake, first));
    assert!(worker.stderr().contains(&format!("pid={waits}")), "another process ran it: {}", worker.stderr());
    // The first trial's process had to be started for it, and the next one waits already.
    assert_ne!(one_waits(&worker).await, waits);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_waiting_trainer_outlives_its_agent() {
    for signal in [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP] {
        let fake = Fake::start().await;
        let folder = tempfile::tempdir().unwrap();
        let (mut worker, _, waits) = worker_with_a_waiting_trainer(&fake, folder.path()).await;
        worker.signal(signal);
        let ended = tokio::time::timeout(Duration::from_secs(5), worker.ended()).await;
        assert!(ended.is_ok(), "{signal:?}: {}", worker.stderr());
        gone(waits).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_trainer_that_was_killed_is_replaced() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (worker, _, waits) = worker_with_a_waiting_trainer(&fake, folder.path()).await;
    rustix::process::kill_process(rustix::process::Pid::from_raw(waits.cast_signed()).unwrap(), Signal::KILL)
        .unwrap();
    ended(waits).await;
    let next = fake.queue(&scratch(1));
    assert_eq!(fake.wait_for_outcome(next).await, Outcome::Succeeded, "{}", worker.stderr());
    assert!(!worker.stderr().contains(&format!("pid={waits}")));
}
