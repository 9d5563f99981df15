//! Real trial processes, started and stopped as an agent would.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sortie_core::artifact::{Artifact, ArtifactKind, CheckpointRef, Resumed};
use sortie_core::finetune::FinetuneSpec;
use sortie_core::job::Outcome;
use sortie_core::keep::{Keep, KeepWeights};
use sortie_core::keys::AttemptToken;
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::pipe::{Assignment, Event};

use crate::common::cache_dir;
use crate::tiny;

/// Bits of losses by step, evaluations as text, digests of saved files.
pub type Outcomes = (Vec<(u64, u64)>, Vec<String>, BTreeMap<String, String>);

/// What a process reported until its end.
#[derive(Debug, Default)]
pub struct ProcessOutput {
    pub resumed: Option<Resumed>,
    pub losses: Vec<TrainingLoss>,
    pub evaluations: Vec<Evaluation>,
    pub artifacts: Vec<Artifact>,
    pub outcome: Option<Outcome>,
    /// Images at a time, as the last fingerprint says.
    pub micro_batch: Option<u32>,
    pub printed: String,
}

impl ProcessOutput {
    /// Everything that must not depend on interruptions: loss and evaluation bits, digests of weights and logits. Times do, but ascend.
    pub fn result(&self) -> Outcomes {
        let times: Vec<f64> = self.losses.iter().map(|loss| loss.seconds.unwrap()).collect();
        assert!(times.is_sorted() && times.iter().all(|time| *time >= 0.0), "{times:?}");
        let losses = self.losses.iter().map(|loss| (loss.step, loss.loss.to_bits())).collect();
        let exactly = |evaluation: &Evaluation| {
            let untimed = Evaluation { seconds: None, ..evaluation.clone() };
            format!("{untimed:?} {:x}", evaluation.loss.unwrap().to_bits())
        };
        let saved = self.artifacts.iter().filter(|artifact| artifact.kind != ArtifactKind::Checkpoint);
        let digests = saved.map(|artifact| {
            (format!("{} {} {}", artifact.kind, artifact.method, artifact.step), artifact.digest.clone())
        });
        (losses, self.evaluations.iter().map(exactly).collect(), digests.collect())
    }

    pub fn checkpoints(&self, token: AttemptToken) -> Vec<CheckpointRef> {
        let written =
            self.artifacts.iter().rev().filter(|artifact| artifact.kind == ArtifactKind::Checkpoint);
        written
            .map(|Artifact { step, key, digest, .. }| CheckpointRef {
                token,
                step: *step,
                key: key.clone(),
                digest: digest.clone(),
            })
            .collect()
    }
}

pub struct TestFolders {
    pub data: PathBuf,
    pub store: PathBuf,
}

/// What ends a trial early, or hampers it; nothing does by default.
#[derive(Clone, Copy, Default)]
pub struct Interruption {
    /// SIGKILL once it has reported its fingerprint.
    pub kill_at_start: bool,
    /// The trial's own end by SIGKILL after this step.
    pub kill_at: Option<u64>,
    /// SIGTERM once it has reported this step.
    pub terminate_at: Option<u64>,
    /// Memory is enough for so many images at a time.
    pub images_max: Option<u32>,
}

/// What an agent would hand to the process of a trial.
pub fn assignment(spec: &FinetuneSpec, folders: &TestFolders, token: i64) -> Assignment {
    Assignment {
        spec: spec.clone(),
        data: folders.data.clone(),
        cache: tiny::own_cache(&folders.data, &cache_dir()),
        device: "cpu".into(),
        threads: 1,
        store: Some(format!("file://{}", folders.store.display())),
        token: AttemptToken(token),
        attempt: 1,
        checkpoints: Vec::new(),
        keep: Keep { weights: KeepWeights::Both, ..Keep::default() },
        kill_at: None,
        combination: None,
    }
}

/// Runs the process of an assignment until it ends or is interrupted.
pub fn run(assignment: &Assignment, interruption: Interruption) -> ProcessOutput {
    let assignment = Assignment { kill_at: interruption.kill_at, ..assignment.clone() };
    let mut command = Command::new(env!("CARGO_BIN_EXE_sortie-trainer"));
    if let Some(images) = interruption.images_max {
        command.env("SORTIE_TEST_IMAGES_MAX", images.to_string());
    }
    let mut child = command
        .args(["trial", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Held open to the end: a trial whose input closes kills itself.
    let mut input = child.stdin.take().unwrap();
    serde_json::to_writer(&mut input, &assignment).unwrap();
    input.write_all(b"\n").unwrap();
    let mut output = ProcessOutput::default();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Event::Resumed(resumed) => output.resumed = Some(resumed),
            Event::Losses(losses) => output.losses.extend(losses),
            Event::Evaluations(evaluations) => output.evaluations.extend(evaluations),
            Event::Artifact(artifact) => output.artifacts.push(artifact),
            Event::Outcome(outcome) => output.outcome = Some(outcome),
            Event::Progress(progress) if Some(progress.step) == interruption.terminate_at => {
                let pid = rustix::process::Pid::from_child(&child);
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            }
            Event::Fingerprint(_) if interruption.kill_at_start => {
                let pid = rustix::process::Pid::from_child(&child);
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            }
            Event::Fingerprint(fingerprint) => output.micro_batch = fingerprint.micro_batch,
            Event::Handshake(_) | Event::Preparation(_) | Event::Progress(_) | Event::Memory(_) => {}
        }
    }
    let finished = child.wait_with_output().unwrap();
    drop(input);
    output.printed = String::from_utf8_lossy(&finished.stderr).into_owned();
    output
}

pub fn folders(root: &Path) -> TestFolders {
    tiny::write_tiny(root);
    TestFolders { data: root.to_owned(), store: root.join("store") }
}
