//! What attempts leave, how others go on from it, and how results that should be equal are compared.

use sortie_coordinator::store::{ArtifactLocation, StoreError, Worker};
use sortie_core::artifact::{Artifact, ArtifactKind, Resumed};
use sortie_core::code::Code;
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::keep::{Keep, KeepWeights};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::Batch;
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::record::Fingerprint;

use crate::fixture::*;

pub fn artifact(kind: ArtifactKind, step: u64, key: &str) -> Artifact {
    let digest = format!("{step:064x}");
    Artifact { kind, method: Method::Plain, step, key: key.to_owned(), digest, bytes: 7 }
}

fn checkpoint(step: u64, key: &str) -> Artifact {
    artifact(ArtifactKind::Checkpoint, step, key)
}

fn left(sequence: u64, artifacts: Vec<Artifact>) -> Batch {
    Batch { sequence, artifacts, ..Batch::default() }
}

fn on(device: &str) -> Option<Fingerprint> {
    Some(Fingerprint {
        device: device.to_owned(),
        threads: 2,
        libtorch: "2".to_owned(),
        ..Fingerprint::default()
    })
}

fn in_parts(fingerprint: Option<Fingerprint>) -> Option<Fingerprint> {
    fingerprint.map(|fingerprint| Fingerprint { micro_batch: Some(48), ..fingerprint })
}

async fn events(f: &Fixture, trial: &str) -> Vec<(String, String)> {
    let history = f.store.history(trial).await.unwrap();
    history.events.into_iter().map(|event| (event.what, event.detail)).collect()
}

pub async fn a_lease_offers_what_earlier_attempts_at_the_trial_left(f: Fixture) {
    f.submit(SWEEP).await;
    let leases = f.claim(2).await;
    assert!(leases.iter().all(|lease| lease.checkpoints.is_empty()
        && lease.kill_at.is_none()
        && lease.keep == Keep::default()));
    let [first, other] = [leases[0].token, leases[1].token];
    let keys: Vec<String> = (1..=5).map(|step| format!("checkpoints/a/{step}")).collect();
    let all = (1..=5).map(|step| checkpoint(step, &keys[step as usize - 1]));
    f.store
        .report(
            secret(),
            first,
            left(
                1,
                all.chain([checkpoint(6, ""), artifact(ArtifactKind::FinalWeights, 7, "weights/x")])
                    .collect(),
            ),
        )
        .await
        .unwrap();
    f.store.report(secret(), other, left(1, vec![checkpoint(9, "checkpoints/b/9")])).await.unwrap();
    f.fail(first, ErrorClass::Preempted).await;
    let second = f.claim_one().await;
    assert_eq!(second.spec_hash, leases[0].spec_hash);
    // The newest first, a few of them; neither what was not kept nor what is no checkpoint nor another trial's.
    let offered: Vec<_> =
        second.checkpoints.iter().map(|found| (found.token, found.step, found.key.as_str())).collect();
    assert_eq!(offered, [5, 4, 3, 2].map(|step| (first, step, keys[step as usize - 1].as_str())));
    assert_eq!(second.checkpoints[0].digest, format!("{:064x}", 5));
    f.store
        .report(
            secret(),
            second.token,
            left(1, vec![checkpoint(5, "checkpoints/a/5-again"), checkpoint(8, "checkpoints/a/8")]),
        )
        .await
        .unwrap();
    // Those of an attempt that was lost count too; of one step the later attempt's comes first.
    f.pass(11);
    f.store.reap().await.unwrap();
    let leases = f.claim(2).await;
    let third = leases.iter().find(|lease| lease.spec_hash == second.spec_hash).unwrap();
    let offered: Vec<_> = third.checkpoints.iter().map(|found| (found.token, found.step)).collect();
    assert_eq!(offered, [(second.token, 8), (second.token, 5), (first, 5), (first, 4)]);
    assert_eq!(leases.iter().find(|lease| lease.spec_hash != second.spec_hash).unwrap().checkpoints.len(), 1);
}

pub async fn another_sweeps_checkpoints_are_not_offered(f: Fixture) {
    f.submit(SWEEP).await;
    let first = f.claim_one().await;
    f.store.report(secret(), first.token, left(1, vec![checkpoint(3, "checkpoints/a/3")])).await.unwrap();
    f.submit(&SWEEP.replace("\"first\"", "\"second\"")).await;
    let again = f.claim(8).await;
    let same =
        again.iter().find(|lease| lease.spec_hash == first.spec_hash && lease.sweep == "second").unwrap();
    assert!(same.checkpoints.is_empty());
}

