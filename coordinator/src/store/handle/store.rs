//! A store from opening to closing.

use std::sync::Arc;

use sortie_core::access::Caller;
use sortie_core::keys::Incarnation;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::clock::Clock;
use crate::store::attempts::{SweepCache, Tokens};
use crate::store::backend::Backend;
use crate::store::database_url::DatabaseUrl;
use crate::store::request::{Answer, Reply};
use crate::store::settings::{OpenOptions, Settings};
use crate::store::writer::{BatchExecutor, Command, Message, Writer};
use crate::store::{Memory, StoreError, sql};

/// Requests that wait for the writer; then callers wait.
const REQUESTS_MAX: usize = 4_096;

/// A database, and the task that writes to it.
#[derive(Clone, Debug)]
pub struct Store {
    pub(in crate::store) backend: Arc<dyn Backend>,
    pub(in crate::store) writer: mpsc::Sender<Message>,
    pub(in crate::store) settings: Settings,
    /// One backup at a time.
    pub(super) backups: Arc<Semaphore>,
    /// Who acts; none if it is the coordinator itself.
    pub(super) caller: Option<Caller>,
    /// What became of a database that is lost.
    lost: watch::Receiver<Option<String>>,
}

impl Store {
    /// Opens the database at a URL, creates or migrates it, and gives attempts that were running when the last coordinator stopped one
    /// lease of time to come back. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Open`], one line that says what to do.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn open(
        url: &DatabaseUrl,
        options: &OpenOptions,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        Self::on(sql::open(url, options).await?, settings).await
    }

    /// Opens a model in memory, which may have been open before: for tests, with no other use.
    ///
    /// # Errors
    /// None in practice.
    pub async fn in_memory(
        model: &Memory,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        Self::on(Arc::new(model.with_clock(clock)), settings).await
    }

    pub(in crate::store) async fn on(
        backend: Arc<dyn Backend>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let mut tx = backend.begin(true).await?;
        let now = tx.now().await?;
        let epoch = tx.new_epoch(now).await?;
        // While no coordinator ran, no worker could extend its leases: that is not the attempts' fault. The clock may have been set, too.
        tx.renew_leases(now, settings.lease).await?;
        tx.commit(true).await?;
        let (writer, requests) = mpsc::channel(REQUESTS_MAX);
        let executor =
            BatchExecutor { settings, sweeps: SweepCache::default(), tokens: Tokens::of_epoch(epoch) };
        let (lose, lost) = watch::channel(None);
        tokio::spawn(Writer::new(Arc::clone(&backend), executor, requests, lose).run());
        Ok(Self { backend, writer, settings, backups: Arc::new(Semaphore::new(1)), caller: None, lost })
    }

    /// Which database it is.
    pub fn incarnation(&self) -> Incarnation {
        self.backend.incarnation()
    }

    /// How it treats workers.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Lets the writer do something in a transaction of its own, and waits for its reply.
    pub(super) async fn command<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Answer<T> {
        let caller = self.caller.clone();
        self.ask(|reply| Message::Command(command(reply), caller)).await
    }

    /// Sends the writer a message, and waits for its reply.
    pub(super) async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Answer<T> {
        let (reply, answer) = Reply::channel();
        self.writer.send(message(reply)).await.map_err(|_| StoreError::Stopping)?;
        answer.await.map_err(|_| StoreError::Stopping)?
    }

    /// Waits until the writer is gone, which is never while all is well.
    pub async fn ended(&self) {
        self.writer.closed().await;
    }

    /// Waits until the database is lost: it is not any more what was opened. Gives what became of it.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.clone();
        let found = lost.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match found {
            Some(reason) => reason,
            // The writer is gone, which `ended` tells.
            None => std::future::pending().await,
        }
    }

    /// Waits for the statements that run and closes the database.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn close(&self) {
        self.backend.close().await;
    }
}

#[cfg(test)]
impl Store {
    /// A store whose writer has ended, as after a bug.
    pub(crate) fn without_writer(settings: Settings) -> Self {
        let (writer, lost) = (mpsc::channel(1).0, watch::channel(None).1);
        let backups = Arc::new(Semaphore::new(1));
        Self { backend: Arc::new(Memory::default()), writer, settings, backups, caller: None, lost }
    }
}
