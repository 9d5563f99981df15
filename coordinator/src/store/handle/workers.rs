//! What workers ask for, and the reaper: requests that share transactions.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{AttemptHeartbeat, Batch, Completion};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::store::Store;
use crate::store::StoreError;
use crate::store::request::{Answer, PendingClaim, Reply, Request};
use crate::store::types::{Claim, Claimed, Worker};
use crate::store::writer::{self, Command, Grace, Message, Register};

impl Store {
    /// Remembers a worker process. Repeated, it changes nothing.
    ///
    /// # Errors
    /// [`StoreError::OtherWorker`] if another process registered under its id.
    #[tracing::instrument(level = "debug", skip_all, fields(worker = %worker.id))]
    pub async fn register(&self, worker: &Worker) -> Result<(), StoreError> {
        let register = Register(worker.clone());
        self.command(|reply| Command::Register(register, reply)).await
    }

    /// Notes that a worker process ends. Without its secret, it changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all, fields(worker = %worker_id))]
    pub async fn leave(&self, secret: TokenDigest, worker_id: &str) -> Result<(), StoreError> {
        let worker = (worker_id.to_owned(), secret);
        self.ask(|reply| Message::Request(Request::Leave { worker, reply })).await
    }

    /// Moves waiting trials to a worker; waits for one to appear as long as it may. Sweeps of one priority share fairly.
    ///
    /// # Errors
    /// [`StoreError::UnknownWorker`] for a worker that did not register, [`StoreError::OtherWorker`] without its secret.
    #[tracing::instrument(level = "debug", skip_all, fields(worker = %claim.worker_id, sweep = claim.sweep, count = claim.count_max))]
    pub async fn claim(&self, claim: Claim, wait: Duration) -> Result<Claimed, StoreError> {
        let (reply, answer) = Reply::channel();
        let mut waiting = Waiting { secret: claim.secret, answer, writer: &self.writer };
        let pending = PendingClaim { claim, until: Instant::now() + wait, reply };
        let message = Message::Request(Request::Claim(pending));
        self.writer.send(message).await.map_err(|_| StoreError::Stopping)?;
        (&mut waiting.answer).await.map_err(|_| StoreError::Stopping)?
    }

    /// Extends the leases of these attempts and notes how far they are. Returns the tokens that no longer hold their trial.
    ///
    /// # Errors
    /// [`StoreError::NotYours`] if one of them is another worker's, [`StoreError::Database`]; then no lease was extended.
    #[tracing::instrument(level = "debug", skip_all, fields(worker = %worker_id, count = attempts.len()))]
    pub async fn heartbeat(
        &self,
        secret: TokenDigest,
        worker_id: &str,
        attempts: Vec<AttemptHeartbeat>,
    ) -> Result<Vec<AttemptToken>, StoreError> {
        let worker = (worker_id.to_owned(), secret);
        self.ask(|reply| Message::Request(Request::Heartbeat { worker, attempts, reply })).await
    }

    /// Stores a batch of reports. The same batch again is a no-op. A report is a sign of life: it extends the lease.
    ///
    /// An attempt whose dataset or weights are not those that the name is pinned to is ended here as bad data, and refused.
    ///
    /// # Errors
    /// [`StoreError::NotYours`] when another worker has the attempt, [`StoreError::Refused`] when the token no longer holds its trial, [`StoreError::Gap`] when a batch is missing before this one,
    /// [`StoreError::Foreign`] when it reports what its trial does not evaluate.
    #[tracing::instrument(level = "debug", skip_all, fields(%token, sequence = batch.sequence))]
    pub async fn report(
        &self,
        secret: TokenDigest,
        token: AttemptToken,
        batch: Batch,
    ) -> Result<(), StoreError> {
        self.ask(|reply| Message::Request(Request::Report { secret, token, batch, reply })).await
    }

    /// Ends an attempt, with its last reports. Repeated under the same token, it changes nothing.
    ///
    /// # Errors
    /// As for [`Store::report`].
    #[tracing::instrument(level = "debug", skip_all, fields(token = %completion.token))]
    pub async fn complete(&self, secret: TokenDigest, completion: Completion) -> Result<(), StoreError> {
        self.ask(|reply| Message::Request(Request::Complete { secret, completion, reply })).await
    }

    /// Ends leases that ran out. Returns how many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn reap(&self) -> Result<u64, StoreError> {
        let reaped = self.ask(|reply| Message::Request(Request::Reap { by: None, reply })).await?;
        // Without a limit it is never too late.
        Ok(reaped.unwrap_or_default())
    }

    /// Ends leases that ran out, unless this runs only after `by` because the database was away: then no worker could extend a lease
    /// meanwhile. Returns how many; none if it was too late.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn reap_by(&self, by: Instant) -> Result<Option<u64>, StoreError> {
        self.ask(|reply| Message::Request(Request::Reap { by: Some(by), reply })).await
    }

    /// Gives every lease the time of one lease from now, after an outage in which no worker could extend its leases. Returns how many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn grant_grace(&self) -> Result<u64, StoreError> {
        self.command(|reply| Command::Grace(Grace, reply)).await
    }
}

/// A caller that waits for trials. If it goes away before it reads the answer, the trials that were assigned to it are given back.
struct Waiting<'a> {
    secret: TokenDigest,
    answer: oneshot::Receiver<Answer<Claimed>>,
    writer: &'a mpsc::Sender<Message>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.answer.close();
        let Ok(Ok(claimed)) = self.answer.try_recv() else { return };
        for request in writer::returns(self.secret, &claimed) {
            // A writer that has no room or is gone cannot be waited for here: then the lease runs out.
            let _ = self.writer.try_send(Message::Request(request));
        }
    }
}
