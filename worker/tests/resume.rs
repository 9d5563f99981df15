//! Resumed is uninterrupted, to the byte: real trial processes that die by SIGKILL and go on from their checkpoints.
#![expect(clippy::unwrap_used, reason = "clippy.toml excuses only functions that are tests themselves, not their helpers")]

#[expect(dead_code, reason = "each test file uses its part of the shared module")]
mod common;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::cache_dir;
use sortie_core::artifact::{Artifact, ArtifactKind, CheckpointRef, Resumed};
use sortie_core::finetune::{Average, AverageEvery, Ensemble, Finetune, FinetuneSpec};
use sortie_core::job::{ErrorClass, Outcome, Token};
use sortie_core::keep::{Keep, KeepWeights};
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_worker::trial_process::{Assignment, Event};

const LAST: u64 = 9;

/// Bits of losses by step, evaluations as text, digests of what was left.
type Outcomes = (Vec<(u64, u64)>, Vec<String>, BTreeMap<String, String>);

/// What a process told until its end.
#[derive(Debug, Default)]
struct Told {
    resumed: Option<Resumed>,
    losses: Vec<TrainingLoss>,
    evaluations: Vec<Evaluation>,
    artifacts: Vec<Artifact>,
    outcome: Option<Outcome>,
    printed: String,
}

impl Told {
    /// Everything that must not depend on interruptions: loss and evaluation bits, digests of weights and logits.
    fn result(&self) -> Outcomes {
        let losses = self.losses.iter().map(|loss| (loss.step, loss.loss.to_bits())).collect();
        let exactly = |evaluation: &Evaluation| format!("{evaluation:?} {:x}", evaluation.loss.unwrap().to_bits());
        let left = self.artifacts.iter().filter(|artifact| artifact.kind != ArtifactKind::Checkpoint);
        let digests = left.map(|artifact| (format!("{} {} {}", artifact.kind, artifact.method, artifact.step), artifact.digest.clone()));
        (losses, self.evaluations.iter().map(exactly).collect(), digests.collect())
    }

    fn checkpoints(&self, token: Token) -> Vec<CheckpointRef> {
        let written = self.artifacts.iter().rev().filter(|artifact| artifact.kind == ArtifactKind::Checkpoint);
        written
            .map(|Artifact { step, key, digest, .. }| CheckpointRef { token, step: *step, key: key.clone(), digest: digest.clone() })
            .collect()
    }
}

struct Place {
    data: PathBuf,
    store: PathBuf,
}

/// How a run is disturbed.
#[derive(Clone, Copy, Default)]
struct Disturbance {
    /// The trial's own end by SIGKILL after this step.
    kill_at: Option<u64>,
    /// SIGTERM once this step is told.
    terminate_at: Option<u64>,
}

fn run(spec: &FinetuneSpec, place: &Place, token: i64, checkpoints: Vec<CheckpointRef>, disturbance: Disturbance) -> Told {
    let assignment = Assignment {
        spec: spec.clone(),
        data: place.data.clone(),
        cache: tiny::own_cache(&place.data, &cache_dir()),
        device: "cpu".into(),
        threads: 1,
        store: Some(format!("file://{}", place.store.display())),
        token: Token(token),
        checkpoints,
        keep: Keep { weights: KeepWeights::Both, logits: true },
        kill_at: disturbance.kill_at,
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_sortie-worker"))
        .arg("trial")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Held open to the end: a trial whose input closes kills itself.
    let mut input = child.stdin.take().unwrap();
    serde_json::to_writer(&mut input, &assignment).unwrap();
    input.write_all(b"\n").unwrap();
    let mut told = Told::default();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Event::Resumed(resumed) => told.resumed = Some(resumed),
            Event::Losses(losses) => told.losses.extend(losses),
            Event::Evaluations(evaluations) => told.evaluations.extend(evaluations),
            Event::Artifact(artifact) => told.artifacts.push(artifact),
            Event::Outcome(outcome) => told.outcome = Some(outcome),
            Event::Progress(progress) if Some(progress.step) == disturbance.terminate_at => {
                let pid = rustix::process::Pid::from_child(&child);
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            }
            Event::Fingerprint(_) | Event::Progress(_) => {}
        }
    }
    let output = child.wait_with_output().unwrap();
    drop(input);
    told.printed = String::from_utf8_lossy(&output.stderr).into_owned();
    told
}

fn killed_at(step: u64) -> Disturbance {
    Disturbance { kill_at: Some(step), ..Disturbance::default() }
}

/// Ten steps on tiny images with an average and an ensemble, evaluated at every third step.
fn spec(finetune: Finetune, dropout: f64) -> FinetuneSpec {
    let mut spec = tiny::spec(tiny::tiny(), "pen");
    spec.settings.finetune = finetune;
    (spec.settings.steps, spec.settings.evaluate_every, spec.settings.milestones) = (LAST, 3, vec![5]);
    if finetune == Finetune::Scratch {
        spec.settings.weights = String::new();
    } else {
        spec.settings.average = Some(Average { from: 2, every: AverageEvery::Steps(1) });
    }
    spec.settings.ensemble = Some(Ensemble { from: 3 });
    spec.point.dropout = dropout;
    spec
}

