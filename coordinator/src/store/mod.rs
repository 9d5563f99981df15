//! What the coordinator knows. Decisions are made in [`sortie_core::job`]; a single writer applies them in transactions that many
//! requests share, guarded by the state and token that each decision was made on. All SQL of the project is in `sql/`.

mod backend;
mod claims;
mod combinations;
mod desk;
mod error;
#[cfg(test)]
mod guards;
mod known;
mod ledger;
mod levers;
mod memory;
mod query;
mod request;
#[cfg(test)]
mod simulation;
mod sql;
mod story;
mod types;
mod verification;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use sortie_core::filter::Filter;
use sortie_core::job::{StateName, Token};
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Work;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use backend::{Backend, VERIFIES};
use desk::Desk;
use known::{SweepCache, Tokens};
use levers::TrialsRequest;
use request::{Answer, Op, Reply};
use writer::{Alone, Done, Message, Writer};

pub use error::StoreError;
pub use memory::Memory;
pub use query::{
    QUERIES_MAX, QUERY_BYTES_MAX, QUERY_COLUMNS_MAX, QUERY_ROW_BYTES_MAX, QUERY_TIME_MAX, QueryRow,
    QueryValue, Rows, VIEWS,
};
pub use sql::{DEFAULT_URL, without_password};
pub use types::*;
pub use verification::{Certificate, Verified};

/// Requests that wait for the writer; then callers wait.
const REQUESTS_MAX: usize = 4_096;
/// Trials that are listed where a name means several.
const CANDIDATES_SHOWN: usize = 5;
/// A worker that was not seen for this long is listed only among all.
const WORKERS_LISTED: Duration = Duration::from_secs(3_600);

/// How a coordinator treats its workers.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a lease lasts after a heartbeat.
    pub lease: Duration,
}

/// A database, and the task that writes to it.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Arc<dyn Backend>,
    writer: mpsc::Sender<Message>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

impl Store {
    /// Opens the database at a URL, creates or migrates it, and gives attempts that were running when the last coordinator stopped one
    /// lease of time to come back. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Url`] and [`StoreError::Open`], each one line that says what to do.
    pub async fn open(
        url: &str,
        options: &OpenOptions,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        Self::on(sql::open(url, options).await?, settings, clock).await
    }

    /// Opens a model in memory, which may have been open before: for tests, with no other use.
    ///
    /// # Errors
    /// None in practice.
    pub async fn in_memory(
        model: &Memory,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        Self::on(Arc::new(model.clone()), settings, clock).await
    }

    async fn on(
        backend: Arc<dyn Backend>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let mut tx = backend.begin(true).await?;
        let now = tx.now(clock.now()).await?;
        let epoch = tx.new_epoch(now).await?;
        // While no coordinator ran, nobody could extend a lease: that is not the attempts' fault.
        tx.extend_leases(now.plus(settings.lease)).await?;
        tx.commit(true).await?;
        let (writer, requests) = mpsc::channel(REQUESTS_MAX);
        let desk = Desk { settings, sweeps: SweepCache::default(), tokens: Tokens::of_epoch(epoch) };
        tokio::spawn(Writer::new(Arc::clone(&backend), Arc::clone(&clock), desk, requests).run());
        Ok(Self { backend, writer, clock, settings })
    }

