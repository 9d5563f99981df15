//! Queries that users write themselves. They may read the views of docs/sql.md and change nothing, and that is not decided by looking at
//! their text: the database that would answer one compiles it first, and says what it would touch. Each has a connection of its own, so
//! that nothing of it stays and nobody waits for it.

mod postgres;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::Semaphore;

use crate::store::StoreError;
use crate::store::query::{
    QUERIES_MAX, QUERY_BYTES_MAX, QUERY_COLUMNS_MAX, QUERY_ROW_BYTES_MAX, Rows, VIEWS, answer,
};

/// Where queries are answered, a few at a time.
#[derive(Debug)]
pub(super) struct Queries {
    database: Database,
    running: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
enum Database {
    /// None: its file can be open only once.
    Sqlite(Option<PathBuf>),
    Postgres(Box<PgConnectOptions>),
}

impl Queries {
    pub(super) fn sqlite(path: &Path, exclusive: bool) -> Self {
        Self::on(Database::Sqlite((!exclusive).then(|| path.to_owned())))
    }

    pub(super) fn postgres(connect: PgConnectOptions) -> Self {
        Self::on(Database::Postgres(Box::new(connect)))
    }

    fn on(database: Database) -> Self {
        Self { database, running: Arc::new(Semaphore::new(QUERIES_MAX)) }
    }

    /// Answers a query within a time that includes its reader's.
    pub(super) async fn ask(&self, sql: &str, limit: Duration) -> Result<Rows, StoreError> {
        if sql.len() > QUERY_BYTES_MAX {
            return Err(refused(format!(
                "the query has {} bytes; allowed: at most {QUERY_BYTES_MAX}",
                sql.len()
            )));
        }
        if sql.contains('\0') {
            return Err(refused("the query holds a character with the code 0".to_owned()));
        }
        let permit = Arc::clone(&self.running).try_acquire_owned().map_err(|_| StoreError::QueriesRunning)?;
        let (mut output, ended, awaited) = answer(limit);
        let sql = sql.to_owned();
        match self.database.clone() {
            Database::Sqlite(None) => {
                return Err(refused(
                    "a database that was opened with --db-on-network-disk cannot answer queries beside its own work".to_owned(),
                ));
            }
            Database::Sqlite(Some(path)) => drop(tokio::task::spawn_blocking(move || {
                let end = sqlite::run(&path, &sql, &mut output);
                // The place is free before the reader hears of the end: it may ask again at once.
                drop((output, permit));
                let _ = ended.send(end);
            })),
            Database::Postgres(connect) => drop(tokio::spawn(async move {
                let end = postgres::run(&connect, &sql, &mut output).await;
                drop((output, permit));
                let _ = ended.send(end);
            })),
        }
        awaited.rows().await
    }
}

/// What a query is told that is wrong or may not be asked.
fn refused(reason: String) -> StoreError {
    StoreError::Query(reason)
}

/// What the database said about a query, with what people then look for.
fn said(message: &str) -> StoreError {
    refused(format!(
        "the database refuses the query: {message} (only {} may be read; docs/sql.md describes them)",
        views()
    ))
}

/// A query reads what it may not.
fn unreadable(what: &str) -> StoreError {
    refused(format!("only {} may be read, not {what}", views()))
}

fn uncallable(function: &str) -> StoreError {
    refused(format!(
        "the function {function} may not be called in a query: it does more than compute from its arguments"
    ))
}

fn no_select() -> StoreError {
    refused("a query is one SELECT statement that gives at least one column".to_owned())
}

fn too_wide(columns: usize) -> StoreError {
    refused(format!("the query has {columns} columns; allowed: at most {QUERY_COLUMNS_MAX}"))
}

fn too_long() -> StoreError {
    refused(format!("a row of the answer is longer than {QUERY_ROW_BYTES_MAX} bytes"))
}

fn views() -> String {
    let [first, second, third] = VIEWS;
    format!("{first}, {second} and {third}")
}
