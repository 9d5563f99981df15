//! Whole trials: the same specification gives the same bytes, in one process and in two; what a seed decides and what dropout does not.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml excuses only functions that are tests themselves, not their helpers"
)]

#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "common/fixtures.rs"]
mod common;
#[path = "common/tiny.rs"]
mod tiny;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::cache_dir;
use sortie_core::artifact::{Artifact, Resumed};
use sortie_core::catalogue;
use sortie_core::finetune::{FinetuneSpec, MicroBatch};
use sortie_core::metrics::{Evaluation, Score, SplitName, TrainingLoss};
use sortie_core::record::Fingerprint;
use sortie_trainer::error::{SinkError, TrialError};
use sortie_trainer::training::{Artifacts, ComputeDevice, TrialEnvironment, TrialSink, run_trial};
use tiny::{own_cache, spec, tiny, write_tiny};

/// Every number that a trial reports, exactly.
#[derive(Default)]
struct Transcript {
    text: String,
    evaluations: Vec<Evaluation>,
    losses: Vec<f64>,
}

impl TrialSink for Transcript {
    fn started(&mut self, fingerprint: &Fingerprint) -> Result<(), SinkError> {
        writeln!(self.text, "{} {}", fingerprint.dataset_digest, fingerprint.weights_digest)?;
        Ok(())
    }

    fn resumed(&mut self, _: &Resumed, _: &[TrainingLoss], _: &[Evaluation]) -> Result<(), SinkError> {
        Err("there is no checkpoint".into())
    }

    fn artifact(&mut self, artifact: &Artifact) -> Result<(), SinkError> {
        writeln!(self.text, "{artifact:?}")?;
        Ok(())
    }

    fn trained(&mut self, loss: TrainingLoss) -> Result<(), SinkError> {
        let TrainingLoss { step, loss, .. } = loss;
        writeln!(self.text, "{step} {:016x}", loss.to_bits())?;
        self.losses.push(loss);
        Ok(())
    }

    fn evaluated(&mut self, step: u64, evaluations: &[Evaluation]) -> Result<(), SinkError> {
        for Evaluation { domain, split, score, loss, .. } in evaluations {
            writeln!(self.text, "{step} {domain} {split} {score:?} {:016x}", loss.unwrap().to_bits())?;
        }
        self.evaluations.extend_from_slice(evaluations);
        Ok(())
    }
}

fn environment(data_root: &Path) -> TrialEnvironment {
    TrialEnvironment {
        data_root: data_root.to_owned(),
        cache_dir: if data_root.join("Tiny").is_dir() {
            own_cache(data_root, &cache_dir())
        } else {
            cache_dir()
        },
        device: ComputeDevice::Cpu,
        // One thread: tests run beside each other, and libtorch threads that wait for each other on a busy machine crawl.
        threads: Some(1),
        artifacts: Artifacts::default(),
        stop: Arc::default(),
    }
}

fn run(spec: &FinetuneSpec, data_root: &Path) -> Transcript {
    let mut transcript = Transcript::default();
    run_trial(spec, &environment(data_root), &mut transcript).unwrap();
    transcript
}

/// The folder of real datasets, where the machine has one.
fn test_data(dataset: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SORTIE_TEST_DATA").map(PathBuf::from);
    let found = root.filter(|root| root.join(dataset).is_dir());
    if found.is_none() {
        println!("skipped: SORTIE_TEST_DATA has no folder {dataset}");
    }
    found
}

#[test]
fn the_same_trial_gives_the_same_bytes_also_in_another_process() {
    const CHILD: &str = "SORTIE_TEST_TRIAL_CHILD";
    if let Some(root) = std::env::var_os(CHILD) {
        println!("{}", run(&spec(tiny(), "pen"), Path::new(&root)).text);
        return;
    }
    let root = tempfile::tempdir().unwrap();
    write_tiny(root.path());
    let first = run(&spec(tiny(), "pen"), root.path());
    assert_eq!(first.text, run(&spec(tiny(), "pen"), root.path()).text);
    let name = "the_same_trial_gives_the_same_bytes_also_in_another_process";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args([name, "--exact", "--nocapture"]).env(CHILD, root.path()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains(&first.text), "{printed}\ndiffers from\n{}", first.text);
}

#[test]
fn a_trial_reports_what_the_paper_evaluates() {
    let root = tempfile::tempdir().unwrap();
    write_tiny(root.path());
    let transcript = run(&spec(tiny(), "oil"), root.path());
    assert_eq!(transcript.losses.len(), 4);
    let what: Vec<_> = transcript
        .evaluations
        .iter()
        .map(|e| (e.step, e.domain.as_str(), e.split, e.score.map_or(0, Score::n)))
        .collect();
    let at = |step| {
        [
            (step, "ink", SplitName::Out, 2),
            (step, "pen", SplitName::Out, 2),
            (step, "oil", SplitName::In, 10),
            (step, "oil", SplitName::Out, 2),
        ]
    };
    assert_eq!(what, [at(0), at(2), at(3)].concat());
    assert!(transcript.evaluations.iter().all(|e| e.loss.is_some_and(f64::is_finite) && e.fault().is_none()));
}

