//! A store on one of its databases, with a clock that a test sets, and short words for what tests do to it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_coordinator::clock::Clock;
use sortie_coordinator::store::{
    Claim, Claimed, Memory, OpenOptions, Settings, Store, StoreError, SubmitOptions, Submitted, SweepAction,
    SweepStatus, TrialAction, Worker,
};
use sortie_core::filter::Filter;
use sortie_core::job::{ErrorClass, Outcome, StateName, Timestamp};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{Batch, Completion, Lease};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName, TrainingLoss};
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;
use sortie_testkit::postgres::Postgres;
use tempfile::TempDir;

pub const LEASE: Duration = Duration::from_secs(10);
pub const SETTINGS: Settings = Settings::new(LEASE);
/// Where every test's clock starts, in milliseconds.
pub const T0: i64 = 1_000_000_000;
/// Far longer than anything takes on a busy machine: only a hang meets it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Four trials: photo and sketch held out, without dropout and with.
pub const SWEEP: &str = r#"
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

/// [`SWEEP`] under another name, with trials of its own.
pub fn other_sweep(name: &str, lr: &str) -> String {
    SWEEP.replace("\"first\"", &format!("{name:?}")).replace("1e-3", lr)
}

/// [`SWEEP`] whose trials evaluate every model of their trajectories.
pub fn sweep_of_all_methods() -> String {
    SWEEP.replace("steps = 20", "steps = 20\naverage = { from = 0 }\nensemble = { from = 0 }")
}

/// [`SWEEP`] with four times this many trials.
pub fn large_sweep(seeds: usize) -> String {
    format!("{SWEEP}seeds = {seeds}\n")
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct MockClock(AtomicI64);

impl MockClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(T0)))
    }

    pub fn pass(&self, duration: Duration) {
        self.step(i64::try_from(duration.as_millis()).unwrap());
    }

    /// Somebody sets the clock by so many milliseconds.
    pub fn step(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// What a store is opened on, and opened on again.
#[derive(Debug)]
pub enum Database {
    Model(Memory),
    Sqlite(TempDir),
    Postgres(String),
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// A database of its own on this run's server; none, with a line about it, where no server is installed.
    pub fn postgres() -> Option<Self> {
        static SERVER: OnceLock<Mutex<Postgres>> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if !Postgres::is_installed() {
            println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
            return None;
        }
        // It dies with this process: the testkit sees to that.
        let server = SERVER
            .get_or_init(|| Mutex::new(Postgres::start().unwrap()))
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        server.create_database(&name).unwrap();
        Some(Self::Postgres(server.url(&name)))
    }

    pub fn url(&self) -> String {
        match self {
            Self::Model(_) => "memory".to_owned(),
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("sortie.db").display()),
            Self::Postgres(url) => url.clone(),
        }
    }

    pub async fn open(&self, clock: &Arc<MockClock>) -> Result<Store, StoreError> {
        self.open_with(clock, SETTINGS).await
    }

    async fn open_with(&self, clock: &Arc<MockClock>, settings: Settings) -> Result<Store, StoreError> {
        let clock = Arc::clone(clock);
        let options = OpenOptions {
            clock: Some(Arc::clone(&clock) as Arc<_>),
            query_program: Some(env!("CARGO_BIN_EXE_sortie-query").into()),
            ..OpenOptions::default()
        };
        match self {
            Self::Model(model) => Store::in_memory(model, settings, clock).await,
            _ => Store::open(&self.url().parse().unwrap(), &options, settings).await,
        }
    }

    /// Opens it as soon as the store that had it open is gone, which ends in the background.
    pub async fn open_again(&self, clock: &Arc<MockClock>) -> Store {
        self.open_again_with(clock, SETTINGS).await
    }

    async fn open_again_with(&self, clock: &Arc<MockClock>, settings: Settings) -> Store {
        let tries = async {
            loop {
                match self.open_with(clock, settings).await {
                    Err(StoreError::Open { reason, .. }) if reason.contains("another coordinator") => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    opened => return opened.unwrap(),
                }
            }
        };
        within(tries).await
    }
}

/// See the module.
#[derive(Debug)]
pub struct Fixture {
    pub store: Store,
    pub clock: Arc<MockClock>,
    pub database: Database,
}

impl Fixture {
    /// An empty store with worker `w1`.
    pub async fn new(database: Database) -> Self {
        let clock = MockClock::new();
        let store = database.open(&clock).await.unwrap();
        store.register(&worker("w1")).await.unwrap();
        Self { store, clock, database }
    }

    /// Ends the coordinator, not in order, and starts another on what it left.
    pub async fn restart(self) -> Self {
        self.restart_with(SETTINGS).await
    }

    /// The same, and the other has these settings.
    pub async fn restart_with(self, settings: Settings) -> Self {
        let Self { store, clock, database } = self;
        drop(store);
        let store = database.open_again_with(&clock, settings).await;
        Self { store, clock, database }
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.pass(Duration::from_secs(seconds));
    }

    pub async fn submit(&self, text: &str) -> Submitted {
        submit(&self.store, text, SubmitOptions::default()).await.unwrap()
    }

    pub async fn submit_with(&self, text: &str, options: SubmitOptions) -> Submitted {
        submit(&self.store, text, options).await.unwrap()
    }

    pub async fn claim_as(&self, worker: &str, count_max: u32) -> Claimed {
        self.store.claim(claim(worker, count_max), Duration::ZERO).await.unwrap()
    }

    pub async fn claim(&self, count_max: u32) -> Vec<Lease> {
        self.claim_as("w1", count_max).await.leases
    }

    pub async fn claim_one(&self) -> Lease {
        self.claim(1).await.pop().expect("a trial waits")
    }

