//! A backup: the whole database as it was at one moment, in one SQLite file, whichever database it is of. The file is a Sortie database in all
//! but its incarnation: it has none, so that no coordinator serves it, and no token of it is taken for one of the database that it was made of.

use std::fs::File;
use std::path::Path;

use sortie_files::NewFile;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlitePool, migrate::MigrateError};

use super::copy::{copy, tables};
use super::database::SqlBackend;
use super::engine::{Arg, Pool, Tx};
use super::migrations;
use super::statements::{Dialect, statements};
use crate::store::StoreError;

impl SqlBackend {
    /// Copies the database as it is now into a file that has no name any more, while everything goes on.
    pub(super) async fn copy_to_file(&self) -> Result<File, StoreError> {
        let folder = match &self.guard {
            // Where the database has room, its copy probably has, too.
            Some(guard) => guard.path().parent().unwrap_or(Path::new(".")).to_owned(),
            None => std::env::temp_dir(),
        };
        // It never gets its name: it is removed when this is over.
        let new = NewFile::create(&folder.join("sortie-backup")).map_err(sqlx::Error::Io)?;
        match &self.readers {
            Pool::Sqlite(pool) => {
                let path = new.partial_path().to_string_lossy().into_owned();
                sqlx::query("VACUUM INTO $1").bind(path).persistent(false).execute(pool).await?;
            }
            Pool::Postgres(_) => self.copy_tables(new.partial_path()).await?,
        }
        let file = open(new.partial_path()).await?;
        sqlx::query("DELETE FROM incarnation").execute(&file).await?;
        file.close().await;
        Ok(File::open(new.partial_path()).map_err(sqlx::Error::Io)?)
    }

    /// Fills an empty file with the rows of a server, all as they were at one moment.
    async fn copy_tables(&self, path: &Path) -> Result<(), StoreError> {
        let file = open(path).await?;
        migrations::migrator(&migrations::SQLITE).run(&file).await.map_err(driver_error)?;
        let (mut from, mut to) = (self.readers.snapshot().await?, Pool::Sqlite(file.clone()).begin().await?);
        for table in tables(&mut to).await? {
            copy(&table, &mut from, &mut to).await?;
        }
        // Where the file is served by a process, its time goes on from here.
        let now = now(&mut from).await?;
        to.execute(statements(Dialect::Sqlite).note_time, vec![now]).await?;
        to.commit().await?;
        from.rollback().await?;
        file.close().await;
        Ok(())
    }
}

async fn now(server: &mut Tx) -> Result<Arg, StoreError> {
    let row = server.fetch(statements(Dialect::Postgres).now, Vec::new()).await?.pop();
    Ok(row.ok_or_else(super::transaction::silent_clock)?.int("the clock", "now_ms")?.into())
}

/// Opens a file that is thrown away if anything goes wrong: it needs neither a journal nor a disk that has written it.
async fn open(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off);
    SqlitePoolOptions::new().max_connections(1).connect_with(options).await
}

fn driver_error(error: MigrateError) -> sqlx::Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        other => sqlx::Error::Migrate(Box::new(other)),
    }
}
