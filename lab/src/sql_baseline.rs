//! The SQL baseline: one connection writes the rows of cycles by plain SQL in batches, and does nothing else. The coordinator writes the
//! same rows, and also decides, checks and answers requests.

use anyhow::{Context, Result};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};

use crate::clock::now;
use crate::coordinator::Coordinator;
use crate::environment::Environment;
use crate::load_clients::submit;

/// The statements of a database. Each takes all rows of a batch as one JSON argument, which the two databases read differently.
struct Statements {
    worker: &'static str,
    trials: &'static str,
    lease: [&'static str; 2],
    complete: [&'static str; 3],
}

const SQLITE: Statements = Statements {
    worker: "INSERT INTO workers (worker_id, host, pid, devices, slots, abilities, software, registered_ms, seen_ms)
        VALUES ('baseline', 'baseline', 1, 'cpu', 1, '{}', 'baseline', 1, 1)",
    trials: "SELECT id FROM trials ORDER BY position",
    lease: [
        "INSERT INTO attempts (token, trial, worker, started_ms) SELECT value ->> 0, value ->> 1, 1, 1 FROM json_each($1)",
        "UPDATE trials SET state = 'running', holder = value ->> 0, expires_ms = 1 FROM json_each($1) WHERE trials.id = value ->> 1",
    ],
    complete: [
        "UPDATE attempts SET outcome = 'succeeded', ended_ms = 1, sequence = 1, step = 1 FROM json_each($1) WHERE token = value ->> 0",
        "UPDATE trials SET state = 'succeeded', result = holder, holder = NULL, expires_ms = NULL FROM json_each($1) WHERE trials.id = value ->> 1",
        "INSERT INTO validation (token, method, step, domain, split, n, correct, accuracy, loss)
            SELECT value ->> 0, 'plain', 1, 'all', 'out', 100, 50, 0.5, 0.5 FROM json_each($1)",
    ],
};

const POSTGRES: Statements = Statements {
    worker: SQLITE.worker,
    trials: SQLITE.trials,
    lease: [
        "INSERT INTO attempts (token, trial, worker, started_ms)
            SELECT (value ->> 0)::bigint, (value ->> 1)::bigint, 1, 1 FROM json_array_elements($1::json) AS v (value)",
        "UPDATE trials SET state = 'running', holder = (value ->> 0)::bigint, expires_ms = 1
            FROM json_array_elements($1::json) AS v (value) WHERE id = (value ->> 1)::bigint",
    ],
    complete: [
        "UPDATE attempts SET outcome = 'succeeded', ended_ms = 1, sequence = 1, step = 1
            FROM json_array_elements($1::json) AS v (value) WHERE token = (value ->> 0)::bigint",
        "UPDATE trials SET state = 'succeeded', result = holder, holder = NULL, expires_ms = NULL
            FROM json_array_elements($1::json) AS v (value) WHERE trials.id = (value ->> 1)::bigint",
        "INSERT INTO validation (token, method, step, domain, split, n, correct, accuracy, loss)
            SELECT (value ->> 0)::bigint, 'plain', 1, 'all', 'out', 100, 50, 0.5, 0.5 FROM json_array_elements($1::json) AS v (value)",
    ],
};

/// Writes a number of cycles in batches of the size that the load clients cause. Returns cycles a second.
///
/// # Errors
/// When the database refuses a statement.
pub async fn measure(
    database: &str,
    program: &std::path::Path,
    environment: &Environment,
    cycles: u64,
    workers: usize,
) -> Result<f64> {
    // The coordinator creates the tables and the trials, and ends.
    let coordinator = Coordinator::start(program, database, environment)?;
    submit(&coordinator.url, "baseline", cycles.next_multiple_of(1_000)).await?;
    drop(coordinator);
    // Half of the clients lease trials while the other half complete theirs.
    let batch = (workers / 2).max(1);
    match database.strip_prefix("sqlite://") {
        Some(path) => {
            let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal);
            let options = options.synchronous(SqliteSynchronous::Full).foreign_keys(true);
            let pool = SqlitePoolOptions::new()
                .max_connections(1)
                .connect_with(options)
                .await
                .context("the database of the baseline")?;
            sqlite(&pool, cycles, batch).await
        }
        None => {
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .connect(database)
                .await
                .context("the database of the baseline")?;
            postgres(&pool, cycles, batch).await
        }
    }
}

/// Pairs of token and trial, as one JSON text for each batch.
fn batches(trials: &[i64], cycles: u64, batch: usize) -> Vec<String> {
    let pairs: Vec<_> =
        trials.iter().take(usize::try_from(cycles).unwrap_or(usize::MAX)).enumerate().collect();
    pairs
        .chunks(batch)
        .map(|chunk| {
            json!(chunk.iter().map(|(index, id)| json!([index + 1, id])).collect::<Vec<_>>()).to_string()
        })
        .collect()
}

/// One transaction leases a batch and completes the one before, as requests of the load clients arrive.
macro_rules! measure {
    ($pool:expr, $statements:expr, $cycles:expr, $batch:expr) => {{
        sqlx::query($statements.worker).execute($pool).await?;
        let trials: Vec<i64> = sqlx::query_scalar($statements.trials).fetch_all($pool).await?;
        let batches = batches(&trials, $cycles, $batch);
        let started = now();
        let mut before: Option<&String> = None;
        for batch in batches.iter().map(Some).chain([None]) {
            let mut tx = $pool.begin().await?;
            for sql in $statements.lease.into_iter().filter(|_| batch.is_some()) {
                sqlx::query(sql).bind(batch).execute(&mut *tx).await?;
            }
            for sql in $statements.complete.into_iter().filter(|_| before.is_some()) {
                sqlx::query(sql).bind(before).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            before = batch;
        }
        Ok($cycles as f64 / started.elapsed().as_secs_f64())
    }};
}

async fn sqlite(pool: &SqlitePool, cycles: u64, batch: usize) -> Result<f64> {
    measure!(pool, SQLITE, cycles, batch)
}

async fn postgres(pool: &PgPool, cycles: u64, batch: usize) -> Result<f64> {
    measure!(pool, POSTGRES, cycles, batch)
}
