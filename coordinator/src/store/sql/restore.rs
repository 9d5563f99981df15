//! Makes a database of a backup: all its rows in one transaction, under an incarnation of its own.

use std::path::Path;
use std::sync::Arc;

use sortie_core::job::Timestamp;
use sortie_core::keys::Incarnation;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::copy::{Table, clear, copy, go_on_after_ids, tables};
use super::engine::{Pool, Tx};
use super::statements::{Dialect, statements};
use super::transaction::SqlTransaction;
use super::{migrations, postgres, sqlite};
use crate::store::backend::{Backend, Transaction};
use crate::store::database_url::{DatabaseUrl, Place};
use crate::store::{OpenOptions, StoreError};

/// A database that has all rows of a backup, in a transaction that is not committed. Leases that were running are over.
pub(in crate::store) struct Filled {
    pub(in crate::store) backend: Arc<dyn Backend>,
    pub(in crate::store) tx: Box<dyn Transaction>,
    /// The time of the restored database.
    pub(in crate::store) now: Timestamp,
    pub(in crate::store) sweeps: u64,
    pub(in crate::store) trials: u64,
}

/// Copies a backup into a database that has no sweeps and that nobody serves.
///
/// # Errors
/// [`StoreError::Open`], which names the backup or the database.
pub(in crate::store) async fn fill(
    backup: &Path,
    url: &DatabaseUrl,
    options: &OpenOptions,
) -> Result<Filled, StoreError> {
    let file = open_backup(backup)
        .await
        .map_err(|reason| StoreError::Open { database: backup.display().to_string(), reason })?;
    let backend = match url.place() {
        Place::File(path) => sqlite::open(path, options).await?,
        Place::Server(server) => {
            postgres::refuse_if_served(server).await?;
            postgres::open(server, options).await?
        }
    };
    let mut tx = backend.transaction().await?;
    if tx.dialect == Dialect::Postgres {
        // A coordinator that starts meanwhile waits, and then finds another incarnation.
        tx.tx.execute("LOCK TABLE incarnation IN ACCESS EXCLUSIVE MODE", Vec::new()).await?;
    }
    let found = tx.tx.fetch(statements(tx.dialect).sweep_names, Vec::new()).await?;
    if let Some(sweep) = found.first() {
        let name = sweep.text("sweeps", "name")?;
        let reason = format!("it has sweeps, such as {name:?}: restore into a new or an empty database");
        return Err(StoreError::Open { database: url.to_string(), reason });
    }
    let started = tx.now().await?;
    let mut from = Pool::Sqlite(file.clone()).snapshot().await?;
    let tables = tables(&mut from).await?;
    clear(&tables, &mut tx.tx).await?;
    for table in &tables {
        copy(table, &mut from, &mut tx.tx).await?;
    }
    from.rollback().await?;
    file.close().await;
    let now = renew(&mut tx, started, &tables).await?;
    let (sweeps, trials) = (count(&mut tx.tx, "sweeps").await?, count(&mut tx.tx, "trials").await?);
    Ok(Filled { backend: Arc::new(backend), tx: Box::new(tx), now, sweeps, trials })
}

/// Makes another incarnation of what was copied, whose tokens are far from those of the old one, and ends its leases. Gives the time.
async fn renew(
    tx: &mut SqlTransaction,
    started: Timestamp,
    tables: &[Table],
) -> Result<Timestamp, StoreError> {
    let sql = statements(tx.dialect);
    let row = tx.tx.fetch(sql.new_incarnation, Vec::new()).await?.pop();
    let number = row.map(|row| row.int("incarnation", "number")).transpose()?;
    tx.incarnation = Incarnation(number.unwrap_or_default());
    let latest = tx.tx.fetch(sql.latest, Vec::new()).await?.pop();
    let latest = latest.map(|row| row.int("epochs", "latest")).transpose()?.unwrap_or_default();
    let now = started.max(Timestamp(latest));
    tx.tx.execute(sql.skip_epochs, vec![now.0.into()]).await?;
    if tx.dialect == Dialect::Postgres {
        go_on_after_ids(tables, &mut tx.tx).await?;
    }
    tx.tx.execute(sql.note_interrupted, vec![now.0.into()]).await?;
    tx.tx.execute(sql.end_leases, vec![now.0.into()]).await?;
    Ok(now)
}

async fn count(tx: &mut Tx, table: &'static str) -> Result<u64, StoreError> {
    let sql = if table == "sweeps" {
        "SELECT COUNT(*) AS count FROM sweeps"
    } else {
        "SELECT COUNT(*) AS count FROM trials"
    };
    tx.fetch(sql, Vec::new()).await?.pop().map_or(Ok(0), |row| row.count(table, "count"))
}

/// Opens a backup and checks that it is one, whole, and of this build's schema.
///
/// # Errors
/// One line.
async fn open_backup(path: &Path) -> Result<SqlitePool, String> {
    let text = |error: sqlx::Error| {
        format!("it is damaged, or cannot be read ({})", sqlite::database_message(&error))
    };
    std::fs::File::open(path).map_err(|error| format!("it cannot be read ({error})"))?;
    if !sqlite::may_be_a_database(path) {
        return Err("it is no backup of Sortie: name a file that `sortie backup` wrote".to_owned());
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let file = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(text)?;
    let whole: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&file).await.map_err(text)?;
    if whole != "ok" {
        return Err(format!("it is damaged: {}", whole.replace('\n', " ")));
    }
    let there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')";
    if !sqlx::query_scalar::<_, bool>(there).fetch_one(&file).await.map_err(text)? {
        return Err("it is no backup of Sortie: name a file that `sortie backup` wrote".to_owned());
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&file)
            .await
            .map_err(text)?;
    let known = migrations::migrator(&migrations::SQLITE);
    let known: Vec<(i64, Vec<u8>)> =
        known.iter().map(|migration| (migration.version, migration.checksum.to_vec())).collect();
    if applied != known {
        return Err(
            "another build of Sortie made it, with another schema: restore it with that build".to_owned()
        );
    }
    Ok(file)
}
