//! `[keep]` of a sweep and the files that its results left: trials without them run again, and no result is lost by that.

use sortie_coordinator::store::{Preview, Reuse, SubmitOptions, SweepAction, TrialAction};
use sortie_core::artifact::{Artifact, ArtifactKind};
use sortie_core::filter::Filter;
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::keep::{LackingTrials, Lacks};
use sortie_core::lease::{Batch, Lease};
use sortie_core::metrics::Method;
use sortie_core::record::Fingerprint;

use crate::fixture::*;

const ANYWAY: SubmitOptions = SubmitOptions { reuse: Reuse::Anyway, priority: None };

/// [`SWEEP`] of this name that keeps this.
fn keeping(name: &str, keep: &str) -> String {
    format!("{}[keep]\n{keep}\n", SWEEP.replace("\"first\"", &format!("{name:?}")))
}

fn file(kind: ArtifactKind, key: &str) -> Artifact {
    let (method, key, digest) = (Method::Plain, key.to_owned(), "0a".repeat(32));
    Artifact { kind, method, step: 20, key, digest, bytes: 7 }
}

/// A success that left these files; its evaluation says that so many images were right.
async fn succeed(f: &Fixture, lease: &Lease, correct: u64, artifacts: Vec<Artifact>) {
    let reported = Batch { artifacts, ..batch(1, vec![evaluation("sketch", 0, correct)]) };
    f.complete_with(lease.token, reported, Outcome::Succeeded).await.unwrap();
}

/// Ends all trials of the sweep; only the logits of the first are kept.
async fn finish_without_weights(f: &Fixture) {
    let leases = f.claim(8).await;
    for (index, lease) in leases.iter().enumerate() {
        let logits = file(ArtifactKind::FinalLogits, if index == 0 { "logits/x" } else { "" });
        succeed(f, lease, 3, vec![file(ArtifactKind::FinalWeights, ""), logits]).await;
    }
}

/// The accepted evaluations of the sweep's trials: how many images were right.
async fn correct(f: &Fixture, sweep: &str) -> Vec<Option<u64>> {
    let records = f.store.records(sweep, 0).await.unwrap().rows;
    let of = |rows: &[sortie_core::metrics::Evaluation]| match rows.first()?.score? {
        sortie_core::metrics::Score::Counts { correct, .. } => Some(correct),
        sortie_core::metrics::Score::Value { .. } => None,
    };
    let all = records.iter().map(|record| {
        let rows = [record.validation.clone(), record.held_out.clone()].concat();
        assert_eq!(record.state == StateName::Succeeded, !rows.is_empty());
        of(&rows)
    });
    all.collect()
}

async fn previewed(f: &Fixture, text: &str, options: SubmitOptions) -> LackingTrials {
    match f.store.preview(&spec(text), options).await.unwrap() {
        Preview::New { lacking, .. } | Preview::Stored { lacking, .. } => lacking,
    }
}

async fn lacks(f: &Fixture, trial: &str) -> Lacks {
    let history = f.store.history(trial).await.unwrap();
    let spec = f.store.spec(&history.sweep).await.unwrap();
    f.store.lacks(&history, &spec).await.unwrap()
}

