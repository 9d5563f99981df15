//! Opening a SQLite file: the disk, the lock, the pragmas, the migrations.

use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sortie_core::job::Timestamp;
use sortie_core::keys::Incarnation;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, SqlitePool};
use tokio::sync::Notify;

use super::database::{SqlBackend, incarnation, schema_message};
use super::engine::Pool;
use super::file_guard::{FileGuard, user_version};
use super::migrations;
use super::queries::Queries;
use super::statements::{Dialect, statements};
use super::time::{ProcessTime, STORED_INTERVAL, TimeSource};
use crate::clock::MonotonicClock;
use crate::store::{OpenOptions, StoreError};

/// Where a coordinator keeps its database unless another is configured.
pub const DEFAULT_URL: &str = "sqlite://sortie.db";

const READERS_MAX: u32 = 4;
/// Pages that each connection keeps in memory, in KiB: enough for the upper levels of every index of a million trials.
const CACHE_KIB: &str = "-16384";

/// Opens the file, creates or migrates it.
pub(super) async fn open(path: &Path, options: &OpenOptions) -> Result<SqlBackend, StoreError> {
    // A link is another name for the same file, and must have the same lock.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let failed = |reason: String| StoreError::Open { database: path.display().to_string(), reason };
    if let Some(name) = network_disk(&path).filter(|_| !options.network_disk) {
        return Err(failed(format!(
            "it lies on a network disk ({name}), where SQLite's locks cannot be trusted: use a local disk or Postgres, or add --db-on-network-disk"
        )));
    }
    let lock = lock(&path)?;
    let mut connect = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged result survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("cache_size", CACHE_KIB)
        .statement_cache_capacity(200)
        // Rows cross a thread: a page of an answer should not wait for its reader row by row.
        .row_buffer_size(1_000)
        .busy_timeout(Duration::from_secs(10));
    if options.network_disk {
        // Without memory that processes share, which network disks do not have.
        connect = connect.locking_mode(SqliteLockingMode::Exclusive);
    }
    if let Some(pages) = options.pages_max {
        connect = connect.pragma("max_page_count", pages.to_string());
    }
    let writer = pool(1).connect_with(connect.clone()).await;
    let writer = writer.map_err(|error| failed(database_message(&error)))?;
    migrations::migrator(&migrations::SQLITE)
        .run(&writer)
        .await
        .map_err(|error| failed(migration_message(&error)))?;
    let incarnation = incarnation(&Pool::Sqlite(writer.clone()), Dialect::Sqlite).await.map_err(failed)?;
    stamp(&writer, incarnation).await.map_err(|error| failed(database_message(&error)))?;
    let stored = latest(&writer).await.map_err(|error| failed(database_message(&error)))?;
    let clock = options
        .clock
        .clone()
        .unwrap_or_else(|| Arc::new(MonotonicClock::start(stored.plus(STORED_INTERVAL))));
    let time = ProcessTime::new(clock, stored);
    let readers = if options.network_disk {
        writer.clone()
    } else {
        let readers = pool(READERS_MAX).connect_with(connect.read_only(true)).await;
        readers.map_err(|error| failed(database_message(&error)))?
    };
    let guard = FileGuard::new(&path, incarnation, options.network_disk)
        .map_err(|error| failed(error.to_string()))?;
    Ok(SqlBackend {
        dialect: Dialect::Sqlite,
        writer: Pool::Sqlite(writer),
        readers: Pool::Sqlite(readers),
        durable: AtomicBool::new(true),
        queries: Queries::sqlite(&path, options),
        time: TimeSource::Process(time),
        elsewhere: Arc::new(Notify::new()),
        incarnation,
        guard: Some(Arc::new(guard)),
        _lock: Some(lock),
    })
}

/// Connections that stay open: SQLite deletes the log with the last one, and the guard would take that for a loss.
fn pool(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections_max).max_lifetime(None).idle_timeout(None)
}

