//! `sortie verify`: a trial twice more on one worker; and sweeps that another build planned.

use std::time::Duration;

use sortie_coordinator::store::{StoreError, SubmitOptions, TrialAction, Verified};
use sortie_core::artifact::{ArtifactKind, Resumed};
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::Batch;
use sortie_core::metrics::TrainingLoss;
use sortie_core::spec::SweepSpec;
use sortie_core::status::SweepState;
use sortie_core::trial::PROTOCOL_VERSION;

use crate::cases_artifacts::artifact;
use crate::fixture::*;

/// Everything that an attempt reports; `resumed` names the attempt that it went on from.
fn reported(loss: f64, weights: u64, resumed: Option<Resumed>) -> Batch {
    let weights = artifact(ArtifactKind::FinalWeights, weights, "");
    let losses = vec![TrainingLoss { step: 3, loss, seconds: None }];
    Batch {
        sequence: 1,
        evaluations: vec![evaluation("sketch", 0, 3)],
        losses,
        artifacts: vec![weights],
        resumed,
        ..Batch::default()
    }
}

/// Gives the trial's id, which its copies in the sweeps that verify it have too.
async fn verified(f: &Fixture) -> (String, Verified) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    f.succeed(lease.token).await;
    let id = lease.spec_hash.to_string();
    // What else waits must not be in the way.
    f.cancel("").await;
    f.store.register(&worker("w2")).await.unwrap();
    f.pass(1);
    let verified = f.store.verify(&id, 12, Some(15)).await.unwrap();
    let copied = f.store.verify(&id, 12, None).await.unwrap();
    for sweep in copied.sweeps {
        while f.status(&sweep).await.queued == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        f.store.act_on_trials(&sweep, TrialAction::Cancel, &filter(""), None).await.unwrap();
        assert_eq!(f.store.history(&format!("{sweep}/{id}")).await.unwrap().sweep, sweep);
    }
    (id, verified)
}

/// Runs both sweeps: the second is killed once, and goes on like this.
async fn run(f: &Fixture, verified: &Verified, resume: impl Fn(AttemptToken) -> Batch) {
    let mine = verified.worker_id.as_str();
    let leases = f.claim_as(mine, 4).await.leases;
    assert_eq!(leases.len(), 2, "results of the same trial elsewhere are not taken over");
    let of = |sweep: &str| leases.iter().find(|lease| lease.sweep == sweep).unwrap();
    let (whole, killed) = (of(&verified.sweeps[0]), of(&verified.sweeps[1]));
    assert_eq!((whole.kill_at, killed.kill_at, whole.spec_hash), (None, Some(12), killed.spec_hash));
    assert_eq!(killed.spec.work.steps(), Some(15));
    f.complete_with(whole.token, reported(0.5, 15, None), Outcome::Succeeded).await.unwrap();
    f.fail(killed.token, ErrorClass::Transient).await;
    // Somebody waits: it comes back as soon as any trial may.
    f.clock.pass(Duration::from_millis(1_000));
    let again = f.claim_as(mine, 4).await.leases.remove(0);
    f.complete_with(again.token, resume(killed.token), Outcome::Succeeded).await.unwrap();
}

pub async fn a_resumed_run_is_certified(f: Fixture) {
    let (trial, verified) = verified(&f).await;
    let other = if verified.worker_id == "w1" { "w2" } else { "w1" };
    assert_eq!(f.claim_as(other, 4).await.leases, [], "only the worker that was chosen runs them");
    assert!(
        verified.sweeps[0].starts_with("verify-")
            && verified.sweeps[0].ends_with("-1-a")
            && verified.steps == 15,
        "{verified:?}"
    );
    let early = f.store.certify(&trial, &verified.sweeps).await.unwrap_err();
    assert!(early.to_string().contains("has no result"), "{early}");
    run(&f, &verified, |killed| reported(0.5, 15, Some(Resumed { token: killed, step: 9, exact: true })))
        .await;
    let certificate = f.store.certify(&trial, &verified.sweeps).await.unwrap();
    assert_eq!(
        (certificate.difference.as_deref(), certificate.kill_at, certificate.resumed_at, certificate.steps),
        (None, 12, Some(9), 15)
    );
    assert!(certificate.weights_digest.is_some() && certificate.worker == "host:7", "{certificate:?}");
    let history = f.store.history(&trial).await.unwrap();
    let noted = history.events.iter().find(|event| event.what == "verified").unwrap();
    assert!(
        noted.detail.contains("killed at step 12 of 15, resumed after step 9, on host:7: identical"),
        "{}",
        noted.detail
    );
    // Once more is another pair.
    assert!(f.store.verify(&trial, 12, None).await.unwrap().sweeps[1].ends_with("-3-b"));
}

