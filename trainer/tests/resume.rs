//! A resumed trial gives the bytes of an uninterrupted one: real trial processes that end by SIGKILL and continue from their checkpoints.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml excuses only functions that are tests themselves, not their helpers"
)]

#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "common/fixtures.rs"]
mod common;
#[path = "common/process.rs"]
mod process;
#[path = "common/tiny.rs"]
mod tiny;

use process::{Interruption, ProcessOutput, TestFolders, folders};
use sortie_core::artifact::{CheckpointRef, Resumed};
use sortie_core::finetune::{
    Average, AverageEvery, BatchNorm, BlockNorm, Ensemble, Finetune, FinetuneSpec, MicroBatch,
};
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::keys::AttemptToken;

const LAST: u64 = 9;

fn run(
    spec: &FinetuneSpec,
    folders: &TestFolders,
    token: i64,
    checkpoints: Vec<CheckpointRef>,
    interruption: Interruption,
) -> ProcessOutput {
    let mut assignment = process::assignment(spec, folders, token);
    // A killed attempt has an even token, the one that follows it the next odd one.
    assignment.attempt = if token > 9 && token % 2 == 1 { 2 } else { 1 };
    assignment.checkpoints = checkpoints;
    process::run(&assignment, interruption)
}

fn killed_at(step: u64) -> Interruption {
    Interruption { kill_at: Some(step), ..Interruption::default() }
}

/// Ten steps on tiny images with an average and an ensemble, evaluated at every third step.
fn spec(finetune: Finetune, dropout: f64) -> FinetuneSpec {
    let mut spec = tiny::spec(tiny::tiny(), "pen");
    spec.settings.finetune = finetune;
    (spec.settings.steps, spec.settings.evaluate_every, spec.settings.milestones) = (LAST, 3, vec![5]);
    if finetune == Finetune::Scratch {
        spec.settings.weights = String::new();
    }
    spec.settings.average = Some(Average { from: 2, every: AverageEvery::Steps(1) });
    spec.settings.ensemble = Some(Ensemble { from: 3 });
    spec.point.dropout = dropout;
    spec
}

/// Runs a trial without interruption, then killed after each of these steps and resumed, and compares every byte.
fn check(finetune: Finetune, dropout: f64, kills: &[u64]) {
    check_spec(&spec(finetune, dropout), kills);
}

