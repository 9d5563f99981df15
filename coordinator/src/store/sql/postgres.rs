//! Opening a Postgres database: the pools, the migrations, and the ear for other coordinators.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sortie_core::job::Timestamp;
use sqlx::PgPool;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;

use super::database::{SqlBackend, schema_message};
use super::engine::Pool;
use super::migrations;
use super::queries::Queries;
use super::statements::Dialect;
use super::time::{ProcessTime, TimeSource};
use crate::store::{OpenOptions, StoreError};

const READERS_MAX: u32 = 4;
/// One is used at a time; others take its place when the server it talked to has vanished.
const WRITERS_MAX: u32 = 4;
/// Every statement reaches its rows by key. The planner cannot know: its statistics lag behind tables that just grew, and a page of results
/// that is a hundredth of a table would cost a look at all of it, a hundred times.
const BY_KEY: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];
/// How long a request waits for a connection before its caller must try again.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);
/// After the ear was lost, until the next try.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// Connects, creates or migrates the tables.
pub(super) async fn open(url: &str, options: &OpenOptions) -> Result<SqlBackend, StoreError> {
    let connect =
        PgConnectOptions::from_str(url).map_err(|_| StoreError::Url { url: without_password(url) })?;
    // An acknowledged result survives a power cut, whatever the server's default.
    let connect = connect
        .application_name("sortie")
        .options([("synchronous_commit", "on")])
        .statement_cache_capacity(200);
    let failed = |reason: String| StoreError::Open { database: without_password(url), reason };
    let pool = |count| PgPoolOptions::new().max_connections(count).acquire_timeout(ACQUIRE_MAX);
    // What users ask for is rarely a matter of keys.
    let queries = connect.clone();
    let connect = connect.options(BY_KEY);
    let readers = pool(READERS_MAX)
        .connect_with(connect.clone())
        .await
        .map_err(|error| failed(connection_message(&error)))?;
    let writer =
        pool(WRITERS_MAX).connect_with(connect).await.map_err(|error| failed(connection_message(&error)))?;
    migrations::migrator(&migrations::POSTGRES)
        .run(&writer)
        .await
        .map_err(|error| failed(migration_message(&error)))?;
    warn_if_not_durable(&readers).await;
    let elsewhere = Arc::new(Notify::new());
    tokio::spawn(listen(readers.clone(), Arc::downgrade(&elsewhere)));
    Ok(SqlBackend {
        dialect: Dialect::Postgres,
        writer: Pool::Postgres(writer),
        readers: Pool::Postgres(readers),
        durable: AtomicBool::new(true),
        queries: Queries::postgres(queries),
        time: options
            .clock
            .clone()
            .map_or(TimeSource::Database, |clock| TimeSource::Process(ProcessTime::new(clock, Timestamp(0)))),
        elsewhere,
        _lock: None,
    })
}

async fn warn_if_not_durable(pool: &PgPool) {
    let fsync: Result<String, sqlx::Error> = sqlx::query_scalar("SHOW fsync").fetch_one(pool).await;
    if fsync.is_ok_and(|fsync| fsync == "off") {
        tracing::warn!(
            "this Postgres server runs with fsync = off: a power cut can lose what was acknowledged"
        );
    }
}

/// Passes on what other coordinators announce, for as long as anybody is interested. What is missed while the connection is away is found by
/// looking every few seconds.
async fn listen(pool: PgPool, elsewhere: std::sync::Weak<Notify>) {
    while elsewhere.strong_count() > 0 && !pool.is_closed() {
        let Ok(mut listener) = PgListener::connect_with(&pool).await else {
            tokio::time::sleep(LISTEN_AGAIN).await;
            continue;
        };
        let mut heard = listener.listen("sortie").await;
        while heard.is_ok() {
            let Some(elsewhere) = elsewhere.upgrade() else { return };
            elsewhere.notify_one();
            drop(elsewhere);
            heard = listener.recv().await.map(|_| ());
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

/// A database's URL as it may be shown.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((login, place)) => format!("{scheme}://{}@{place}", login.split(':').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}

fn connection_message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => format!("no server answers ({error}); start it, or correct the URL"),
        sqlx::Error::PoolTimedOut => {
            format!("no server answers within {} s; start it, or correct the URL", ACQUIRE_MAX.as_secs())
        }
        other => other.to_string(),
    }
}

fn migration_message(error: &MigrateError) -> String {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => connection_message(error),
        other => schema_message(other, "database"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(without_password("postgres://me:p@ss:word@host:5/db"), "postgres://me@host:5/db");
        assert_eq!(without_password("postgres://host/db"), "postgres://host/db");
    }
}
