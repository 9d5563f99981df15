//! How much is stored at most, and what becomes of what goes beyond.

use sortie_coordinator::store::{Limits, Settings, SubmitOptions};
use sortie_core::artifact::{Artifact, ArtifactKind};
use sortie_core::lease::Batch;
use sortie_core::metrics::{Evaluation, Method, TrainingLoss};

use crate::fixture::*;

fn losses(count: usize) -> Vec<TrainingLoss> {
    vec![TrainingLoss { step: 0, loss: 1.0, seconds: None }; count]
}

fn checkpoints(count: u64) -> Vec<Artifact> {
    let checkpoint = |step| Artifact {
        kind: ArtifactKind::Checkpoint,
        method: Method::Plain,
        step,
        key: String::new(),
        digest: "0a".repeat(32),
        bytes: 1,
    };
    (0..count).map(checkpoint).collect()
}

/// An evaluation with so many named numbers.
fn with_numbers(count: usize) -> Evaluation {
    let metrics = (0..count).map(|number| (format!("m{number}"), 0.5)).collect();
    Evaluation { metrics, ..evaluation("sketch", 3, 1) }
}

pub async fn an_attempt_reports_only_so_much(f: Fixture) {
    let limits = Limits { evaluations: 3, losses: 5, artifacts: 2, ..Limits::DEFAULT };
    let settings = Settings { limits, ..SETTINGS };
    let f = f.restart_with(settings).await;
    f.submit(SWEEP).await;
    let token = f.claim_one().await.token;
    let refused = async |batch: Batch, what: &str| {
        let error = f.store.report(secret(), token, batch).await.unwrap_err().to_string();
        assert_eq!(error, format!("an attempt reports too much; allowed: at most {what}"));
    };
    let of = |sequence, evaluations: Vec<Evaluation>| Batch { sequence, evaluations, ..Batch::default() };
    f.store
        .report(secret(), token, of(1, vec![evaluation("sketch", 0, 1), evaluation("sketch", 1, 1)]))
        .await
        .unwrap();
    refused(of(2, vec![evaluation("sketch", 2, 1); 2]), "3 evaluations").await;
    // Eight named numbers count as one evaluation more. Nothing of what was refused is stored.
    refused(of(2, vec![with_numbers(8)]), "3 evaluations").await;
    f.store.report(secret(), token, of(2, vec![with_numbers(7)])).await.unwrap();
    // Repeats count, too.
    refused(of(3, vec![evaluation("sketch", 0, 1)]), "3 evaluations").await;
    // A trial of 21 steps may report a loss for each.
    let with_losses = |sequence, count| Batch { sequence, losses: losses(count), ..Batch::default() };
    f.store.report(secret(), token, with_losses(3, 20)).await.unwrap();
    refused(with_losses(4, 2), "21 training losses").await;
    let with_files = |sequence, count| Batch { sequence, artifacts: checkpoints(count), ..Batch::default() };
    refused(with_files(4, 3), "2 files").await;
    f.store.report(secret(), token, with_files(4, 2)).await.unwrap();
    refused(with_losses(5, (1 << 17) + 1), "131072 evaluations, losses and files in one batch").await;
    // What an attempt has reported is known after a restart; another attempt begins anew.
    let f = f.restart_with(settings).await;
    let error = f.store.report(secret(), token, of(5, vec![evaluation("sketch", 0, 1)])).await.unwrap_err();
    assert!(error.to_string().contains("3 evaluations"), "{error}");
    f.succeed(token).await;
    let other = f.claim_one().await.token;
    f.store.report(secret(), other, of(1, vec![evaluation("sketch", 0, 1); 3])).await.unwrap();
}

pub async fn of_an_attempts_notes_the_first_are_kept(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    for sequence in 1..=20 {
        let notes = (0..20).map(|note| format!("note {sequence}.{note}")).collect();
        f.store.report(secret(), lease.token, Batch { sequence, notes, ..Batch::default() }).await.unwrap();
    }
    let events = f.store.history(&lease.spec_hash.to_string()).await.unwrap().events;
    let notes: Vec<&str> =
        events.iter().filter(|event| event.what == "noted").map(|event| event.detail.as_str()).collect();
    // Sixteen of each batch.
    assert_eq!((notes.len(), notes[15], notes[16], notes[255]), (256, "note 1.15", "note 2.0", "note 16.15"));
}

pub async fn a_database_takes_only_so_many_sweeps_and_trials(f: Fixture) {
    let limits = Limits { sweeps: 2, trials: 10, ..Limits::DEFAULT };
    let f = f.restart_with(Settings { limits, ..SETTINGS }).await;
    f.submit(SWEEP).await;
    f.submit(&other_sweep("second", "0.25")).await;
    let refused = async |text: &str, why: &str| {
        let options = SubmitOptions::default();
        let previewed = f.store.preview(&spec(text), options).await.unwrap_err().to_string();
        let submitted = submit(&f.store, text, options).await.unwrap_err().to_string();
        assert_eq!((submitted.as_str(), &previewed), (why, &submitted));
    };
    refused(
        &other_sweep("third", "0.5"),
        "sweep \"third\" cannot be stored: the database would have 3 sweeps; allowed: at most 2 (`sortie serve --sweeps-max`); `sortie delete` makes room",
    )
    .await;
    let why = "sweep \"first\" cannot be stored: the database would have 12 trials; allowed: at most 10 (`sortie serve --trials-max`); `sortie delete` makes room";
    refused(&large_sweep(2), why).await;
    assert_eq!(f.store.extend("first", 2).await.unwrap_err().to_string(), why);
    // What does not grow is taken.
    assert_eq!(f.submit(SWEEP).await.added, 0);
    f.store.delete("second", false).await.unwrap();
    assert_eq!(f.submit(&large_sweep(2)).await.added, 4);
    let limits = Limits { sweeps: 1, trials: 1, ..Limits::DEFAULT };
    let f = f.restart_with(Settings { limits, ..SETTINGS }).await;
    assert_eq!(f.submit(&large_sweep(2)).await.added, 0);
}
