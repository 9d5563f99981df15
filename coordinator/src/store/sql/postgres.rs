//! Opening a Postgres database: the pools, the migrations, and the ear for other coordinators.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sortie_core::job::Timestamp;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Connection as _, PgPool};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::database::{SqlBackend, incarnation, schema_message};
use super::engine::Pool;
use super::migrations;
use super::queries::Queries;
use super::sessions::{self, connection_message};
use super::statements::Dialect;
use super::time::{ProcessTime, TimeSource};
use crate::store::database_url::ServerUrl;
use crate::store::{OpenOptions, StoreError};

const READERS_MAX: u32 = 4;
/// One is used at a time; others take its place when the server it talked to has vanished.
const WRITERS_MAX: u32 = 4;
/// An acknowledged result survives a power cut, whatever the server's default. And every statement reaches its rows by key: the planner cannot
/// know, since its statistics lag behind tables that just grew, and a page of results that is a hundredth of a table would cost a look at
/// all of it, a hundred times.
const SETTINGS: [(&str, &str); 6] = [
    ("synchronous_commit", "on"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];
/// How long a request waits for a connection before its caller must try again.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);
/// How long the sessions of a coordinator that has ended may take to vanish, and until the next look.
const LEAVE_MAX: Duration = Duration::from_secs(2);
const LEAVE_AGAIN: Duration = Duration::from_millis(50);
/// After the ear was lost, until the next try.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// Connects, creates or migrates the tables.
pub(super) async fn open(url: &ServerUrl, options: &OpenOptions) -> Result<SqlBackend, StoreError> {
    let failed = |reason: String| StoreError::Open { database: url.to_string(), reason };
    let connector = sessions::check(url).await.map_err(failed)?;
    let pool = |count| PgPoolOptions::new().max_connections(count).acquire_timeout(ACQUIRE_MAX);
    let readers = connector.pool(pool(READERS_MAX), &SETTINGS).await;
    let readers = readers.map_err(|error| failed(connection_message(&error)))?;
    let writer = connector.pool(pool(WRITERS_MAX), &SETTINGS).await;
    let writer = writer.map_err(|error| failed(connection_message(&error)))?;
    migrations::migrator(&migrations::POSTGRES)
        .run(&writer)
        .await
        .map_err(|error| failed(migration_message(&error)))?;
    let incarnation =
        incarnation(&Pool::Postgres(writer.clone()), Dialect::Postgres).await.map_err(failed)?;
    let elsewhere = Arc::new(Notify::new());
    tokio::spawn(listen(readers.clone(), Arc::downgrade(&elsewhere)));
    Ok(SqlBackend {
        dialect: Dialect::Postgres,
        writer: Pool::Postgres(writer),
        readers: Pool::Postgres(readers),
        durable: AtomicBool::new(true),
        // What users ask for is rarely a matter of keys.
        queries: Queries::postgres(connector),
        time: options
            .clock
            .clone()
            .map_or(TimeSource::Database, |clock| TimeSource::Process(ProcessTime::new(clock, Timestamp(0)))),
        elsewhere,
        incarnation,
        guard: None,
        _lock: None,
    })
}

/// Refuses a database that a coordinator has open, as far as this account may see its sessions.
///
/// # Errors
/// [`StoreError::Open`].
pub(super) async fn refuse_if_served(url: &ServerUrl) -> Result<(), StoreError> {
    let failed = |reason: String| StoreError::Open { database: url.to_string(), reason };
    let connector = sessions::check(url).await.map_err(failed)?;
    let failed_query = |error: sqlx::Error| failed(connection_message(&error));
    let mut connection = connector.connect(&[]).await.map_err(failed_query)?;
    let others = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sortie'
        AND pid <> pg_backend_pid()";
    let deadline = Instant::now() + LEAVE_MAX;
    loop {
        let others: i64 =
            sqlx::query_scalar(others).fetch_one(&mut connection).await.map_err(failed_query)?;
        if others == 0 {
            break;
        }
        // A session that has just ended may still be listed.
        if Instant::now() >= deadline {
            return Err(failed(
                "a coordinator has it open; stop that one, or use another database".to_owned(),
            ));
        }
        sleep(LEAVE_AGAIN).await;
    }
    let _ = timeout(LEAVE_MAX, connection.close()).await;
    Ok(())
}

/// Passes on what other coordinators announce, for as long as anybody is interested. What is missed while the connection is away is found by
/// looking every few seconds.
async fn listen(pool: PgPool, elsewhere: std::sync::Weak<Notify>) {
    while elsewhere.strong_count() > 0 && !pool.is_closed() {
        let Ok(mut listener) = PgListener::connect_with(&pool).await else {
            sleep(LISTEN_AGAIN).await;
            continue;
        };
        let mut heard = listener.listen("sortie").await;
        while heard.is_ok() {
            let Some(elsewhere) = elsewhere.upgrade() else { return };
            elsewhere.notify_one();
            drop(elsewhere);
            heard = listener.recv().await.map(|_| ());
        }
        // It holds a connection, and a pool that closes waits for all of them.
        drop(listener);
        sleep(LISTEN_AGAIN).await;
    }
}

fn migration_message(error: &MigrateError) -> String {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => connection_message(error),
        other => schema_message(other, "database"),
    }
}