pub async fn what_differs_is_not_certified(f: Fixture) {
    let (trial, verified) = verified(&f).await;
    run(&f, &verified, |killed| reported(0.25, 15, Some(Resumed { token: killed, step: 9, exact: true })))
        .await;
    let certificate = f.store.certify(&trial, &verified.sweeps).await.unwrap();
    assert_eq!(certificate.difference.as_deref(), Some("evaluations or losses differ"));
    type Case = (fn(AttemptToken) -> Batch, &'static str);
    let cases: [Case; 4] = [
        (
            |killed| reported(0.5, 14, Some(Resumed { token: killed, step: 9, exact: true })),
            "weights or logits differ",
        ),
        (|_| reported(0.5, 15, None), "started again at step 0"),
        (
            |killed| reported(0.5, 15, Some(Resumed { token: killed, step: 9, exact: false })),
            "another device",
        ),
        (
            |killed| Batch {
                artifacts: Vec::new(),
                ..reported(0.5, 15, Some(Resumed { token: killed, step: 9, exact: true }))
            },
            "were not reported",
        ),
    ];
    for (resume, part) in cases {
        let again = f.store.verify(&trial, 12, Some(15)).await.unwrap();
        run(&f, &again, resume).await;
        let difference = f.store.certify(&trial, &again.sweeps).await.unwrap().difference.unwrap();
        assert!(difference.contains(part), "{difference}");
    }
}

pub async fn what_cannot_be_verified_is_refused(f: Fixture) {
    let (trial, verified) = verified(&f).await;
    for (kill_at, steps) in [(2, None), (21, None), (16, Some(15)), (3, Some(99))] {
        let refused = f.store.verify(&trial, kill_at, steps).await.unwrap_err();
        assert!(matches!(refused, StoreError::Spec(_)), "{refused}");
    }
    for sweeps in [
        ["first".to_owned(), verified.sweeps[1].clone()],
        [verified.sweeps[1].clone(), verified.sweeps[0].clone()],
    ] {
        let refused = f.store.certify(&trial, &sweeps).await.unwrap_err();
        assert!(
            matches!(&refused, StoreError::Verification(reason) if reason.contains("do not verify")),
            "{refused}"
        );
    }
    for worker in ["w1", "w2"] {
        f.store.leave(secret(), worker).await.unwrap();
    }
    let refused = f.store.verify(&trial, 12, None).await.unwrap_err();
    assert!(refused.to_string().contains("no worker is there"), "{refused}");
}

pub async fn a_sweep_that_another_build_planned_waits_and_says_why(f: Fixture) {
    let old = SweepSpec { protocol: PROTOCOL_VERSION - 1, ..spec(SWEEP) };
    let mut progress = f.store.submit(&old, SubmitOptions::default()).await.unwrap();
    while !progress.borrow_and_update().is_done() {
        within(progress.changed()).await.unwrap();
    }
    let claimed = f.claim_as("w1", 4).await;
    assert!(claimed.leases.is_empty() && claimed.idle, "{claimed:?}");
    let version = format!("version {} of the numbers", PROTOCOL_VERSION - 1);
    assert!(claimed.unfit.contains(&version) && claimed.unfit.contains("another name"), "{}", claimed.unfit);
    assert_eq!(f.status("first").await.state, SweepState::Outdated);
    // Its trials bear other names than those that this build gives.
    let ids = f.store.trials("first", None, 0).await.unwrap().rows;
    assert!(ids.iter().zip(spec(SWEEP).trials()).all(|(old, new)| old.spec_hash != new.hash()));
    let refused = f.store.submit(&spec(SWEEP), SubmitOptions::default()).await.unwrap_err();
    assert!(refused.to_string().contains("version of the numbers"), "{refused}");
    // It is in nobody's way, and can be called off.
    f.submit(&SWEEP.replace("\"first\"", "\"second\"")).await;
    assert_eq!(f.claim(8).await.len(), 4);
    assert_eq!(f.cancel("").await, 4);
    assert_eq!(
        (f.count(StateName::Cancelled).await, f.status("first").await.state.as_str()),
        (4, "cancelled")
    );
}
