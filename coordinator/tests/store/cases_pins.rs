//! What the name of a dataset or of weights means, where machines disagree.

use sortie_coordinator::store::StoreError;
use sortie_core::inputs::InputKind;
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::lease::Lease;

use crate::cases_reports::reported;
use crate::fixture::*;

const HELD: &str = "machines disagree about dataset PACS: machine w1 has digest a, machine w2 has digest b; `sortie pin PACS DIGEST` says which one counts, `sortie unpin PACS` forgets them";

async fn register(f: &Fixture, names: &[&str]) {
    for name in names {
        f.store.register(&worker(name)).await.unwrap();
    }
}

async fn claim_on(f: &Fixture, worker: &str) -> Lease {
    f.claim_as(worker, 1).await.leases.pop().expect("a trial waits")
}

/// A trial succeeds on a worker that has these data.
async fn succeed_with(f: &Fixture, worker: &str, dataset: &str) {
    let token = claim_on(f, worker).await.token;
    f.complete_with(token, reported(dataset, "w"), Outcome::Succeeded).await.unwrap();
}

/// Machine `w1` has data `a` and a result, and machine `w2` has data `b`. Gives the attempts: one that goes on at `w1`, and that of `w2`.
async fn disagree(f: &Fixture) -> [Lease; 2] {
    register(f, &["w2"]).await;
    succeed_with(f, "w1", "a").await;
    let first = claim_on(f, "w1").await;
    f.store.report(secret(), first.token, reported("a", "w")).await.unwrap();
    let second = claim_on(f, "w2").await;
    assert!(is_stale(&f.store.report(secret(), second.token, reported("b", "w")).await));
    [first, second]
}

async fn assert_held(f: &Fixture) {
    for worker in ["w1", "w2"] {
        let claimed = f.claim_as(worker, 9).await;
        assert_eq!((claimed.unfit.as_str(), claimed.quarantined.as_str()), (HELD, ""));
        assert!(claimed.leases.is_empty() && claimed.idle, "only a user can change that");
    }
}

pub async fn what_two_machines_have_counts_and_an_odd_machine_is_quarantined(f: Fixture) {
    f.submit(&large_sweep(2)).await;
    register(&f, &["w2", "w3"]).await;
    succeed_with(&f, "w1", "a").await;
    succeed_with(&f, "w2", "a").await;
    let odd = claim_on(&f, "w3").await;
    assert!(is_stale(&f.store.report(secret(), odd.token, reported("b", "w")).await));
    let reason = "quarantined for dataset PACS for 10 min: the dataset of PACS on this worker has digest b, but a is pinned; `sortie pin PACS DIGEST` says that another one is right";
    assert_eq!(f.claim_as("w3", 1).await.quarantined, reason);
    // The trial waits for another machine, and has all its attempts.
    let again = claim_on(&f, "w2").await;
    assert_eq!((again.spec_hash, again.attempt), (odd.spec_hash, 2));
    f.complete_with(again.token, reported("a", "w"), Outcome::Succeeded).await.unwrap();
    // It is known after a restart, and found out again when the quarantine is over.
    let f = f.restart().await;
    f.pass(601);
    let odd = claim_on(&f, "w3").await;
    f.complete_with(odd.token, reported("b", "w"), Outcome::Succeeded).await.unwrap();
    assert_eq!(f.claim_as("w3", 1).await.quarantined, reason);
    assert_eq!((f.count(StateName::Succeeded).await, f.count(StateName::Failed).await), (3, 0));
}

pub async fn two_machines_that_disagree_hold_the_trials_until_a_user_pins(f: Fixture) {
    f.submit(&large_sweep(2)).await;
    let [first, second] = disagree(&f).await;
    assert_held(&f).await;
    let held_up = f.status("first").await.held_up.unwrap();
    assert_eq!((held_up.reason.as_str(), held_up.stuck), (HELD, false), "one runs still");
    // What runs on the machine that was first goes on.
    f.succeed(first.token).await;
    let f = f.restart().await;
    assert_held(&f).await;
    assert!(f.status("first").await.held_up.unwrap().stuck);
    assert_eq!(f.store.outlook(&spec(SWEEP)).await.unwrap().held_up.unwrap().reason, HELD);
    let history = f.store.history(&second.spec_hash.to_string()).await.unwrap();
    assert_eq!(history.line.state, StateName::Queued);
    assert_eq!(history.events.last().unwrap().detail, format!("at step 0: {HELD}"));
    let refused = f.store.pin("PACS", None, "c").await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "\"c\" is no digest of dataset PACS; allowed: a whole one of 64 hexadecimal digits, or the first digits of one of a, b"
    );
    let pinned = f.store.pin("PACS", None, "b").await.unwrap();
    assert_eq!((pinned.digest.as_str(), pinned.results), ("b", 2), "two were made with the other one");
    assert_eq!(pinned.machines, ["w1"]);
    assert_eq!(
        f.claim_as("w1", 1).await.quarantined,
        "quarantined for dataset PACS for 10 min: the dataset of PACS is another on this machine than b, which a user pinned"
    );
    succeed_with(&f, "w2", "b").await;
    assert_eq!((f.count(StateName::Succeeded).await, f.count(StateName::Failed).await), (3, 0));
    // The user may say something else, and may name what nobody reported.
    let whole = "0a".repeat(32);
    let pinned = f.store.pin("PACS", Some(InputKind::Dataset), &whole).await.unwrap();
    assert_eq!((pinned.machines, pinned.results), (vec!["w2".to_owned()], 1));
    f.store.register(&worker("w3")).await.unwrap();
    succeed_with(&f, "w3", &whole).await;
}