    /// How it treats workers.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    async fn op(&self, op: Op, until: Option<Instant>) -> Result<Reply, StoreError> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = Waiting { answer, writer: &self.writer };
        self.writer.send(Message::Op(op, until, sender)).await.map_err(|_| StoreError::Stopping)?;
        (&mut waiting.answer).await.map_err(|_| StoreError::Stopping)?
    }

    async fn alone(&self, work: Alone) -> Result<Done, StoreError> {
        let (sender, answer) = oneshot::channel();
        self.writer.send(Message::Alone(work, sender)).await.map_err(|_| StoreError::Stopping)?;
        answer.await.map_err(|_| StoreError::Stopping)?
    }

    /// Remembers a worker process. Said again it is a no-op.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn register(&self, worker: &Worker) -> Result<(), StoreError> {
        self.alone(Alone::Register(worker.clone())).await.map(|_| ())
    }

    /// Notes that a worker process ends.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn leave(&self, worker_id: &str) -> Result<(), StoreError> {
        self.op(Op::Leave(worker_id.to_owned()), None).await.map(|_| ())
    }

    /// Moves waiting trials to a worker; waits for one to appear as long as it may. Sweeps of one priority share fairly.
    ///
    /// # Errors
    /// [`StoreError::UnknownWorker`] for a worker that did not register.
    pub async fn claim(&self, claim: Claim, wait: Duration) -> Result<Claimed, StoreError> {
        match self.op(Op::Claim(claim), Some(Instant::now() + wait)).await? {
            Reply::Claimed(claimed) => Ok(claimed),
            _ => Ok(Claimed::default()),
        }
    }

    /// Extends the leases of these attempts and notes how far they are. Returns the tokens that no longer hold their trial.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then no lease was extended.
    pub async fn heartbeat(
        &self,
        worker_id: &str,
        attempts: Vec<(Token, u64)>,
    ) -> Result<Vec<Token>, StoreError> {
        match self.op(Op::Heartbeat { worker: worker_id.to_owned(), attempts }, None).await? {
            Reply::Lost(lost) => Ok(lost),
            _ => Ok(Vec::new()),
        }
    }

    /// Stores a batch of reports. The same batch again is a no-op. A report is a sign of life: it extends the lease.
    ///
    /// An attempt whose dataset or weights are not those that the name is pinned to is ended here as bad data, and refused.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the token no longer holds its trial, [`StoreError::Gap`] when a batch is missing before this one,
    /// [`StoreError::Foreign`] when it reports what its trial does not evaluate.
    pub async fn report(&self, token: Token, batch: Batch) -> Result<(), StoreError> {
        self.op(Op::Report { token, batch }, None).await.map(|_| ())
    }

    /// Ends an attempt, with its last reports. Said again under the same token it is a no-op.
    ///
    /// # Errors
    /// As for [`Store::report`].
    pub async fn complete(&self, completion: Completion) -> Result<(), StoreError> {
        self.op(Op::Complete(completion), None).await.map(|_| ())
    }

    /// Ends leases that ran out. Returns how many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn reap(&self) -> Result<u64, StoreError> {
        match self.op(Op::Reap(None), None).await? {
            Reply::Reaped(reaped) => Ok(reaped),
            _ => Ok(0),
        }
    }

    /// Ends leases that ran out, unless this gets its turn only after that time, waiting for a database that is away: then nobody could
    /// extend a lease meanwhile either. Returns how many; none if it was too late.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn reap_by(&self, by: Instant) -> Result<Option<u64>, StoreError> {
        match self.op(Op::Reap(Some(by)), None).await? {
            Reply::Late => Ok(None),
            Reply::Reaped(reaped) => Ok(Some(reaped)),
            _ => Ok(Some(0)),
        }
    }

    /// Gives every lease the time of one lease from now: for after an outage, in which nobody could extend them. Returns how many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn grant_grace(&self) -> Result<u64, StoreError> {
        match self.alone(Alone::Grace).await? {
            Done::Leases(leases) => Ok(leases),
            _ => Ok(0),
        }
    }

    /// Stores a sweep, or adds to the one of its name what is not there yet. Its trials follow in the background, a few thousand at a
    /// time; what is returned tells how far that is, and closes when it is done. It goes on after a restart.
    ///
    /// # Errors
    /// [`StoreError::Spec`] when a fixed value differs from the stored sweep's.
    pub async fn submit(
        &self,
        spec: &SweepSpec,
        options: SubmitOptions,
    ) -> Result<watch::Receiver<Submitted>, StoreError> {
        match self.alone(Alone::Submit(Box::new(spec.clone()), options)).await? {
            Done::Submitted(progress) => Ok(progress),
            _ => Err(StoreError::Stopping),
        }
    }

    /// Adds seeds to a sweep's grid until it has so many, as submitting a file with them would.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`]; [`StoreError::Spec`] for fewer than there are, for too many, and for a sweep of other numbers.
    pub async fn extend(&self, sweep: &str, seeds: u64) -> Result<watch::Receiver<Submitted>, StoreError> {
        let row = self.sweep(sweep).await?;
        self.submit(&row.spec.with_seeds(seeds)?, SubmitOptions { reuse: row.reuse, priority: None }).await
    }

    /// Changes a sweep.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    pub async fn act(&self, sweep: &str, action: SweepAction) -> Result<(), StoreError> {
        match self.alone(Alone::Act(sweep.to_owned(), action)).await {
            Err(StoreError::UnknownSweep { .. }) => Err(self.unknown(sweep).await?),
            other => other.map(|_| ()),
        }
    }

    /// Cancels or retries trials of a sweep: those that the filter and the state mean. Returns how many it changed.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`], [`StoreError::Filter`] for an axis that the sweep does not have, and [`StoreError::Incomplete`] for
    /// conditions that would miss trials of a sweep that are not stored yet.
    pub async fn act_on_trials(
        &self,
        sweep: &str,
        action: TrialAction,
        filter: &Filter,
        state: Option<StateName>,
    ) -> Result<u64, StoreError> {
        let (mut changed, mut next) = (0, Some(0));
        while let Some(from) = next {
            let request =
                TrialsRequest { sweep: sweep.to_owned(), action, filter: filter.clone(), state, from };
            let done = match self.alone(Alone::ActOnTrials(request)).await {
                Err(StoreError::UnknownSweep { .. }) => return Err(self.unknown(sweep).await?),
                Ok(Done::Trials(done)) => done,
                other => return other.map(|_| changed),
            };
            changed += done.changed;
            next = done.next;
        }
        Ok(changed)
    }

    /// What a sweep's trials run.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    pub async fn work(&self, sweep: &str) -> Result<Work, StoreError> {
        Ok(self.spec(sweep).await?.work)
    }

    /// A sweep as it was submitted.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    pub async fn spec(&self, sweep: &str) -> Result<SweepSpec, StoreError> {
        Ok(self.sweep(sweep).await?.spec)
    }

    async fn sweep(&self, name: &str) -> Result<backend::SweepRow, StoreError> {
        match self.backend.sweep(name).await? {
            Some(row) => Ok(row),
            None => Err(self.unknown(name).await?),
        }
    }

    async fn unknown(&self, name: &str) -> Result<StoreError, StoreError> {
        let names = self.backend.sweep_names().await?;
        let known = match names.as_slice() {
            [] => "none was submitted yet".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        Ok(StoreError::UnknownSweep { name: name.to_owned(), known })
    }

    /// How far one sweep is, or all of them in the order of their submission.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    pub async fn status(&self, sweep: Option<&str>) -> Result<Vec<SweepStatus>, StoreError> {
        let status = self.backend.status(sweep, self.clock.now()).await?;
        match sweep {
            Some(name) if status.is_empty() => Err(self.unknown(name).await?),
            _ => Ok(status),
        }
    }

    /// A page of a sweep's trials in the order in which they run: those from this position on. The next page starts at
    /// [`Page::next`]. Pages, not one long cursor: a slow reader must not keep a connection.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    pub async fn trials(
        &self,
        sweep: &str,
        state: Option<StateName>,
        from: i64,
    ) -> Result<Page<TrialLine>, StoreError> {
        let id = self.sweep(sweep).await?.id;
        self.backend.trials(id, state, from).await
    }

    /// A page of a sweep's trials, each with the evaluations of its accepted attempt.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    pub async fn records(
        &self,
        sweep: &str,
        portion: impl Into<Portion>,
    ) -> Result<Page<TrialRecord>, StoreError> {
        let id = self.sweep(sweep).await?.id;
        self.backend.records(id, portion.into()).await
    }

    /// Everything that is known of a trial, named by a unique prefix of its id or by SWEEP/PREFIX.
    ///
    /// # Errors
    /// [`StoreError::Trial`] when it names none or several.
    pub async fn story(&self, name: &str) -> Result<Story, StoreError> {
        let mut story = self.backend.story(self.find(name).await?).await?;
        if let Some(origin) = self.origin(&story.line).await? {
            story.happenings.extend(self.backend.story(origin).await?.happenings);
            story.happenings.sort_by_key(|happening| (happening.at_ms, happening.what == "linked"));
        }
        Ok(story)
    }

    /// What is known of a trial's files.
    ///
    /// # Errors
    /// [`StoreError::Trial`] when the name names none or several.
    pub async fn artifacts(&self, name: &str) -> Result<TrialArtifacts, StoreError> {
        self.backend.artifacts(self.find(name).await?).await
    }

    /// The trial whose attempt gave a linked one its result.
    async fn origin(&self, line: &TrialLine) -> Result<Option<i64>, StoreError> {
        match &line.linked_to {
            Some(sweep) => self.find(&format!("{sweep}/{}", line.trial_id)).await.map(Some),
            None => Ok(None),
        }
    }

    /// What an attempt at a trial printed; the newest one's unless one is named, and for a trial that is linked to another sweep's result
    /// that of the attempt that gave it.
    ///
    /// # Errors
    /// [`StoreError::Trial`] when the name names none or several.
    pub async fn log(&self, name: &str, token: Option<Token>) -> Result<Log, StoreError> {
        let trial = self.find(name).await?;
        let Story { line, token: accepted, .. } = self.backend.story(trial).await?;
        match self.origin(&line).await? {
            None => self.backend.log(trial, token).await,
            Some(origin) => match self.backend.log(origin, token.or(accepted)).await {
                Err(StoreError::UnknownToken(_)) => self.backend.log(trial, token).await,
                log => log,
            },
        }
    }

    async fn find(&self, name: &str) -> Result<i64, StoreError> {
        let (sweep, prefix) =
            name.rsplit_once('/').map_or((None, name), |(sweep, prefix)| (Some(sweep), prefix));
        let named = |found: &str| StoreError::Trial { name: name.to_owned(), found: found.to_owned() };
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(named("no trial: ids are hexadecimal digits"));
        }
        let found = self.backend.find(sweep, &prefix.to_ascii_lowercase(), CANDIDATES_SHOWN + 1).await?;
        // One that was verified is meant itself, not its copies, which come last.
        let originals: Vec<_> = found.iter().take_while(|(_, name)| !name.starts_with(VERIFIES)).collect();
        let meant: Vec<_> = if originals.is_empty() { found.iter().collect() } else { originals };
        match (meant.as_slice(), sweep) {
            ([], Some(sweep)) => self.sweep(sweep).await.and_then(|_| Err(named("no trial"))),
            ([], None) => Err(named("no trial")),
            ([(id, _)], _) => Ok(*id),
            (several, _) => {
                let names: Vec<&str> = several.iter().map(|(_, name)| name.as_str()).collect();
                Err(StoreError::several_trials(name, &names, CANDIDATES_SHOWN))
            }
        }
    }

    /// Workers that were seen lately, or all that ever were.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn workers(&self, all: bool) -> Result<Vec<WorkerLine>, StoreError> {
        let since = if all { sortie_core::job::Timestamp(0) } else { self.clock.now().minus(WORKERS_LISTED) };
        self.backend.workers(since).await
    }

    /// Answers a query in SQL over the views that docs/sql.md describes, within a time that includes the reader's.
    ///
    /// # Errors
    /// [`StoreError::Query`] for what may not be asked, with what the database said; [`StoreError::SlowQuery`],
    /// [`StoreError::QueriesRunning`] and [`StoreError::Database`].
    pub async fn query(&self, sql: &str, limit: Duration) -> Result<Rows, StoreError> {
        self.backend.query(sql, limit).await
    }

    /// Waits until the writer is gone, which is never while all is well.
    pub async fn ended(&self) {
        self.writer.closed().await;
    }

    /// Waits for the statements that run and closes the database.
    pub async fn close(&self) {
        self.backend.close().await;
    }
}

#[cfg(test)]
impl Store {
    /// One whose writer has ended, as after a bug.
    pub(crate) fn without_writer(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self { backend: Arc::new(Memory::default()), writer: mpsc::channel(1).0, clock, settings }
    }
}

/// Whoever waits for an answer. One that goes away when the answer is there already, and unread, gives back what it was handed.
struct Waiting<'a> {
    answer: oneshot::Receiver<Answer>,
    writer: &'a mpsc::Sender<Message>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.answer.close();
        let Ok(Ok(Reply::Claimed(claimed))) = self.answer.try_recv() else { return };
        for op in writer::returns(&claimed) {
            // A writer that has no room or is gone cannot be waited for here: then the lease runs out.
            let _ = self.writer.try_send(Message::Op(op, None, oneshot::channel().0));
        }
    }
}

/// What a user may allow a database.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// A SQLite file on a network file system: exclusive locking, no shared memory.
    pub network_disk: bool,
    /// The caller's clock instead of the database's: for tests that decide what time it is.
    pub local_clock: bool,
    /// The most pages that a SQLite file may have: for tests of a full disk.
    pub pages_max: Option<u32>,
}
