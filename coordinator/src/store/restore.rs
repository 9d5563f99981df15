//! `sortie restore`: a database made of a backup.

use std::path::Path;
use std::time::Duration;

use super::attempts::{SweepCache, Tokens};
use super::request::{Reply, Request};
use super::sql;
use super::writer::BatchExecutor;
use super::{DatabaseUrl, OpenOptions, Settings, StoreError};

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Sweeps.
    pub sweeps: u64,
    /// Trials of all sweeps.
    pub trials: u64,
    /// Attempts that were running when the backup was made: they are lost, and their trials wait again.
    pub interrupted: u64,
}

/// Makes a database of a backup, whichever database that was made of. It is another incarnation: nothing that was begun before, and no token
/// that was issued since the backup, is accepted in it. All of it is there in the end, or nothing.
///
/// # Errors
/// [`StoreError::Open`], one line that names the backup or the database: the backup is none, is damaged or has another schema; the database has
/// sweeps, or a coordinator serves it.
pub async fn restore(
    backup: &Path,
    url: &DatabaseUrl,
    options: &OpenOptions,
) -> Result<Restored, StoreError> {
    let sql::Filled { backend, mut tx, now, sweeps, trials } = sql::fill(backup, url, options).await?;
    // No lease is granted here, so how long one lasts does not matter, and no token is issued.
    let settings = Settings::new(Duration::from_secs(1));
    let mut executor = BatchExecutor { settings, sweeps: SweepCache::default(), tokens: Tokens::of_epoch(0) };
    let mut interrupted = 0;
    loop {
        let mut requests = [Request::Reap { by: None, reply: Reply::to_nobody() }];
        executor.serve(&mut requests, now, tx.as_mut()).await?;
        let [Request::Reap { reply, .. }] = &requests else { break };
        match reply.answer() {
            Ok(Some(reaped)) if *reaped > 0 => interrupted += reaped,
            _ => break,
        }
    }
    tx.commit(false).await?;
    backend.close().await;
    Ok(Restored { sweeps, trials, interrupted })
}
