//! Where queries are answered, and what is refused before any database sees it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::refusals::refused;
use super::{postgres, process};
use crate::store::query::{Rows, answer};
use crate::store::query_limits::{QUERIES_MAX, QUERY_BYTES_MAX};
use crate::store::sql::sessions::Connector;
use crate::store::{OpenOptions, StoreError};

/// Where queries are answered, a few at a time.
#[derive(Debug)]
pub(in crate::store::sql) struct Queries {
    database: Database,
    running: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
enum Database {
    Sqlite {
        file: PathBuf,
        program: PathBuf,
    },
    /// Why it answers none.
    Silent(&'static str),
    Postgres(Connector),
}

impl Queries {
    pub(in crate::store::sql) fn sqlite(path: &Path, options: &OpenOptions) -> Self {
        Self::on(match &options.query_program {
            _ if options.network_disk => Database::Silent(
                "a database that was opened with --db-on-network-disk cannot answer queries beside its own work",
            ),
            None => Database::Silent("this coordinator was started without a program that answers queries"),
            Some(program) => Database::Sqlite { file: path.to_owned(), program: program.clone() },
        })
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
        let (database, sql) = (self.database.clone(), sql.to_owned());
        // In a task of its own: a caller that goes away must not leave a query that runs.
        tokio::spawn(async move {
            let end = match &database {
                Database::Silent(reason) => Err(refused((*reason).to_owned())),
                Database::Sqlite { file, program } => process::run(program, file, &sql, &mut output).await,
                Database::Postgres(connector) => postgres::run(connector, &sql, &mut output).await,
            };
            // The place is free before the reader hears of the end: it may ask again at once.
            drop((output, permit));
            let _ = ended.send(end);
        });
        awaited.rows().await
    }
}
