//! Where queries are answered, and what is refused before any database sees it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::refusals::refused;
use super::{postgres, sqlite};
use crate::store::StoreError;
use crate::store::query::{Rows, answer};
use crate::store::query_limits::{QUERIES_MAX, QUERY_BYTES_MAX};
use crate::store::sql::sessions::Connector;

/// Where queries are answered, a few at a time.
#[derive(Debug)]
pub(in crate::store::sql) struct Queries {
    database: Database,
    running: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
enum Database {
    /// None: its file can be open only once.
    Sqlite(Option<PathBuf>),
    Postgres(Connector),
}

impl Queries {
    pub(in crate::store::sql) fn sqlite(path: &Path, exclusive: bool) -> Self {
        Self::on(Database::Sqlite((!exclusive).then(|| path.to_owned())))
    }

    pub(in crate::store::sql) fn postgres(connector: Connector) -> Self {
        Self::on(Database::Postgres(connector))
    }

    fn on(database: Database) -> Self {
        Self { database, running: Arc::new(Semaphore::new(QUERIES_MAX)) }
    }

    /// Answers a query within a time that includes its reader's.
    pub(in crate::store::sql) async fn ask(&self, sql: &str, limit: Duration) -> Result<Rows, StoreError> {
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
            Database::Postgres(connector) => drop(tokio::spawn(async move {
                let end = postgres::run(&connector, &sql, &mut output).await;
                drop((output, permit));
                let _ = ended.send(end);
            })),
        }
        awaited.rows().await
    }
}
