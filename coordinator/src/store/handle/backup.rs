//! A backup on its way to a user.

use std::sync::Arc;

use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::store::Store;
use crate::store::StoreError;

/// How much of a file is read at a time: far below the size of a message.
const CHUNK_BYTES: usize = 1 << 20;

/// A backup that is complete, and read once. The disk has its room back when this is dropped.
#[derive(Debug)]
pub struct Backup {
    file: File,
    _running: OwnedSemaphorePermit,
}

impl Store {
    /// Copies the whole database as it is at one moment into one SQLite file, while everything goes on.
    ///
    /// # Errors
    /// [`StoreError::BackupRunning`] while another one is made or read, [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn backup(&self) -> Result<Backup, StoreError> {
        let running = Arc::clone(&self.backups).try_acquire_owned();
        let running = running.map_err(|_| StoreError::BackupRunning)?;
        // In a task of its own: a caller that goes away does not stop the database, so the next one must wait for it.
        let backend = Arc::clone(&self.backend);
        let made = tokio::spawn(async move { (backend.backup().await, running) });
        let (file, running) = made.await.map_err(|_| StoreError::Stopping)?;
        Ok(Backup { file: File::from_std(file?), _running: running })
    }
}

impl Backup {
    /// The next bytes of the file; none after the last.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        (&mut self.file).take(CHUNK_BYTES as u64).read_to_end(&mut bytes).await.map_err(sqlx::Error::Io)?;
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}
