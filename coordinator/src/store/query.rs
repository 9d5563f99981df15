//! Users' own questions in SQL, over the views that docs/sql.md describes. Answers are passed on in chunks as the database gives them, so
//! that neither side holds more than a few of them.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::StoreError;

/// What a query may read.
pub const VIEWS: [&str; 5] = ["v_trials", "v_evaluations", "v_metrics", "v_curves", "v_selected"];

const CHUNK_ROWS: usize = 500;
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for their reader; then the database waits.
const CHUNKS_MAX: usize = 2;

/// One value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryValue {
    /// SQL's NULL.
    Null,
    /// A whole number.
    Integer(i64),
    /// A floating-point number, to the last bit.
    Real(f64),
    /// A decimal number of any length as the database writes it: Postgres's sums and means of whole numbers.
    Decimal(String),
    /// True or false, on Postgres; SQLite has the whole numbers 1 and 0.
    Flag(bool),
    /// A text, or any other value as the database writes it.
    Text(String),
}

/// The row of an answer: a value for each column.
pub type QueryRow = Vec<QueryValue>;

/// The answer to a query that runs. Dropped, it ends the query.
#[derive(Debug)]
pub struct Rows {
    columns: Vec<String>,
    chunks: mpsc::Receiver<Vec<QueryRow>>,
    end: Option<oneshot::Receiver<Result<(), StoreError>>>,
}

impl Rows {
    /// The names of the columns, as the query gives them; some may be equal.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The next rows, at least one; none at the end.
    ///
    /// # Errors
    /// [`StoreError::Query`] and [`StoreError::SlowQuery`] when the query went wrong in the middle; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Vec<QueryRow>, StoreError>> {
        if let Some(chunk) = self.chunks.recv().await {
            return Some(Ok(chunk));
        }
        match self.end.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(_) => Some(Err(StoreError::Stopping)),
        }
    }
}

/// Where a query's rows go, and until when.
#[derive(Debug)]
pub(super) struct Output {
    columns: Option<oneshot::Sender<Vec<String>>>,
    chunks: mpsc::Sender<Vec<QueryRow>>,
    waiting: Vec<QueryRow>,
    bytes: usize,
    limit: Duration,
    deadline: Instant,
}

/// The other end of an [`Output`], before anything came out.
#[derive(Debug)]
pub(super) struct PendingAnswer {
    columns: oneshot::Receiver<Vec<String>>,
    chunks: mpsc::Receiver<Vec<QueryRow>>,
    end: oneshot::Receiver<Result<(), StoreError>>,
}

/// The reader is gone.
#[derive(Debug)]
pub(super) struct ReaderGone;

/// Both ends of a query's answer, and the end that reports how it went.
pub(super) fn answer(limit: Duration) -> (Output, oneshot::Sender<Result<(), StoreError>>, PendingAnswer) {
    let (columns, announced) = oneshot::channel();
    let (chunks, received) = mpsc::channel(CHUNKS_MAX);
    let (ended, end) = oneshot::channel();
    let deadline = Instant::now() + limit;
    let output = Output { columns: Some(columns), chunks, waiting: Vec::new(), bytes: 0, limit, deadline };
    (output, ended, PendingAnswer { columns: announced, chunks: received, end })
}

impl PendingAnswer {
    /// Waits until the query runs.
    pub(super) async fn rows(self) -> Result<Rows, StoreError> {
        let Self { columns, chunks, end } = self;
        match columns.await {
            Ok(columns) => Ok(Rows { columns, chunks, end: Some(end) }),
            Err(_) => Err(end.await.ok().and_then(Result::err).unwrap_or(StoreError::Stopping)),
        }
    }
}

impl Output {
    /// What its time is up with.
    pub(super) fn slow(&self) -> StoreError {
        StoreError::SlowQuery { limit: self.limit }
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits until the reader is gone. It must be dropped before the end is reported.
    pub(super) fn gone(&self) -> impl Future<Output = ()> + use<> {
        let chunks = self.chunks.clone();
        async move { chunks.closed().await }
    }

    /// Tells the columns: the query runs.
    pub(super) fn begin(&mut self, columns: Vec<String>) -> Result<(), ReaderGone> {
        self.columns.take().ok_or(ReaderGone)?.send(columns).map_err(|_| ReaderGone)
    }

    /// Adds a row; gives a chunk that is full.
    fn add(&mut self, row: QueryRow) -> Option<Vec<QueryRow>> {
        self.bytes += row.iter().map(QueryValue::bytes).sum::<usize>();
        self.waiting.push(row);
        let full = self.waiting.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES;
        full.then(|| self.take())
    }

    fn take(&mut self) -> Vec<QueryRow> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Passes a row on.
    pub(super) async fn push(&mut self, row: QueryRow) -> Result<(), ReaderGone> {
        match self.add(row) {
            Some(chunk) => self.chunks.send(chunk).await.map_err(|_| ReaderGone),
            None => Ok(()),
        }
    }

    /// Passes the last rows on.
    pub(super) async fn finish(&mut self) -> Result<(), ReaderGone> {
        let chunk = self.take();
        if chunk.is_empty() { Ok(()) } else { self.chunks.send(chunk).await.map_err(|_| ReaderGone) }
    }
}

impl QueryValue {
    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let text = if let Self::Decimal(text) | Self::Text(text) = self { text.len() } else { 0 };
        size_of::<Self>() + text
    }
}