pub async fn trials_without_the_files_that_are_kept_run_again_and_keep_their_results_meanwhile(f: Fixture) {
    f.submit(&keeping("first", "logits = false")).await;
    finish_without_weights(&f).await;
    // What nobody asks for is not lacking, and so it stays at the same submission.
    assert_eq!(f.submit(&keeping("first", "logits = false")).await.lacking, LackingTrials::default());
    assert_eq!(f.count(StateName::Succeeded).await, 4);
    let text = keeping("first", "weights = \"both\"");
    let all = LackingTrials { trials: 4, weights: 4, selected: 4, logits: 3, ..Default::default() };
    assert_eq!(previewed(&f, &text, SubmitOptions::default()).await, all);
    assert_eq!(f.count(StateName::Succeeded).await, 4);
    let submitted = f.submit(&text).await;
    assert_eq!((submitted.planned, submitted.added, submitted.reused, submitted.lacking), (4, 0, 0, all));
    // They wait, and their results count.
    assert_eq!(f.count(StateName::Queued).await, 4);
    assert_eq!(correct(&f, "first").await, [Some(3); 4]);
    let leases = f.claim(4).await;
    assert_eq!(leases.len(), 4);
    assert!(leases.iter().all(|lease| lease.attempt == 2 && lease.keep.weights.last()));
    assert_eq!((f.count(StateName::Running).await, correct(&f, "first").await), (4, vec![Some(3); 4]));
    let kept = |key: &str| {
        let kinds = [ArtifactKind::FinalWeights, ArtifactKind::SelectedWeights, ArtifactKind::FinalLogits];
        kinds.map(|kind| file(kind, &format!("{kind}/{key}"))).to_vec()
    };
    // One succeeds, one fails for good, one diverges, one is cancelled: only the first has another result.
    succeed(&f, &leases[0], 4, kept("0")).await;
    f.fail(leases[1].token, ErrorClass::BadConfig).await;
    f.complete(leases[2].token, Outcome::Diverged { step: 3 }).await.unwrap();
    let id = leases[3].spec_hash;
    assert_eq!(f.store.act_on_named("first", TrialAction::Cancel, &[id]).await.unwrap(), 1);
    assert_eq!(f.count(StateName::Succeeded).await, 4);
    assert_eq!(f.status("first").await.reused, 0);
    let mut found = correct(&f, "first").await;
    found.sort_unstable();
    assert_eq!(found, [Some(3), Some(3), Some(3), Some(4)]);
    // What is listed is there, and what is not is said.
    let (done, failed) = (leases[0].spec_hash.to_string(), leases[1].spec_hash.to_string());
    assert_eq!(lacks(&f, &done).await, Lacks::default());
    assert_eq!(
        lacks(&f, &failed).await,
        Lacks {
            weights: true,
            selected: true,
            logits: leases[1].spec_hash != first_of(&f).await,
            ..Lacks::default()
        }
    );
    let events = f.store.history(&failed).await.unwrap().events;
    let again = events.iter().find(|event| event.what == "again").unwrap();
    assert!(again.detail.ends_with("; its result counts until it has another"), "{}", again.detail);
    // Once more, only those three run.
    assert_eq!(f.submit(&text).await.lacking.trials, 3);
    assert_eq!(f.claim(8).await.len(), 3);
}

/// The trial that was run first.
async fn first_of(f: &Fixture) -> sortie_core::trial::SpecHash {
    f.store.trials("first", None, 0).await.unwrap().rows[0].spec_hash
}

pub async fn with_reuse_anyway_nothing_runs_again_and_what_is_lacking_is_said(f: Fixture) {
    f.submit(SWEEP).await;
    finish_without_weights(&f).await;
    let text = keeping("first", "weights = \"final\"");
    assert_eq!(previewed(&f, &text, ANYWAY).await, LackingTrials::default());
    let submitted = f.submit_with(&text, ANYWAY).await;
    assert_eq!((submitted.lacking.trials, f.count(StateName::Succeeded).await), (0, 4));
    let id = first_of(&f).await.to_string();
    assert_eq!(lacks(&f, &id).await, Lacks { weights: true, ..Lacks::default() });
    // Another sweep takes the results over as they are, at its submission and later.
    let second = keeping("second", "weights = \"final\"");
    assert_eq!(f.submit_with(&second, ANYWAY).await.reused, 4);
    // Extending keeps that meaning.
    let mut progress = f.store.extend("first", 2).await.unwrap();
    within(progress.wait_for(|submitted| submitted.is_done())).await.unwrap();
    assert_eq!(f.count(StateName::Succeeded).await, 4);
}