fn place(root: &Path) -> Place {
    tiny::write_tiny(root);
    Place { data: root.to_owned(), store: root.join("store") }
}

/// Runs a trial undisturbed, then killed after each of these steps and resumed, and compares every byte.
fn check(finetune: Finetune, dropout: f64, kills: &[u64]) {
    let root = tempfile::tempdir().unwrap();
    let place = place(root.path());
    let spec = spec(finetune, dropout);
    let undisturbed = run(&spec, &place, 1, Vec::new(), Disturbance::default());
    assert_eq!(undisturbed.outcome, Some(Outcome::Succeeded), "{}", undisturbed.printed);
    assert_eq!(undisturbed.losses.len() as u64, LAST + 1);
    for &kill_at in kills {
        let token = 10 + 2 * kill_at as i64;
        let killed = run(&spec, &place, token, Vec::new(), killed_at(kill_at));
        assert_eq!(killed.outcome, None, "it was to be killed");
        let resumed = run(&spec, &place, token + 1, killed.checkpoints(Token(token)), Disturbance::default());
        assert_eq!(resumed.outcome, Some(Outcome::Succeeded), "{}", resumed.printed);
        let expected = kill_at.checked_sub(3).map(|step| Resumed { token: Token(token), step, exact: true });
        assert_eq!(resumed.resumed, expected);
        assert_eq!(resumed.result(), undisturbed.result(), "{finetune} {dropout}, killed at {kill_at}");
    }
}

#[test]
fn full_fine_tuning_resumes_to_the_byte() {
    check(Finetune::Full, 0.0, &[0, 3, 5, 6, 8]);
    check(Finetune::Full, 0.5, &[2, 4, 5, 7, 9]);
}

#[test]
fn linear_fine_tuning_resumes_to_the_byte() {
    check(Finetune::Linear, 0.0, &[3, 4, 6, 7, 9]);
    check(Finetune::Linear, 0.9, &[1, 3, 5, 6, 8]);
}

#[test]
fn training_from_scratch_resumes_to_the_byte() {
    check(Finetune::Scratch, 0.0, &[3, 4, 5, 7, 9]);
    check(Finetune::Scratch, 0.5, &[3, 4, 6, 7, 8]);
}

#[test]
fn another_data_path_and_a_damaged_checkpoint_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    let here = place(root.path());
    let spec = spec(Finetune::Full, 0.5);
    let undisturbed = run(&spec, &here, 1, Vec::new(), Disturbance::default());
    let first = run(&spec, &here, 2, Vec::new(), killed_at(4));
    let second = run(&spec, &here, 3, first.checkpoints(Token(2)), killed_at(9));
    // The second attempt was resumed, so it was not killed: it is the one that is checked here, with a copy of the images elsewhere.
    assert_eq!(second.result(), undisturbed.result());

    let killed = run(&spec, &here, 4, Vec::new(), killed_at(8));
    let elsewhere = tempfile::tempdir().unwrap();
    tiny::write_tiny(elsewhere.path());
    let elsewhere = Place { data: elsewhere.path().to_owned(), store: here.store.clone() };
    let newest = &killed.checkpoints(Token(4))[0];
    let file = here.store.join(&newest.key);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let checkpoints = vec![newest.clone(), first.checkpoints(Token(2))[0].clone()];
    let resumed = run(&spec, &elsewhere, 5, checkpoints, Disturbance::default());
    assert_eq!(resumed.resumed.map(|resumed| (resumed.token, resumed.step)), Some((Token(2), 1)), "{}", resumed.printed);
    assert!(resumed.printed.contains("is passed over") && resumed.printed.contains("truncated"), "{}", resumed.printed);
    assert_eq!(resumed.result(), undisturbed.result());
}

#[test]
fn a_trial_that_is_asked_to_stop_checkpoints_and_goes_on_later() {
    let root = tempfile::tempdir().unwrap();
    let place = place(root.path());
    let mut spec = spec(Finetune::Full, 0.5);
    // Far more steps than are made before the signal arrives, and one of them is an evaluation.
    (spec.settings.steps, spec.settings.evaluate_every) = (60, 20);
    let undisturbed = run(&spec, &place, 1, Vec::new(), Disturbance::default());
    let stopped = run(&spec, &place, 2, Vec::new(), Disturbance { terminate_at: Some(20), ..Disturbance::default() });
    let preempted = Outcome::Failed { class: ErrorClass::Preempted, message: "the trial was asked to stop".into() };
    assert_eq!(stopped.outcome, Some(preempted), "{}", stopped.printed);
    let checkpoints = stopped.checkpoints(Token(2));
    assert!((20..60).contains(&checkpoints[0].step));
    let resumed = run(&spec, &place, 3, checkpoints, Disturbance::default());
    assert!(resumed.resumed.is_some_and(|resumed| resumed.exact), "{}", resumed.printed);
    assert_eq!(resumed.result(), undisturbed.result());
}