#[test]
fn each_random_choice_moves_with_its_own_setting_only() {
    let root = tempfile::tempdir().unwrap();
    write_tiny(root.path());
    let first_loss = |change: &dyn Fn(&mut FinetuneSpec)| {
        let mut spec = spec(tiny(), "pen");
        spec.settings.steps = 0;
        change(&mut spec);
        run(&spec, root.path()).losses[0]
    };
    let plain = first_loss(&|spec| spec.point.dropout = 0.0);
    // The first loss is that of the initial head on the first augmented batch of the split: it shows whether these are shared.
    let tiny_rate = first_loss(&|spec| spec.point.dropout = 1e-9);
    assert!((plain - tiny_rate).abs() < 1e-5, "{plain} {tiny_rate}");
    assert_ne!(plain, first_loss(&|_| ()));
    assert_eq!(plain, first_loss(&|spec| (spec.point.dropout, spec.point.lr) = (0.0, 1e-3)));
    assert_ne!(plain, first_loss(&|spec| (spec.point.dropout, spec.point.seed) = (0.0, 1)));
    assert_ne!(plain, first_loss(&|spec| (spec.point.dropout, spec.point.split_seed) = (0.0, 1)));
}

#[test]
fn a_step_in_parts_is_the_whole_step_but_for_rounding() {
    let root = tempfile::tempdir().unwrap();
    write_tiny(root.path());
    let with = |micro_batch: Option<MicroBatch>| {
        let mut spec = spec(tiny(), "pen");
        (spec.settings.micro_batch, spec.settings.steps) = (micro_batch, 5);
        run(&spec, root.path())
    };
    let whole = with(None);
    // Files hold the specification, too.
    let numbers = |run: &Transcript| -> Vec<String> {
        run.text.lines().filter(|line| !line.starts_with("Artifact")).map(str::to_owned).collect()
    };
    // Parts that hold everything are the whole step, to the byte.
    for micro_batch in [MicroBatch::Auto, MicroBatch::Images(8), MicroBatch::Images(65_536)] {
        assert_eq!(numbers(&with(Some(micro_batch))), numbers(&whole), "{micro_batch}");
    }
    // Eight images: the last part is smaller. Later losses show the gradients of all steps before them.
    for images in [1, 3, 4] {
        let parts = with(Some(MicroBatch::Images(images)));
        assert_eq!(parts.losses.len(), whole.losses.len());
        for (step, (part, whole)) in parts.losses.iter().zip(&whole.losses).enumerate() {
            assert!((part - whole).abs() < 1e-3 * whole, "{images} at step {step}: {part} {whole}");
        }
    }
}

#[test]
fn bad_data_and_divergence_are_outcomes_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    write_tiny(root.path());
    let mut diverging = spec(tiny(), "pen");
    diverging.point.lr = 1e30;
    let error = run_trial(&diverging, &environment(root.path()), &mut Transcript::default()).unwrap_err();
    assert!(matches!(error, TrialError::Diverged { step: 1..=3, .. }), "{error}");
    std::fs::write(root.path().join("Tiny/oil/discs/3.png"), b"not a picture").unwrap();
    let error =
        run_trial(&spec(tiny(), "pen"), &environment(root.path()), &mut Transcript::default()).unwrap_err();
    assert!(
        matches!(&error, TrialError::Damaged { path, .. } if path.ends_with("Tiny/oil/discs/3.png")),
        "{error}"
    );
    let no_weights = TrialEnvironment { cache_dir: root.path().to_owned(), ..environment(root.path()) };
    std::fs::remove_file(root.path().join("Tiny/oil/discs/3.png")).unwrap();
    let error = run_trial(&spec(tiny(), "pen"), &no_weights, &mut Transcript::default()).unwrap_err();
    assert!(error.to_string().contains("cargo xtask setup"), "{error}");
}

#[test]
fn a_sink_that_refuses_ends_the_trial() {
    struct RefusingSink;
    impl TrialSink for RefusingSink {
        fn started(&mut self, _: &Fingerprint) -> Result<(), SinkError> {
            Ok(())
        }
        fn resumed(&mut self, _: &Resumed, _: &[TrainingLoss], _: &[Evaluation]) -> Result<(), SinkError> {
            unreachable!("there is no checkpoint")
        }
        fn artifact(&mut self, _: &Artifact) -> Result<(), SinkError> {
            unreachable!("the trial must have ended")
        }
        fn trained(&mut self, _: TrainingLoss) -> Result<(), SinkError> {
            Err("the pipe is closed".into())
        }
        fn evaluated(&mut self, _: u64, _: &[Evaluation]) -> Result<(), SinkError> {
            unreachable!("the trial must have ended")
        }
    }
    let root = tempfile::tempdir().unwrap();
    write_tiny(root.path());
    let error = run_trial(&spec(tiny(), "pen"), &environment(root.path()), &mut RefusingSink).unwrap_err();
    assert!(matches!(error, TrialError::Sink(_)), "{error}");
}

#[test]
fn pacs_gives_the_same_bytes_twice() {
    let Some(root) = test_data("PACS") else {
        return;
    };
    let mut spec = spec(catalogue::find("PACS").unwrap(), "photo");
    spec.settings.steps = 1;
    let first = run(&spec, &root);
    let out: Vec<u64> =
        first.evaluations[..3].iter().filter_map(|evaluation| Some(evaluation.score?.n())).collect();
    assert_eq!(out, [409, 468, 785]);
    assert_eq!(first.text, run(&spec, &root).text);
}