pub async fn whatever_is_reused_combinations_get_what_they_are_made_of(f: Fixture) {
    let text = SWEEP.replace("lr = 1e-3", "lr = [1e-3, 1e-2]");
    f.submit(&text).await;
    finish_without_weights(&f).await;
    let keep = format!("{text}[keep]\nweights = \"final\"\n");
    assert_eq!(f.submit_with(&keep, ANYWAY).await.lacking.trials, 0);
    let combine = "[[combine]]\nname = \"soup\"\nkind = \"average\"\nover = \"lr\"\n";
    let submitted = f.submit_with(&format!("{keep}{combine}"), ANYWAY).await;
    assert_eq!((submitted.added, submitted.lacking.trials, submitted.lacking.weights), (4, 8, 8));
    // The combinations wait for them.
    let leases = f.claim(16).await;
    assert_eq!((leases.len(), f.count(StateName::Blocked).await), (8, 4));
    for lease in &leases {
        assert!(lease.members.is_empty());
        succeed(&f, lease, 4, vec![file(ArtifactKind::FinalWeights, "weights/x")]).await;
    }
    let combinations = f.wait_for_a_trial(false).await;
    let lease = within(combinations).await.unwrap().leases.remove(0);
    assert!(lease.members.len() == 2 && lease.members.iter().all(|member| member.files.len() == 1));
}

pub async fn results_elsewhere_count_only_with_the_files_that_are_kept(f: Fixture) {
    f.submit(SWEEP).await;
    let leases = f.claim(8).await;
    let logits = || file(ArtifactKind::FinalLogits, "logits/x");
    succeed(&f, &leases[0], 3, vec![logits(), file(ArtifactKind::FinalWeights, "weights/x")]).await;
    succeed(&f, &leases[1], 3, vec![logits()]).await;
    // Imported results have no files at all, and need no logits.
    succeed(&f, &leases[2], 3, Vec::new()).await;
    let text = keeping("second", "weights = \"final\"");
    let lacking = LackingTrials { trials: 2, weights: 2, ..LackingTrials::default() };
    assert_eq!(previewed(&f, &text, SubmitOptions::default()).await, lacking);
    let never = SubmitOptions { reuse: Reuse::Never, priority: None };
    assert_eq!(previewed(&f, &text, never).await, LackingTrials::default());
    let submitted = f.submit(&text).await;
    assert_eq!((submitted.added, submitted.reused, submitted.lacking), (4, 1, lacking));
    assert_eq!(f.submit(&keeping("third", "logits = true")).await.reused, 3);
    // At the lease, too: what ends without the files is not taken over, and what has them is.
    f.act("first", SweepAction::Pause).await;
    f.act("third", SweepAction::Pause).await;
    succeed(&f, &leases[3], 3, vec![logits()]).await;
    let own = f.claim(8).await;
    assert_eq!(own.len(), 3);
    assert!(own.iter().all(|lease| lease.sweep == "second"));
    for lease in &own {
        succeed(&f, lease, 4, vec![logits(), file(ArtifactKind::FinalWeights, "weights/y")]).await;
    }
    assert_eq!(f.status("second").await.reused, 1);
    // Those that another sweep reuses run again there, when it keeps what they lack, and its own result replaces theirs.
    let (first, third) = (keeping("first", "weights = \"final\""), keeping("third", "weights = \"final\""));
    f.act("third", SweepAction::Resume).await;
    assert_eq!(f.submit(&third).await.lacking.trials, 2);
    f.claim(8).await;
    // The files were there by then: the results of the second sweep are taken over.
    assert_eq!((f.status("third").await.succeeded, f.status("third").await.reused), (4, 4));
    assert_eq!(correct(&f, "third").await.iter().flatten().sum::<u64>(), 15);
    f.act("first", SweepAction::Resume).await;
    assert_eq!(f.submit(&first).await.lacking.trials, 3);
    assert_eq!(
        f.store.act_on_trials("first", TrialAction::Cancel, &Filter::default(), None).await.unwrap(),
        3
    );
    assert_eq!((f.count(StateName::Succeeded).await, correct(&f, "first").await), (4, vec![Some(3); 4]));
}