pub async fn two_machines_that_disagree_hold_the_trials_until_a_user_unpins(f: Fixture) {
    f.submit(&large_sweep(2)).await;
    let [first, _] = disagree(&f).await;
    f.succeed(first.token).await;
    let waiting = f.wait_for_a_trial(false).await;
    let unpinned = f.store.unpin("PACS", None).await.unwrap();
    assert_eq!(unpinned.digests, ["a", "b"]);
    let lease = woken(&f, waiting).await.leases.remove(0);
    assert_eq!(f.status("first").await.held_up, None);
    // The next report pins anew.
    let second = claim_on(&f, "w2").await;
    f.complete_with(second.token, reported("b", "w"), Outcome::Succeeded).await.unwrap();
    assert!(is_stale(&f.store.report(secret(), lease.token, reported("a", "w")).await));
    assert!(f.claim(1).await.is_empty());
    assert_eq!(f.count(StateName::Failed).await, 0);
}

pub async fn a_lying_first_worker_breaks_no_honest_trial(f: Fixture) {
    f.submit(SWEEP).await;
    register(&f, &["w2"]).await;
    let lie = claim_on(&f, "w1").await;
    f.store.report(secret(), lie.token, reported("false", "w")).await.unwrap();
    let honest = claim_on(&f, "w2").await;
    assert!(is_stale(&f.store.report(secret(), honest.token, reported("true", "w")).await));
    assert!(f.claim_as("w2", 1).await.leases.is_empty());
    let pinned = f.store.pin("PACS", None, "tr").await.unwrap();
    assert_eq!((pinned.digest.as_str(), pinned.results), ("true", 0));
    assert_eq!(pinned.machines, ["w1"]);
    // The attempt with the lie ends, too.
    assert!(is_stale(&f.store.report(secret(), lie.token, batch(2, Vec::new())).await));
    while let Some(lease) = f.claim_as("w2", 1).await.leases.pop() {
        f.complete_with(lease.token, reported("true", "w"), Outcome::Succeeded).await.unwrap();
    }
    assert_eq!((f.count(StateName::Succeeded).await, f.count(StateName::Failed).await), (4, 0));
}

pub async fn a_third_machine_that_runs_already_decides(f: Fixture) {
    f.submit(&large_sweep(2)).await;
    register(&f, &["w3"]).await;
    let third = claim_on(&f, "w3").await;
    let [first, _] = disagree(&f).await;
    f.store.report(secret(), third.token, reported("b", "w")).await.unwrap();
    assert_eq!(f.status("first").await.held_up, None);
    assert_eq!(
        f.claim_as("w1", 1).await.quarantined,
        "quarantined for dataset PACS for 10 min: the dataset of PACS is another on this machine than on two others, which have digest b"
    );
    assert!(is_stale(&f.store.report(secret(), first.token, batch(2, Vec::new())).await));
    succeed_with(&f, "w2", "b").await;
}

pub async fn other_weights_keep_a_machine_from_those_alone(f: Fixture) {
    f.submit(SWEEP).await;
    f.submit(&other_sweep("second", "0.25").replace("efficientnet-lite0", "resnet50-v1")).await;
    f.act("second", sortie_coordinator::store::SweepAction::Priority(-1)).await;
    register(&f, &["w2", "w3"]).await;
    succeed_with(&f, "w1", "a").await;
    succeed_with(&f, "w2", "a").await;
    let odd = claim_on(&f, "w3").await;
    assert!(is_stale(&f.store.report(secret(), odd.token, reported("a", "x")).await));
    let other = claim_on(&f, "w3").await;
    assert_eq!(other.sweep, "second");
    // That it succeeds with other weights says nothing of these.
    f.complete_with(other.token, reported("a", "v"), Outcome::Succeeded).await.unwrap();
    assert_eq!(claim_on(&f, "w3").await.sweep, "second");
    let workers = f.store.workers(true).await.unwrap();
    let kinds = workers.iter().flat_map(|line| line.quarantines()).map(|fault| fault.kind.to_string());
    assert_eq!(kinds.collect::<Vec<_>>(), ["weights efficientnet-lite0"]);
}

pub async fn a_machine_alone_may_mend_its_data_before_its_first_result(f: Fixture) {
    f.submit(&large_sweep(1)).await;
    let broken = claim_on(&f, "w1").await;
    f.store.report(secret(), broken.token, reported("broken", "w")).await.unwrap();
    f.fail(broken.token, ErrorClass::Preempted).await;
    for _ in 0..4 {
        succeed_with(&f, "w1", "mended").await;
    }
    assert_eq!(f.count(StateName::Succeeded).await, 4);
}

pub async fn a_name_that_means_nothing_or_two_things_is_refused(f: Fixture) {
    let same = SWEEP.replace("\"efficientnet-lite0\"\n", "\"efficientnet-lite0\"\nweights = \"PACS\"\n");
    f.submit(&same).await;
    let refused = async |name| match f.store.unpin(name, None).await {
        Err(error @ StoreError::Input { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused("PACS").await,
        "\"PACS\" names nothing of which a digest was reported: none was so far"
    );
    succeed_with(&f, "w1", "a").await;
    assert_eq!(
        refused("PACS").await,
        "\"PACS\" names a dataset and weights: add --kind dataset or --kind weights"
    );
    assert_eq!(
        refused("VLCS").await,
        "\"VLCS\" names nothing of which a digest was reported; there are: dataset PACS, weights PACS"
    );
    let unpinned = f.store.unpin("PACS", Some(InputKind::Weights)).await.unwrap();
    assert_eq!((unpinned.input.to_string(), unpinned.digests), ("weights PACS".into(), vec!["w".to_owned()]));
}
