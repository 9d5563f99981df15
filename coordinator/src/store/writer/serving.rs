//! Serving requests: which of them share a transaction, and who gets which answer.

use std::sync::Arc;

use sortie_core::job::{ErrorClass, Outcome};
use tokio::time::Instant;

use super::writer_task::{Request, Writer};
use crate::store::StoreError;
use crate::store::request::{Answer, Op, Reply};
use crate::store::types::{Claimed, Completion};

impl Writer {
    /// Serves requests, and the claims that wait where something has changed for them. Leases are quick: claims and heartbeats come first
    /// and are not flushed to disk. If a power cut undoes a lease, its attempt is lost and its token is refused, but no
    /// report is lost.
    pub(super) async fn serve(&mut self, batch: Vec<Request>) {
        let now = Instant::now();
        if self.free_at.is_some_and(|free_at| free_at <= now) {
            (self.free_at, self.look) = (None, true);
        }
        let quick = |request: &Request| matches!(request.op, Op::Claim(_) | Op::Heartbeat { .. });
        let (mut leases, reports): (Vec<_>, Vec<_>) = batch.into_iter().partition(quick);
        if std::mem::take(&mut self.look) {
            leases.extend(self.parked.drain(..).filter(|parked| !parked.reply.is_closed()));
        }
        self.serve_together(leases, false).await;
        self.serve_together(reports, true).await;
    }

    /// Serves requests in one transaction; each in its own if the database refuses one of them.
    pub(super) async fn serve_together(&mut self, mut batch: Vec<Request>, durable: bool) {
        // Trials are assigned only to callers that are still there. Every other request counts, even if its caller is gone.
        batch.retain(|request| !matches!(request.op, Op::Claim(_)) || !request.reply.is_closed());
        if batch.is_empty() {
            return;
        }
        let ops: Vec<Op> = batch.iter().map(|request| request.op.clone()).collect();
        match self.transact(&ops, durable).await {
            Ok(answers) => {
                for (request, answer) in batch.into_iter().zip(answers) {
                    self.answer(request, answer).await;
                }
            }
            Err(error) => {
                if let Some(outage) = error.outage() {
                    for request in batch {
                        self.answer(request, Err(StoreError::Database(Arc::clone(outage)))).await;
                    }
                    return;
                }
                // One request that the database refuses must not take the others with it. Alone it is refused once more, and its caller
                // gets its own error.
                tracing::warn!(%error, requests = ops.len(), "a shared transaction failed; each request gets its own");
                for request in batch {
                    let answers = self.transact(std::slice::from_ref(&request.op), durable).await;
                    let answer = answers.and_then(|mut answers| answers.pop().unwrap_or(Ok(Reply::Done)));
                    self.answer(request, answer).await;
                }
            }
        }
    }

    /// Answers, or lets a claim that got nothing wait.
    pub(super) async fn answer(&mut self, request: Request, answer: Answer) {
        if let (Op::Claim(claim), Ok(Reply::Claimed(claimed)), Some(until)) =
            (&request.op, &answer, request.until)
        {
            let settled = !claimed.leases.is_empty()
                || (claimed.idle && claim.return_when_idle)
                || until <= Instant::now();
            if !settled {
                self.parked.push_back(request);
                return;
            }
        }
        // A caller that is gone repeats its request elsewhere. Every request may be repeated, but trials that were assigned to it wait here.
        if let Err(Ok(Reply::Claimed(claimed))) = request.reply.send(answer) {
            self.take_back(&claimed).await;
        }
    }

    /// Puts trials back whose worker went away while they were assigned to it. Where that fails, their leases run out.
    pub(super) async fn take_back(&mut self, claimed: &Claimed) {
        let ops = returns(claimed);
        if ops.is_empty() {
            return;
        }
        match self.transact(&ops, false).await {
            Ok(_) => tracing::debug!(
                trials = ops.len(),
                "trials came back whose worker was gone before it got them"
            ),
            Err(error) => {
                tracing::warn!(%error, "cannot put trials back whose worker was gone before it got them")
            }
        }
    }
}

/// Requests that give these leases back. It costs the trials nothing.
pub(crate) fn returns(claimed: &Claimed) -> Vec<Op> {
    let message = "whoever asked for the trial was gone before the answer came".to_owned();
    let outcome = Outcome::Failed { class: ErrorClass::Preempted, message };
    let ends = claimed.leases.iter().map(|lease| Completion {
        token: lease.token,
        batch: None,
        outcome: outcome.clone(),
    });
    ends.map(Op::Complete).collect()
}
