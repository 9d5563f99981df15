//! The store's contract, on a real SQLite file.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::time::Duration;

use sortie_coordinator::store::{Batch, Claim, Claimed, Leased, Store, StoreError, Worker};
use sortie_core::job::{ErrorClass, Outcome, StateName, Timestamp, Token};
use sortie_core::metrics::{Evaluation, Method, SplitName, TrainingLoss};
use sortie_core::record::Fingerprint;
use sortie_core::spec::{SpecError, SweepSpec};

const LEASE: Duration = Duration::from_secs(10);
const T0: Timestamp = Timestamp(1_000_000);

const SWEEP: &str = r#"
name = "first"
[data]
dataset = "PACS"
[model]
backbone = "efficientnet-lite0"
[train]
steps = 20
[grid]
dropout = [0.0, 0.5]
lr = 1e-3
weight_decay = 1e-4
held_out = ["photo", "sketch"]
"#;

struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, T0).await.unwrap();
        store.register(&worker(), T0).await.unwrap();
        Self { folder, store }
    }

    async fn with_sweep() -> Self {
        let fixture = Self::new().await;
        fixture.store.submit(&spec(SWEEP), T0).await.unwrap();
        fixture
    }

    async fn claim(&self, count_max: u32, now: Timestamp) -> Claimed {
        self.store.claim(&Claim { worker_id: "w1", count_max, sweep: None }, now).await.unwrap()
    }

    async fn claim_one(&self, now: Timestamp) -> Leased {
        self.claim(1, now).await.leases.pop().unwrap()
    }

    async fn count(&self, state: StateName) -> u64 {
        let status = self.store.status(Some("first")).await.unwrap().remove(0);
        match state {
            StateName::Queued => status.queued,
            StateName::Leased => status.leased,
            StateName::Succeeded => status.succeeded,
            StateName::Diverged => status.diverged,
            StateName::Failed => status.failed,
        }
    }
}

async fn open(folder: &tempfile::TempDir, now: Timestamp) -> Result<Store, StoreError> {
    Store::open(&format!("sqlite://{}", folder.path().join("sortie.db").display()), LEASE, now).await
}

fn worker() -> Worker {
    Worker { id: "w1".into(), host: "host".into(), pid: 7, devices: vec!["cpu".into()], software: "test".into() }
}

fn spec(text: &str) -> SweepSpec {
    SweepSpec::parse(text, None).unwrap()
}

fn later(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn evaluation(domain: &str, step: u64, correct: u64) -> Evaluation {
    Evaluation { method: Method::Plain, step, domain: domain.into(), split: SplitName::Out, n: 10, correct, loss: 0.5 }
}

fn batch(sequence: u64, evaluations: Vec<Evaluation>) -> Batch {
    Batch { sequence, evaluations, losses: vec![TrainingLoss { step: sequence, loss: 1.0 }], fingerprint: None }
}

fn fingerprint(dataset: &str) -> Batch {
    let fingerprint = Fingerprint { dataset_digest: dataset.into(), weights_digest: "w".into(), ..Fingerprint::default() };
    Batch { sequence: 1, fingerprint: Some(fingerprint), ..Batch::default() }
}

fn failed(class: ErrorClass) -> Outcome {
    Outcome::Failed { class, message: "two\nlines".into() }
}

fn is_stale<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Refused(_)))
}

#[tokio::test]
async fn submitting_again_adds_only_what_is_new_and_refuses_a_changed_fixed_value() {
    let Fixture { store, .. } = &Fixture::new().await;
    let submit = async |text: &str| store.submit(&spec(text), T0).await;
    let first = submit(SWEEP).await.unwrap();
    assert_eq!((first.planned, first.added), (4, 4));
    let again = submit(SWEEP).await.unwrap();
    assert_eq!((again.planned, again.added), (4, 0));
    let grown = submit(&SWEEP.replace("[0.0, 0.5]", "[0.5, 0.9]")).await.unwrap();
    assert_eq!((grown.planned, grown.added), (6, 2));
    let changed = submit(&SWEEP.replace("steps = 20", "steps = 30").replace("lr = 1e-3", "lr = 1e-2")).await.unwrap_err();
    assert!(matches!(changed, StoreError::Spec(SpecError::Changed { .. })), "{changed:?}");
    for part in ["steps is 20 there and 30 here", "grid.lr is 0.001 there and 0.01 here"] {
        assert!(changed.to_string().contains(part), "{changed}");
    }
    assert_eq!(submit(&SWEEP.replace("lr = 1e-3", "lr = [1e-3, 1e-2]")).await.unwrap().added, 6);
}