fn check_spec(spec: &FinetuneSpec, kills: &[u64]) {
    let root = tempfile::tempdir().unwrap();
    let folders = folders(root.path());
    let uninterrupted = run(spec, &folders, 1, Vec::new(), Interruption::default());
    assert_eq!(uninterrupted.outcome, Some(Outcome::Succeeded), "{}", uninterrupted.printed);
    assert_eq!(uninterrupted.losses.len() as u64, LAST + 1);
    let log = &uninterrupted.printed;
    for line in ["\nstarted from step 0\n", "\nstep 9  loss ", "\nevaluated after step 9: ", " (held out)\n"]
    {
        assert!(log.contains(line) && log.ends_with("\nsucceeded\n"), "no {line:?} in {log}");
    }
    assert!(log.contains("\nfinal-weights of the plain model after step 9 ("), "{log}");
    for &kill_at in kills {
        let token = 10 + 2 * kill_at as i64;
        let killed = run(spec, &folders, token, Vec::new(), killed_at(kill_at));
        assert_eq!(killed.outcome, None, "it was to be killed");
        let resumed =
            run(spec, &folders, token + 1, killed.checkpoints(AttemptToken(token)), Interruption::default());
        assert_eq!(resumed.outcome, Some(Outcome::Succeeded), "{}", resumed.printed);
        let expected =
            kill_at.checked_sub(3).map(|step| Resumed { token: AttemptToken(token), step, exact: true });
        assert_eq!(resumed.resumed, expected);
        let begins = expected.map_or("started from step 0: there was no checkpoint".to_owned(), |resumed| {
            assert!(killed.printed.contains(&format!("\ncheckpoint after step {} (", resumed.step)));
            format!("resumed after step {}", resumed.step)
        });
        assert!(resumed.printed.contains(&format!("\n{begins}\n")), "no {begins} in {}", resumed.printed);
        // What was taken over keeps its times.
        let taken_over = expected.map_or(0, |resumed| resumed.step as usize + 1);
        assert_eq!(resumed.losses[..taken_over], killed.losses[..taken_over]);
        assert_eq!(resumed.result(), uninterrupted.result(), "{:?}, killed at {kill_at}", spec.settings);
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
    let mut normalised = spec(Finetune::Linear, 0.5);
    normalised.settings.block_norm = BlockNorm::Batch;
    check_spec(&normalised, &[3, 5, 8]);
}

#[test]
fn training_from_scratch_resumes_to_the_byte() {
    for (dropout, kills) in [(0.0, [3, 4, 5, 7, 9]), (0.5, [3, 4, 6, 7, 8])] {
        let mut live = spec(Finetune::Scratch, dropout);
        (live.settings.batch_norm, live.settings.average) = (BatchNorm::Live, None);
        check_spec(&live, &kills);
    }
    check(Finetune::Scratch, 0.5, &[4, 7]);
}

#[test]
fn a_step_in_parts_resumes_to_the_byte() {
    for micro_batch in [MicroBatch::Images(3), MicroBatch::Auto] {
        let mut parts = spec(Finetune::Full, 0.5);
        parts.settings.micro_batch = Some(micro_batch);
        check_spec(&parts, &[4, 7]);
    }
}

#[test]
fn memory_that_is_not_enough_halves_the_parts_and_a_killed_trial_goes_on_with_them() {
    let root = tempfile::tempdir().unwrap();
    let folders = folders(root.path());
    let (mut auto, mut parts) = (spec(Finetune::Full, 0.5), spec(Finetune::Full, 0.5));
    auto.settings.micro_batch = Some(MicroBatch::Auto);
    parts.settings.micro_batch = Some(MicroBatch::Images(2));
    // Eight images, then four, then two.
    let short = Interruption { images_max: Some(3), ..Interruption::default() };
    let expected = run(&parts, &folders, 1, Vec::new(), Interruption::default()).result();
    let adapted = run(&auto, &folders, 2, Vec::new(), short);
    assert_eq!((adapted.outcome.clone(), adapted.micro_batch), (Some(Outcome::Succeeded), Some(2)));
    for line in [
        "out of memory with 8 images at a time, going on with 4: ",
        "with 4 images at a time, going on with 2: ",
    ] {
        assert!(adapted.printed.contains(line), "{}", adapted.printed);
    }
    // Losses and evaluations are those of a trial that was told; a file also names its specification.
    assert_eq!((&adapted.result().0, &adapted.result().1), (&expected.0, &expected.1));

    let killed = run(&auto, &folders, 10, Vec::new(), Interruption { kill_at: Some(6), ..short });
    assert_eq!((&killed.outcome, killed.micro_batch), (&None, Some(2)));
    // Now there is memory for whole batches, but the numbers must not change in the middle of a trial.
    let resumed = run(&auto, &folders, 11, killed.checkpoints(AttemptToken(10)), Interruption::default());
    assert_eq!((resumed.resumed.map(|resumed| resumed.step), resumed.micro_batch), (Some(3), Some(2)));
    assert_eq!(resumed.result(), adapted.result());

    // One that was told how many images are computed at a time does not take fewer.
    let failed = run(&parts, &folders, 12, Vec::new(), Interruption { images_max: Some(1), ..short });
    let class = match failed.outcome {
        Some(Outcome::Failed { class, .. }) => class,
        other => panic!("{other:?}"),
    };
    assert_eq!(class, ErrorClass::OutOfMemory, "{}", failed.printed);
}

#[test]
fn another_data_path_and_a_damaged_checkpoint_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    let here = folders(root.path());
    let spec = spec(Finetune::Full, 0.5);
    let uninterrupted = run(&spec, &here, 1, Vec::new(), Interruption::default());
    let first = run(&spec, &here, 2, Vec::new(), killed_at(4));
    let second = run(&spec, &here, 3, first.checkpoints(AttemptToken(2)), killed_at(9));
    // The second attempt was resumed, so it was not killed: it is the one that is checked here, with a copy of the images elsewhere.
    assert_eq!(second.result(), uninterrupted.result());

    let killed = run(&spec, &here, 4, Vec::new(), killed_at(8));
    let elsewhere = tempfile::tempdir().unwrap();
    tiny::write_tiny(elsewhere.path());
    let elsewhere = TestFolders { data: elsewhere.path().to_owned(), store: here.store.clone() };
    let newest = &killed.checkpoints(AttemptToken(4))[0];
    let file = here.store.join(&newest.key);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let checkpoints = vec![newest.clone(), first.checkpoints(AttemptToken(2))[0].clone()];
    let resumed = run(&spec, &elsewhere, 5, checkpoints, Interruption::default());
    assert_eq!(
        resumed.resumed.map(|resumed| (resumed.token, resumed.step)),
        Some((AttemptToken(2), 1)),
        "{}",
        resumed.printed
    );
    assert!(
        resumed.printed.contains("is passed over") && resumed.printed.contains("truncated"),
        "{}",
        resumed.printed
    );
    assert_eq!(resumed.result(), uninterrupted.result());
}

#[test]
fn a_trial_that_is_asked_to_stop_writes_a_checkpoint_and_continues_later() {
    let root = tempfile::tempdir().unwrap();
    let folders = folders(root.path());
    let mut spec = spec(Finetune::Full, 0.5);
    // Far more steps than are made before the signal arrives, and one of them is an evaluation.
    (spec.settings.steps, spec.settings.evaluate_every) = (60, 20);
    let uninterrupted = run(&spec, &folders, 1, Vec::new(), Interruption::default());
    let stopped = run(
        &spec,
        &folders,
        2,
        Vec::new(),
        Interruption { terminate_at: Some(20), ..Interruption::default() },
    );
    let preempted =
        Outcome::Failed { class: ErrorClass::Preempted, message: "the trial was asked to stop".into() };
    assert_eq!(stopped.outcome, Some(preempted), "{}", stopped.printed);
    let checkpoints = stopped.checkpoints(AttemptToken(2));
    assert!((20..60).contains(&checkpoints[0].step));
    let resumed = run(&spec, &folders, 3, checkpoints, Interruption::default());
    assert!(resumed.resumed.is_some_and(|resumed| resumed.exact), "{}", resumed.printed);
    assert_eq!(resumed.result(), uninterrupted.result());
}