pub async fn a_reused_result_that_stands_is_not_deleted_and_comes_back(f: Fixture) {
    f.submit(SWEEP).await;
    finish_without_weights(&f).await;
    assert_eq!(f.submit(&keeping("second", "logits = false")).await.reused, 4);
    assert_eq!(f.submit(&keeping("second", "weights = \"final\"\nlogits = false")).await.lacking.trials, 4);
    let leases = f.claim(2).await;
    assert!(leases.iter().all(|lease| lease.sweep == "second" && lease.attempt == 1));
    let status = f.status("second").await;
    assert_eq!((status.running, status.queued, status.reused), (2, 2, 0));
    let refused = f.store.delete("first", false).await.unwrap_err().to_string();
    assert!(refused.contains("sweep \"second\" reuses the results of 4 trials"), "{refused}");
    // Whatever happens to the coordinator, they are there.
    let f = f.restart().await;
    assert_eq!(correct(&f, "second").await, [Some(3); 4]);
    f.fail(leases[0].token, ErrorClass::BadConfig).await;
    let status = f.status("second").await;
    assert_eq!((status.succeeded, status.reused, status.failed), (1, 1, 0));
    let line = f.store.history(&format!("second/{}", leases[0].spec_hash)).await.unwrap().line;
    assert_eq!(line.reused_from.as_deref(), Some("first"));
    assert_eq!(correct(&f, "second").await, [Some(3); 4]);
}

pub async fn checkpoints_from_before_the_result_are_not_offered(f: Fixture) {
    f.submit(&format!("{SWEEP}seeds = 1\n").replace("[\"photo\", \"sketch\"]", "[\"photo\"]")).await;
    let checkpoint =
        |step| Artifact { step, ..file(ArtifactKind::Checkpoint, &format!("checkpoints/a/{step}")) };
    let lease = f.claim_one().await;
    succeed(&f, &lease, 3, vec![checkpoint(9)]).await;
    let text = keeping("first", "weights = \"selected\"").replace("[\"photo\", \"sketch\"]", "[\"photo\"]");
    assert_eq!(f.submit(&text).await.lacking.trials, 1);
    let again = f.claim_one().await;
    assert_eq!((again.spec_hash, again.checkpoints.len()), (lease.spec_hash, 0));
    let own = Batch { artifacts: vec![checkpoint(6)], ..batch(1, Vec::new()) };
    f.store.report(secret(), again.token, own).await.unwrap();
    f.fail(again.token, ErrorClass::Preempted).await;
    let third = f.claim_one().await;
    let offered: Vec<_> = third.checkpoints.iter().map(|offered| (offered.token, offered.step)).collect();
    assert_eq!(offered, [(again.token, 6)]);
}

pub async fn an_attempt_that_begins_anew_says_so(f: Fixture) {
    f.submit(SWEEP).await;
    let trained = |sequence| Batch {
        fingerprint: Some(Fingerprint {
            libtorch: "2.11.0".into(),
            device: "cpu".into(),
            ..Default::default()
        }),
        ..batch(sequence, vec![evaluation("sketch", 5, 3)])
    };
    let first = f.claim_one().await;
    f.store.report(secret(), first.token, trained(1)).await.unwrap();
    f.fail(first.token, ErrorClass::Preempted).await;
    let second = f.claim_one().await;
    f.store.report(secret(), second.token, trained(1)).await.unwrap();
    let events = f.store.history(&first.spec_hash.to_string()).await.unwrap().events;
    let what: Vec<&str> = events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(what, ["started", "preempted", "started", "restarted"]);
    assert_eq!(events[3].detail, "from step 0: there was no checkpoint that it could read");
    assert_eq!(events[3].token, Some(second.token));
}