#[tokio::test]
async fn every_trial_is_leased_once_however_many_ask() {
    let fixture = Fixture::with_sweep().await;
    let claims = (0..8).map(|_| fixture.claim(1, T0));
    let mut ids: Vec<_> =
        futures::future::join_all(claims).await.into_iter().flat_map(|claimed| claimed.leases).map(|lease| lease.trial_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    let nothing = fixture.claim(1, T0).await;
    assert!(nothing.leases.is_empty() && !nothing.idle);
    let elsewhere = fixture.store.claim(&Claim { worker_id: "w1", count_max: 1, sweep: Some("other") }, T0).await.unwrap();
    assert!(elsewhere.idle);
    let stranger = fixture.store.claim(&Claim { worker_id: "w2", count_max: 1, sweep: None }, T0).await;
    assert!(matches!(stranger, Err(StoreError::UnknownWorker(_))));
}

#[tokio::test]
async fn held_out_domains_never_reach_the_validation_table() {
    let fixture = Fixture::with_sweep().await;
    let lease = fixture.claim_one(T0).await;
    assert_eq!(lease.spec.point.held_out, ["photo"]);
    let reports = batch(1, vec![evaluation("photo", 0, 3), evaluation("sketch", 0, 4)]);
    fixture.store.complete(lease.token, Some(&reports), &Outcome::Succeeded, T0).await.unwrap();
    let record = fixture.store.records("first", 0).await.unwrap().rows.remove(0);
    assert_eq!(record.state, StateName::Succeeded);
    assert_eq!(record.held_out, [evaluation("photo", 0, 3)]);
    assert_eq!(record.validation, [evaluation("sketch", 0, 4)]);
    let foreign = fixture.claim_one(T0).await;
    let unknown = fixture.store.report(foreign.token, &batch(1, vec![evaluation("moon", 0, 1)]), T0).await;
    assert!(matches!(unknown, Err(StoreError::Foreign { .. })), "{unknown:?}");
}

#[tokio::test]
async fn reports_are_numbered_and_said_again_are_said_once() {
    let fixture = Fixture::with_sweep().await;
    let token = fixture.claim_one(T0).await.token;
    let first = batch(1, vec![evaluation("sketch", 0, 1)]);
    fixture.store.report(token, &first, T0).await.unwrap();
    fixture.store.report(token, &first, T0).await.unwrap();
    let gap = fixture.store.report(token, &batch(3, vec![]), T0).await;
    assert!(matches!(gap, Err(StoreError::Gap { expected: 2, got: 3, .. })), "{gap:?}");
    let last = batch(2, vec![evaluation("sketch", 20, 2)]);
    for _ in 0..2 {
        fixture.store.complete(token, Some(&last), &Outcome::Succeeded, T0).await.unwrap();
    }
    let record = fixture.store.records("first", 0).await.unwrap().rows.remove(0);
    assert_eq!(record.validation, [evaluation("sketch", 0, 1), evaluation("sketch", 20, 2)]);
    assert!(matches!(fixture.store.report(Token(99), &first, T0).await, Err(StoreError::UnknownToken(_))));
}

#[tokio::test]
async fn a_stale_attempt_writes_nothing() {
    let fixture = Fixture::with_sweep().await;
    let old = fixture.claim(4, T0).await.leases.remove(0);
    assert_eq!(fixture.store.reap(later(11)).await.unwrap(), 4);
    let new = fixture.claim_one(later(11)).await;
    assert_eq!(new.trial_id, old.trial_id);
    assert_eq!(fixture.store.heartbeat(&[(old.token, 5), (new.token, 1)], later(12)).await.unwrap(), [old.token]);
    assert!(is_stale(fixture.store.report(old.token, &batch(1, vec![evaluation("sketch", 0, 9)]), later(12)).await));
    assert!(is_stale(fixture.store.complete(old.token, None, &Outcome::Succeeded, later(12)).await));
    let reports = batch(1, vec![evaluation("sketch", 0, 2)]);
    fixture.store.complete(new.token, Some(&reports), &Outcome::Succeeded, later(12)).await.unwrap();
    assert!(is_stale(fixture.store.complete(old.token, None, &Outcome::Succeeded, later(12)).await));
    let record = fixture.store.records("first", 0).await.unwrap().rows.remove(0);
    assert_eq!(record.validation, [evaluation("sketch", 0, 2)]);
}

#[tokio::test]
async fn an_expired_lease_that_nobody_took_comes_back_to_life() {
    let fixture = Fixture::with_sweep().await;
    let lease = fixture.claim_one(T0).await;
    assert_eq!(fixture.store.reap(later(9)).await.unwrap(), 0);
    assert_eq!(fixture.store.reap(later(10)).await.unwrap(), 1);
    assert_eq!(fixture.count(StateName::Leased).await, 0);
    assert!(fixture.store.heartbeat(&[(lease.token, 3)], later(11)).await.unwrap().is_empty());
    assert_eq!(fixture.count(StateName::Leased).await, 1);
    fixture.store.complete(lease.token, None, &Outcome::Succeeded, later(12)).await.unwrap();
    assert_eq!(fixture.count(StateName::Succeeded).await, 1);
}

#[tokio::test]
async fn failures_use_up_their_budget_and_say_why_in_one_line() {
    let fixture = Fixture::with_sweep().await;
    for expected in [StateName::Queued, StateName::Queued, StateName::Failed] {
        let lease = fixture.claim_one(T0).await;
        fixture.store.complete(lease.token, None, &failed(ErrorClass::Transient), T0).await.unwrap();
        assert_eq!(fixture.store.trials("first", None, 0).await.unwrap().rows[0].state, expected);
        // Said again by a worker that did not hear the answer: no second failure is counted.
        fixture.store.complete(lease.token, None, &failed(ErrorClass::Transient), T0).await.unwrap();
    }
    let line = fixture.store.trials("first", Some(StateName::Failed), 0).await.unwrap().rows.remove(0);
    assert_eq!((line.error.as_str(), line.attempts, line.worker.as_str()), ("transient: two lines", 3, "host:7"));
    let other = fixture.claim_one(T0).await;
    fixture.store.complete(other.token, None, &Outcome::Diverged { step: 4 }, T0).await.unwrap();
    assert_eq!((fixture.count(StateName::Failed).await, fixture.count(StateName::Diverged).await), (1, 1));
}

#[tokio::test]
async fn other_data_under_the_same_name_is_bad_data() {
    let fixture = Fixture::with_sweep().await;
    let first = fixture.claim_one(T0).await;
    fixture.store.report(first.token, &fingerprint("a"), T0).await.unwrap();
    let concurrent = fixture.claim_one(T0).await;
    // Nothing is pinned before an attempt is accepted.
    fixture.store.report(concurrent.token, &fingerprint("b"), T0).await.unwrap();
    fixture.store.complete(first.token, None, &Outcome::Succeeded, T0).await.unwrap();
    fixture.store.complete(concurrent.token, None, &Outcome::Succeeded, T0).await.unwrap();
    let late = fixture.claim_one(T0).await;
    assert!(is_stale(fixture.store.report(late.token, &fingerprint("c"), T0).await));
    assert_eq!((fixture.count(StateName::Succeeded).await, fixture.count(StateName::Failed).await), (1, 2));
    let line = fixture.store.trials("first", Some(StateName::Failed), 0).await.unwrap().rows.remove(0);
    assert!(line.error.starts_with("bad-data: the dataset of PACS on this worker has digest b"), "{}", line.error);
}

#[tokio::test]
async fn a_restarted_coordinator_knows_everything_and_gives_attempts_time_to_come_back() {
    let Fixture { folder, store } = Fixture::with_sweep().await;
    let second = open(&folder, T0).await;
    assert!(matches!(second, Err(StoreError::Open { ref reason, .. }) if reason.contains("another coordinator")), "{second:?}");
    let lease = store.claim(&Claim { worker_id: "w1", count_max: 1, sweep: None }, T0).await.unwrap().leases.remove(0);
    // No orderly close: the process is gone.
    drop(store);
    let store = open(&folder, later(3_600)).await.unwrap();
    assert_eq!(store.reap(later(3_601)).await.unwrap(), 0);
    store.report(lease.token, &batch(1, vec![evaluation("sketch", 0, 1)]), later(3_602)).await.unwrap();
    store.complete(lease.token, None, &Outcome::Succeeded, later(3_603)).await.unwrap();
    let next = store.claim(&Claim { worker_id: "w1", count_max: 1, sweep: None }, later(3_604)).await.unwrap().leases.remove(0);
    assert!(next.token > lease.token && next.trial_id != lease.trial_id);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text.db"), "this is no database, but it is long enough to be looked at as one".repeat(20)).unwrap();
    let path = |name: &str| format!("sqlite://{}/{name}", folder.path().display());
    for (url, word) in [
        (path("missing/sortie.db"), "folder must exist"),
        (path(""), "it is a folder"),
        (path("text.db"), "not a database"),
        ("postgres://localhost/x".to_owned(), "not supported"),
        ("sqlite::memory:".to_owned(), "not supported"),
    ] {
        let error = Store::open(&url, LEASE, T0).await.unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{url}: {error}");
    }
}

#[tokio::test]
async fn the_writer_is_durable() {
    let fixture = Fixture::with_sweep().await;
    let pragmas = fixture.store.writer_pragmas().await.unwrap();
    assert_eq!(pragmas, ("wal".to_owned(), 2, 1), "journal_mode, synchronous (2 = FULL), foreign_keys");
}

#[tokio::test]
async fn an_unknown_sweep_is_named_with_those_that_exist() {
    let fixture = Fixture::with_sweep().await;
    let error = fixture.store.status(Some("frist")).await.unwrap_err().to_string();
    assert_eq!(error, "there is no sweep \"frist\"; there are: first");
}
