//! The floor: the rows of a cycle written by plain SQL in hand-made batches, by one connection that does nothing else. What a coordinator
//! reaches of it is what deciding, guarding and talking leave.

use anyhow::{Context, Result};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};

use crate::crowd::{now, submit};
use crate::place::{Coordinator, Place};

/// The texts of both databases; they differ in how many rows become one argument.
struct Texts {
    worker: &'static str,
    trials: &'static str,
    lease: [&'static str; 2],
    complete: [&'static str; 3],
}

const SQLITE: Texts = Texts {
    worker: "INSERT INTO workers (worker_id, host, pid, devices, slots, abilities, software, registered_ms, seen_ms)
        VALUES ('floor', 'floor', 1, 'cpu', 1, '{}', 'floor', 1, 1)",
    trials: "SELECT id FROM trials ORDER BY position",
    lease: [
        "INSERT INTO attempts (token, trial, worker, started_ms) SELECT value ->> 0, value ->> 1, 1, 1 FROM json_each($1)",
        "UPDATE trials SET state = 'running', token = value ->> 0, due_ms = 1 FROM json_each($1) WHERE trials.id = value ->> 1",
    ],
    complete: [
        "UPDATE attempts SET outcome = 'succeeded', ended_ms = 1, sequence = 1, step = 1 FROM json_each($1) WHERE token = value ->> 0",
        "UPDATE trials SET state = 'succeeded', due_ms = 0 FROM json_each($1) WHERE trials.id = value ->> 1",
        "INSERT INTO validation (token, method, step, domain, split, n, correct, accuracy, loss)
            SELECT value ->> 0, 'plain', 1, 'all', 'out', 100, 50, 0.5, 0.5 FROM json_each($1)",
    ],
};

const POSTGRES: Texts = Texts {
    worker: SQLITE.worker,
    trials: SQLITE.trials,
    lease: [
        "INSERT INTO attempts (token, trial, worker, started_ms)
            SELECT (value ->> 0)::bigint, (value ->> 1)::bigint, 1, 1 FROM json_array_elements($1::json) AS v (value)",
        "UPDATE trials SET state = 'running', token = (value ->> 0)::bigint, due_ms = 1
            FROM json_array_elements($1::json) AS v (value) WHERE id = (value ->> 1)::bigint",
    ],
    complete: [
        "UPDATE attempts SET outcome = 'succeeded', ended_ms = 1, sequence = 1, step = 1
            FROM json_array_elements($1::json) AS v (value) WHERE token = (value ->> 0)::bigint",
        "UPDATE trials SET state = 'succeeded', due_ms = 0
            FROM json_array_elements($1::json) AS v (value) WHERE trials.id = (value ->> 1)::bigint",
        "INSERT INTO validation (token, method, step, domain, split, n, correct, accuracy, loss)
            SELECT (value ->> 0)::bigint, 'plain', 1, 'all', 'out', 100, 50, 0.5, 0.5 FROM json_array_elements($1::json) AS v (value)",
    ],
};

/// Writes so many cycles in batches as large as the workers' crowd makes them; gives cycles a second.
///
/// # Errors
/// One line: the database refused something.
pub async fn measure(
    database: &str,
    program: &std::path::Path,
    place: &Place,
    cycles: u64,
    workers: usize,
) -> Result<f64> {
    // The coordinator makes the tables and the trials, and goes.
    let coordinator = Coordinator::start(program, database, place)?;
    submit(&coordinator.url, "floor", cycles.next_multiple_of(1_000)).await?;
    drop(coordinator);
    // Half of the workers ask for trials while the other half tell of theirs.
    let batch = (workers / 2).max(1);
    match database.strip_prefix("sqlite://") {
        Some(path) => {
            let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal);
            let options = options.synchronous(SqliteSynchronous::Full).foreign_keys(true);
            let pool = SqlitePoolOptions::new()
                .max_connections(1)
                .connect_with(options)
                .await
                .context("the floor's database")?;
            sqlite(&pool, cycles, batch).await
        }
        None => {
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .connect(database)
                .await
                .context("the floor's database")?;
            postgres(&pool, cycles, batch).await
        }
    }
}

/// Pairs of token and trial, a batch each.
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

/// One transaction leases a batch and completes the one before, as the crowd's requests arrive.
macro_rules! measure {
    ($pool:expr, $texts:expr, $cycles:expr, $batch:expr) => {{
        sqlx::query($texts.worker).execute($pool).await?;
        let trials: Vec<i64> = sqlx::query_scalar($texts.trials).fetch_all($pool).await?;
        let batches = batches(&trials, $cycles, $batch);
        let started = now();
        let mut before: Option<&String> = None;
        for batch in batches.iter().map(Some).chain([None]) {
            let mut tx = $pool.begin().await?;
            for sql in $texts.lease.into_iter().filter(|_| batch.is_some()) {
                sqlx::query(sql).bind(batch).execute(&mut *tx).await?;
            }
            for sql in $texts.complete.into_iter().filter(|_| before.is_some()) {
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