pub async fn artifacts_reported_again_are_stored_once_and_of_two_the_first_counts(f: Fixture) {
    let text = format!("{SWEEP}[keep]\nweights = \"final\"\nlogits = false\n");
    f.submit(&text).await;
    let lease = f.claim_one().await;
    assert_eq!(lease.keep, Keep { weights: KeepWeights::Final, logits: false, ..Keep::default() });
    let logits = artifact(ArtifactKind::FinalLogits, 20, "");
    let weights = artifact(ArtifactKind::FinalWeights, 20, "weights/x");
    let first = left(
        1,
        vec![logits.clone(), Artifact { bytes: 8, ..logits.clone() }, checkpoint(3, "checkpoints/a/3")],
    );
    for _ in 0..2 {
        f.store.report(secret(), lease.token, first.clone()).await.unwrap();
    }
    let id = lease.spec_hash.to_string();
    assert_eq!(f.store.artifacts(&id).await.unwrap().artifacts.len(), 2);
    let last = left(2, vec![weights.clone(), Artifact { bytes: 9, ..logits.clone() }]);
    f.complete_with(lease.token, last, Outcome::Succeeded).await.unwrap();
    let kept = f.store.artifacts(&id[..8]).await.unwrap();
    assert_eq!((kept.spec_hash, kept.state), (lease.spec_hash, StateName::Succeeded));
    // The checkpoint is gone once the trial has its end.
    let reported: Vec<_> =
        kept.artifacts.into_iter().map(|kept| (kept.token, kept.artifact, kept.host, kept.place)).collect();
    let here = |artifact: Artifact| (lease.token, artifact, "host".to_owned(), None);
    assert_eq!(reported, [here(logits), here(weights)]);
    // A reused trial has the files of its result.
    f.submit(&text.replace("\"first\"", "\"second\"")).await;
    assert_eq!(f.store.artifacts(&format!("second/{id}")).await.unwrap().artifacts.len(), 2);
}

pub async fn an_artifact_that_leads_elsewhere_is_refused(f: Fixture) {
    f.submit(SWEEP).await;
    let token = f.claim_one().await.token;
    let right = checkpoint(3, "checkpoints/a/3");
    for (wrong, part) in [
        (Artifact { key: "../x".to_owned(), ..right.clone() }, "relative path"),
        (Artifact { key: "/x".to_owned(), ..right.clone() }, "relative path"),
        (Artifact { digest: "x".to_owned(), ..right.clone() }, "digest"),
        (Artifact { bytes: u64::MAX, ..right.clone() }, "bytes"),
        (Artifact { step: 21, ..right.clone() }, "step 21"),
    ] {
        let refused = f.store.report(secret(), token, left(1, vec![right.clone(), wrong])).await;
        assert!(
            matches!(&refused, Err(StoreError::Foreign { what, .. }) if what.contains(part)),
            "{refused:?}"
        );
    }
    let resumed = |from, step| Batch {
        sequence: 1,
        resumed: Some(Resumed { token: AttemptToken(from), step, exact: true }),
        ..Batch::default()
    };
    for wrong in [resumed(0, 3), resumed(token.0, 3), resumed(token.0 + 1, 3), resumed(token.0 - 1, 21)] {
        let refused = f.store.report(secret(), token, wrong).await;
        assert!(matches!(refused, Err(StoreError::Foreign { .. })), "{refused:?}");
    }
    f.store.report(secret(), token, left(1, vec![right])).await.unwrap();
}

pub async fn a_history_shows_where_an_attempt_took_up_anothers_work(f: Fixture) {
    f.submit(SWEEP).await;
    let first = f.claim_one().await;
    f.fail(first.token, ErrorClass::Preempted).await;
    let second = f.claim_one().await;
    let resumed = |exact| Some(Resumed { token: first.token, step: 12, exact });
    f.store
        .report(secret(), second.token, Batch { sequence: 1, resumed: resumed(true), ..Batch::default() })
        .await
        .unwrap();
    f.fail(second.token, ErrorClass::Preempted).await;
    let third = f.claim_one().await;
    f.store
        .report(secret(), third.token, Batch { sequence: 1, resumed: resumed(false), ..Batch::default() })
        .await
        .unwrap();
    let reported = events(&f, &first.spec_hash.to_string()).await;
    let what: Vec<&str> = reported.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(what, ["started", "preempted", "started", "resumed", "preempted", "started", "resumed"]);
    assert_eq!(reported[3].1, "after step 12 of attempt 1");
    assert!(reported[6].1.contains("not exactly"), "{reported:?}");
}