    /// What a claim gives that may wait: see [`LongPoll`].
    pub async fn wait_for_a_trial(&self, return_when_idle: bool) -> LongPoll<'_> {
        let claim = Claim { return_when_idle, ..claim("w1", 1) };
        let mut waiting: LongPoll<'_> = Box::pin(self.store.claim(claim, PATIENCE * 10));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
        assert!(first.await);
        // Said after the claim, so answered after the writer has looked at it.
        self.store.heartbeat(secret(), "w1", Vec::new()).await.unwrap();
        waiting
    }

    pub async fn complete(&self, token: AttemptToken, outcome: Outcome) -> Result<(), StoreError> {
        self.store.complete(secret(), Completion { token, batch: None, outcome }).await
    }

    pub async fn complete_with(
        &self,
        token: AttemptToken,
        batch: Batch,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        self.store.complete(secret(), Completion { token, batch: Some(batch), outcome }).await
    }

    pub async fn succeed(&self, token: AttemptToken) {
        self.complete(token, Outcome::Succeeded).await.unwrap();
    }

    pub async fn fail(&self, token: AttemptToken, class: ErrorClass) {
        self.complete(token, failed(class)).await.unwrap();
    }

    /// Gives back everything that waits, one trial after the other.
    pub async fn finish_everything(&self) {
        while let Some(lease) = self.claim(1).await.pop() {
            self.succeed(lease.token).await;
        }
    }

    pub async fn status(&self, sweep: &str) -> SweepStatus {
        self.store.status(Some(sweep)).await.unwrap().remove(0)
    }

    /// How many trials of the first sweep are in a state.
    pub async fn count(&self, state: StateName) -> u64 {
        let status = self.status("first").await;
        match state {
            StateName::Blocked => status.blocked,
            StateName::Queued => status.queued,
            StateName::Running => status.running,
            StateName::Succeeded => status.succeeded,
            StateName::Diverged => status.diverged,
            StateName::Failed => status.failed,
            StateName::Cancelled => status.cancelled,
        }
    }

    pub async fn record(&self, index: usize) -> TrialRecord {
        self.store.records("first", 0).await.unwrap().rows.remove(index)
    }

    pub async fn act(&self, sweep: &str, action: SweepAction) {
        self.store.act(sweep, action).await.unwrap();
    }

    pub async fn cancel(&self, condition: &str) -> u64 {
        self.store.act_on_trials("first", TrialAction::Cancel, &filter(condition), None).await.unwrap()
    }

    pub async fn retry(&self, condition: &str, state: Option<StateName>) -> u64 {
        self.store.act_on_trials("first", TrialAction::Retry, &filter(condition), state).await.unwrap()
    }
}

/// A claim that waits. On the model, time stands still while anything can go on: what arrives without a timer arrives at once.
pub type LongPoll<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Claimed, StoreError>> + Send + 'a>>;

/// What a claim gives that somebody must have woken: on the model not one moment may have passed.
pub async fn woken(fixture: &Fixture, waiting: LongPoll<'_>) -> Claimed {
    let before = tokio::time::Instant::now();
    let claimed = within(waiting).await.unwrap();
    if matches!(fixture.database, Database::Model(_)) {
        assert_eq!(before.elapsed(), Duration::ZERO, "it was found by looking, not by an announcement");
    }
    claimed
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened for far too long")
}

/// Submits and waits until every trial is stored.
pub async fn submit(store: &Store, text: &str, options: SubmitOptions) -> Result<Submitted, StoreError> {
    let mut progress = store.submit(&spec(text), options).await?;
    while !progress.borrow_and_update().is_done() {
        within(progress.changed()).await.expect("the writer goes on until the last trial");
    }
    Ok(progress.borrow().clone())
}

pub fn spec(text: &str) -> SweepSpec {
    SweepSpec::parse(text, None).unwrap()
}

pub fn filter(condition: &str) -> Filter {
    if condition.is_empty() { Filter::default() } else { Filter::parse(condition).unwrap() }
}

/// Of the secret that all these workers have, but for those of tests that are about it.
pub fn secret() -> TokenDigest {
    TokenDigest::default()
}

pub fn worker(id: &str) -> Worker {
    let (id, devices) = (id.to_owned(), vec!["cpu".to_owned()]);
    Worker {
        machine: id.clone(),
        id,
        host: "host".into(),
        pid: 7,
        devices,
        slots: 2,
        software: "test".into(),
        ..Worker::default()
    }
}

pub fn claim(worker: &str, count_max: u32) -> Claim {
    Claim { worker_id: worker.to_owned(), count_max, ..Claim::default() }
}

pub fn evaluation(domain: &str, step: u64, correct: u64) -> Evaluation {
    let score = Score::Counts { n: 10, correct };
    Evaluation {
        method: Method::Plain,
        step,
        domain: domain.into(),
        split: SplitName::Out,
        score: Some(score),
        loss: Some(0.5),
        metrics: Default::default(),
        seconds: Some(0.1 + 0.2),
    }
}

pub fn batch(sequence: u64, evaluations: Vec<Evaluation>) -> Batch {
    Batch {
        sequence,
        evaluations,
        losses: vec![TrainingLoss { step: sequence, loss: 1.0, seconds: Some(f64::from_bits(1)) }],
        ..Batch::default()
    }
}

pub fn failed(class: ErrorClass) -> Outcome {
    Outcome::Failed { class, message: "two\nlines".into() }
}

pub fn is_stale<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Refused(_)))
}

/// A success with one evaluation.
pub fn completion(token: AttemptToken) -> Completion {
    let evaluations = vec![evaluation("sketch", 20, token.0.unsigned_abs() % 10)];
    Completion { token, batch: Some(batch(1, evaluations)), outcome: Outcome::Succeeded }
}
