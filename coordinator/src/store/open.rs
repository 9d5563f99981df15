//! Opening a database: the lock, the pragmas, the migrations.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sortie_core::job::Timestamp;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{Store, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Where a coordinator keeps its database unless told otherwise.
pub const DEFAULT_URL: &str = "sqlite://sortie.db";

const READERS_MAX: u32 = 4;

impl Store {
    /// Opens the database, creates or migrates it, and gives attempts that were running when the last coordinator stopped one lease
    /// of time to come back. `lease` is how long a lease lasts after a heartbeat.
    ///
    /// # Errors
    /// [`StoreError::Url`] and [`StoreError::Open`], each one line that says what to do.
    pub async fn open(url: &str, lease: Duration, now: Timestamp) -> Result<Self, StoreError> {
        let path = sqlite_path(url)?;
        let lock = Arc::new(lock(&path)?);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged result survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let failed = |reason: String| StoreError::Open { path: path.clone(), reason };
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await;
        let writer = writer.map_err(|error| failed(database_message(&error)))?;
        MIGRATIONS.run(&writer).await.map_err(|error| failed(migration_message(&error)))?;
        let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).connect_with(options.read_only(true)).await;
        let readers = readers.map_err(|error| failed(database_message(&error)))?;
        let store = Self { writer, readers, lease, _lock: lock };
        store.grant_grace(now).await?;
        Ok(store)
    }

    /// How long a lease lasts after a heartbeat.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// What the writer's connection says of its durability: journal_mode, synchronous, foreign_keys.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn writer_pragmas(&self) -> Result<(String, i64, i64), StoreError> {
        let mut connection = self.writer.acquire().await?;
        Ok((
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await?,
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await?,
            sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&mut *connection).await?,
        ))
    }

    /// Waits for the statements that run and closes the files, so that the write-ahead log is folded into the database.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// While no coordinator ran, nobody could extend a lease: that is not the attempts' fault.
    async fn grant_grace(&self, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE trials SET lease_expires_ms = ?1 WHERE state = 'leased' AND lease_expires_ms < ?1")
            .bind(now.plus(self.lease).0)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

fn sqlite_path(url: &str) -> Result<PathBuf, StoreError> {
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"));
    match path {
        Some(path) if !path.is_empty() && !path.starts_with(":memory:") && !path.contains('?') => Ok(PathBuf::from(path)),
        _ => Err(StoreError::Url { url: url.to_owned() }),
    }
}

/// A lock file beside the database: two coordinators on one file would both hand out its trials. The kernel drops the lock with the
/// process, however it ends.
fn lock(database: &Path) -> Result<File, StoreError> {
    let failed = |reason: String| StoreError::Open { path: database.to_owned(), reason };
    if database.is_dir() {
        return Err(failed("it is a folder; name a file".to_owned()));
    }
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| failed(format!("its folder must exist and be writable ({error})")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed("another coordinator has it open; stop that one, or use another file".to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(format!("its folder does not support locks ({error})"))),
    }
}

fn database_message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

fn migration_message(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            format!("it was written by a newer build (schema version {version}); use that build, or another file")
        }
        MigrateError::VersionMismatch(version) => {
            format!("its schema version {version} is not this build's; it was written by another development build")
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => database_message(error),
        other => other.to_string(),
    }
}