pub async fn a_result_that_contradicts_an_earlier_attempt_is_noted(f: Fixture) {
    // Of photo alone, so that every trial holds out the same.
    f.submit(&large_sweep(4).replace("[\"photo\", \"sketch\"]", "[\"photo\"]")).await;
    let row = |domain: &str, step, correct, loss: f64| Evaluation {
        loss: Some(loss),
        ..evaluation(domain, step, correct)
    };
    let reported = |fingerprint, rows: Vec<Evaluation>| Batch {
        sequence: 1,
        fingerprint,
        evaluations: rows,
        ..Batch::default()
    };
    let before = vec![row("sketch", 0, 3, 0.5), row("photo", 0, 3, 0.5), row("sketch", 10, 4, 0.25)];
    let next = f64::from_bits(0.25_f64.to_bits() + 1);
    for (fingerprint, rows, expected) in [
        (on("cpu"), before.clone(), None),
        // More than the other reported is no contradiction.
        (on("cpu"), [before.clone(), vec![row("sketch", 20, 9, 0.1)]].concat(), None),
        (
            on("cpu"),
            vec![row("sketch", 0, 3, 0.5), row("photo", 0, 4, 0.5), row("sketch", 10, 4, next)],
            Some("2 evaluations from step 0 on"),
        ),
        (
            on("cpu"),
            vec![Evaluation { loss: None, ..before[2].clone() }],
            Some("1 evaluations from step 10 on"),
        ),
        (on("cuda:0"), vec![row("sketch", 0, 9, 0.5)], None),
        // Memory made its steps smaller, which is another order of sums.
        (in_parts(on("cpu")), vec![row("sketch", 0, 9, 0.5)], None),
    ] {
        let first = f.claim_one().await;
        f.store.report(secret(), first.token, reported(on("cpu"), before.clone())).await.unwrap();
        f.fail(first.token, ErrorClass::Preempted).await;
        let second = f.claim_one().await;
        assert_eq!(second.spec_hash, first.spec_hash);
        f.complete_with(second.token, reported(fingerprint, rows), Outcome::Succeeded).await.unwrap();
        let noted = events(&f, &first.spec_hash.to_string())
            .await
            .into_iter()
            .find(|(what, _)| what == "nondeterministic");
        match (expected, noted) {
            (None, None) => {}
            (Some(part), Some((_, detail))) => {
                assert!(detail.starts_with(part) && detail.contains("attempt 1"), "{detail}");
            }
            (expected, noted) => panic!("{expected:?} {noted:?}"),
        }
    }
}

pub async fn machines_may_differ(f: Fixture) {
    f.submit(SWEEP).await;
    f.store.register(&Worker { host: "elsewhere".to_owned(), ..worker("w2") }).await.unwrap();
    let first = f.claim_one().await;
    let reported = |correct| Batch {
        sequence: 1,
        fingerprint: on("cpu"),
        evaluations: vec![evaluation("sketch", 0, correct)],
        ..Batch::default()
    };
    f.store.report(secret(), first.token, reported(1)).await.unwrap();
    f.fail(first.token, ErrorClass::Preempted).await;
    let second = f.claim_as("w2", 1).await.leases.remove(0);
    f.complete_with(second.token, reported(2), Outcome::Succeeded).await.unwrap();
    assert!(
        events(&f, &first.spec_hash.to_string()).await.iter().all(|(what, _)| what != "nondeterministic")
    );
}

pub async fn a_history_shows_what_every_attempt_ran(f: Fixture) {
    f.submit(SWEEP).await;
    let mut trial = String::new();
    for (version, clean) in [("Python 3.12.1", Some(true)), ("Python 3.13.0", Some(false))] {
        let lease = f.claim_one().await;
        let code = Code {
            commit: Some("3f2a91c0aa".to_owned()),
            clean,
            version: Some(version.to_owned()),
            ..Code::default()
        };
        let fingerprint = Some(Fingerprint { code: Some(Box::new(code)), ..Fingerprint::default() });
        f.store.report(secret(), lease.token, Batch { fingerprint, ..left(1, Vec::new()) }).await.unwrap();
        f.fail(lease.token, ErrorClass::Preempted).await;
        trial = lease.spec_hash.to_string();
    }
    let started = events(&f, &trial).await.into_iter().filter(|(what, _)| what == "started");
    let details: Vec<String> = started.map(|(_, detail)| detail).collect();
    assert_eq!(
        details,
        ["on host:7, ran 3f2a91c, Python 3.12.1", "on host:7, ran 3f2a91c (not clean), Python 3.13.0"]
    );
}