/// Writes the incarnation into the header of the file, where the guard sees it.
async fn stamp(pool: &SqlitePool, incarnation: Incarnation) -> Result<(), sqlx::Error> {
    let version = user_version(incarnation);
    // Not out of the log, where it would be until the next checkpoint.
    let text = format!("PRAGMA user_version = {version}; PRAGMA wal_checkpoint(PASSIVE)");
    sqlx::raw_sql(AssertSqlSafe(text)).execute(pool).await.map(|_| ())
}

/// The latest time that was stored.
async fn latest(pool: &SqlitePool) -> Result<Timestamp, sqlx::Error> {
    sqlx::query_scalar(statements(Dialect::Sqlite).latest).fetch_one(pool).await.map(Timestamp)
}

/// A lock file beside the database: two coordinators on one file would both assign its trials. The kernel drops the lock with the
/// process, however it ends.
fn lock(database: &Path) -> Result<File, StoreError> {
    let failed = |reason: String| StoreError::Open { database: database.display().to_string(), reason };
    if database.is_dir() {
        return Err(failed("it is a folder; name a file".to_owned()));
    }
    if let Err(error) = File::options().write(true).open(database)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(failed(format!(
            "it cannot be written ({error}): give this account the right to, or name another file"
        )));
    }
    // Nothing is left beside a file that is somebody else's.
    if !may_be_a_database(database) {
        return Err(failed("it is not a database: name another file".to_owned()));
    }
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| failed(format!("its folder must exist and be writable ({error})")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(failed("another coordinator has it open; stop that one, or use another file".to_owned()))
        }
        Err(TryLockError::Error(error)) => {
            Err(failed(format!("its folder does not support locks ({error})")))
        }
    }
}

/// Whether a file is absent, empty or begins as SQLite's do. One that cannot be read is found out later.
pub(super) fn may_be_a_database(path: &Path) -> bool {
    let mut start = [0; 16];
    match File::open(path).and_then(|mut file| file.read_exact(&mut start)) {
        Ok(()) => start == *b"SQLite format 3\0",
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            path.metadata().is_ok_and(|file| file.len() == 0)
        }
        Err(_) => true,
    }
}

/// The kind of network disk that a file lies on, if it does.
fn network_disk(database: &Path) -> Option<&'static str> {
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A disk that cannot be asked is found out by its locks.
    let kind = rustix::fs::statfs(folder).ok()?.f_type;
    network_disk_name(u32::try_from(kind & 0xFFFF_FFFF).ok()?)
}

/// File systems by the kernel's magic numbers (statfs(2)).
fn network_disk_name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "NFS",
        0x0000_517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x6573_5546 => "FUSE, such as sshfs",
        0x00C3_6400 => "Ceph",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x1983_0326 => "BeeGFS",
        0x0102_1997 => "9P",
        0x0116_1970 => "GFS2",
        0x7461_636F => "OCFS2",
        _ => return None,
    })
}

pub(super) fn database_message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

fn migration_message(error: &MigrateError) -> String {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => database_message(error),
        other => schema_message(other, "file"),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Executor, SqlSafeStr};

    use super::*;

    #[test]
    fn network_disks_are_known_by_name_and_local_ones_are_not_refused() {
        assert_eq!(network_disk_name(0x6969), Some("NFS"));
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs.
        for local in [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0x2FC1_2FC1] {
            assert_eq!(network_disk_name(local), None);
        }
    }

    #[tokio::test]
    async fn a_database_of_an_earlier_build_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sortie.db");
        let database = open(&path, &OpenOptions::default()).await.unwrap();
        let Pool::Sqlite(pool) = &database.writer else { panic!("{database:?}") };
        // An earlier build had another text of the first migration.
        let changed = "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1";
        pool.execute(changed.into_sql_str()).await.unwrap();
        pool.close().await;
        drop(database);
        let error = open(&path, &OpenOptions::default()).await.unwrap_err().to_string();
        let reason = "this database was made by an earlier build of Sortie; start with a new file";
        assert_eq!(error, format!("cannot open the database {}: {reason}", path.display()));
    }
}