pub async fn every_lease_names_the_first_attempt(f: Fixture) {
    f.submit(SWEEP).await;
    let first = f.claim_one().await;
    assert_eq!(first.first, first.token);
    f.fail(first.token, ErrorClass::Preempted).await;
    let second = f.claim_one().await;
    f.fail(second.token, ErrorClass::Preempted).await;
    let third = f.claim_one().await;
    assert_eq!((second.spec_hash, second.first), (first.spec_hash, first.token));
    assert_eq!((third.spec_hash, third.first, third.attempt), (first.spec_hash, first.token, 3));
}

/// An attempt at the first trial that left a checkpoint at step 3 and was handed back, on a worker that keeps its artifacts there.
async fn handed_back(f: &Fixture, place: ArtifactLocation) -> sortie_core::trial::SpecHash {
    for id in ["w1", "w2"] {
        f.store.register(&Worker { checkpoints: Some(place), ..worker(id) }).await.unwrap();
    }
    f.submit(SWEEP).await;
    let first = f.claim_one().await;
    f.store.report(secret(), first.token, left(1, vec![checkpoint(3, "checkpoints/a/3")])).await.unwrap();
    f.fail(first.token, ErrorClass::Preempted).await;
    first.spec_hash
}

pub async fn a_trial_goes_back_to_the_machine_whose_disk_has_its_checkpoints(f: Fixture) {
    let trial = handed_back(&f, ArtifactLocation::Local).await;
    let others = f.claim_as("w2", 9).await.leases;
    assert_eq!(others.len(), 3);
    assert!(others.iter().all(|lease| lease.spec_hash != trial));
    let again = f.claim_one().await;
    assert_eq!((again.spec_hash, again.attempt, again.checkpoints.len()), (trial, 2, 1));
    // Where that machine is gone, another one gets it, and so it does when it failed there.
    f.fail(again.token, ErrorClass::Preempted).await;
    f.store.leave(secret(), "w1").await.unwrap();
    let elsewhere = f.claim_as("w2", 1).await.leases.remove(0);
    assert_eq!((elsewhere.spec_hash, elsewhere.attempt), (trial, 3));
    f.fail(elsewhere.token, ErrorClass::Preempted).await;
    f.store.register(&Worker { checkpoints: Some(ArtifactLocation::Local), ..worker("w1") }).await.unwrap();
    let again = f.claim_one().await;
    f.fail(again.token, ErrorClass::BadData).await;
    assert!(f.claim(1).await.is_empty());
    assert_eq!(f.claim_as("w2", 1).await.leases[0].attempt, 5);
    for lease in others {
        f.succeed(lease.token).await;
    }
}

pub async fn after_some_minutes_any_machine_gets_it(f: Fixture) {
    let trial = handed_back(&f, ArtifactLocation::Local).await;
    let is_there = |leases: &[sortie_core::lease::Lease]| leases.iter().any(|lease| lease.spec_hash == trial);
    assert!(!is_there(&f.claim_as("w2", 9).await.leases));
    f.pass(601);
    // Its machine is still there.
    f.store.heartbeat(secret(), "w1", Vec::new()).await.unwrap();
    assert!(is_there(&f.claim_as("w2", 9).await.leases));
}

pub async fn a_trial_whose_checkpoints_are_shared_goes_anywhere(f: Fixture) {
    let trial = handed_back(&f, ArtifactLocation::Shared).await;
    assert_eq!(f.claim_as("w2", 1).await.leases[0].spec_hash, trial);
}

pub async fn where_a_workers_artifacts_go_is_reported_when_it_knows(f: Fixture) {
    let place = async || f.store.workers(true).await.unwrap()[0].worker.checkpoints;
    assert_eq!(place().await, None);
    for reported in [Some(ArtifactLocation::Local), Some(ArtifactLocation::Shared)] {
        f.store.register(&Worker { checkpoints: reported, ..worker("w1") }).await.unwrap();
        assert_eq!(place().await, reported);
    }
}
