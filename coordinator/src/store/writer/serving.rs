//! Serving requests: which of them share a transaction, and who gets which answer.

use sortie_access::TokenDigest;
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::lease::Completion;

use super::writer_task::Writer;
use crate::store::request::{PendingClaim, Reply, Request};
use crate::store::types::Claimed;

impl Writer {
    /// Serves requests, and the claims that wait where something has changed for them. Leases are quick: claims and heartbeats come first
    /// and are not flushed to disk. If a power cut undoes a lease, its attempt is lost and its token is refused, but no
    /// report is lost.
    pub(super) async fn serve(&mut self, batch: Vec<Request>) {
        let (mut leases, reports): (Vec<_>, Vec<_>) = batch.into_iter().partition(Request::is_quick);
        leases.extend(self.claims.take_due().into_iter().map(Request::Claim));
        self.serve_together(leases, false).await;
        self.serve_together(reports, true).await;
    }

    /// Serves requests in one transaction; each in its own if the database refuses one of them.
    async fn serve_together(&mut self, mut batch: Vec<Request>, durable: bool) {
        // Trials are assigned only to callers that are still there. Every other request counts, even if its caller is gone.
        batch.retain(|request| match request {
            Request::Claim(pending) => pending.reply.is_awaited(),
            Request::Heartbeat { .. }
            | Request::Report { .. }
            | Request::Complete { .. }
            | Request::Leave { .. }
            | Request::Reap { .. } => true,
        });
        if batch.is_empty() {
            return;
        }
        let Err(error) = self.transact(&mut batch, durable).await else {
            for request in batch {
                self.answer(request).await;
            }
            return;
        };
        if error.outage().is_none() {
            tracing::warn!(%error, requests = batch.len(), "a shared transaction failed; each request gets its own");
        }
        for mut request in batch {
            if let Some(outage) = error.outage() {
                request.refuse(outage);
                continue;
            }
            // The others succeed if the database refuses one request. Alone it is refused once more, and its caller gets its own error.
            match self.transact(std::slice::from_mut(&mut request), durable).await {
                Ok(()) => self.answer(request).await,
                Err(error) => request.refuse(error),
            }
        }
    }

    /// Answers, or lets a claim that got nothing wait. A caller that is gone repeats its request elsewhere.
    async fn answer(&mut self, request: Request) {
        match request {
            Request::Claim(pending) => self.answer_claim(pending).await,
            Request::Heartbeat { reply, .. } => drop(reply.send()),
            Request::Report { reply, .. }
            | Request::Complete { reply, .. }
            | Request::Leave { reply, .. } => {
                drop(reply.send());
            }
            Request::Reap { reply, .. } => drop(reply.send()),
        }
    }

    async fn answer_claim(&mut self, pending: PendingClaim) {
        let secret = pending.claim.secret;
        if !pending.is_settled() {
            self.claims.push(pending);
        } else if let Err(Ok(claimed)) = pending.reply.send() {
            // Every other request may be repeated, but the trials that were assigned to this caller wait here.
            self.take_back(secret, &claimed).await;
        }
    }

    /// Puts trials back whose worker went away while they were assigned to it. Where that fails, their leases run out.
    async fn take_back(&mut self, secret: TokenDigest, claimed: &Claimed) {
        let mut returns = returns(secret, claimed);
        if returns.is_empty() {
            return;
        }
        match self.transact(&mut returns, false).await {
            Ok(()) => tracing::debug!(
                trials = returns.len(),
                "trials came back whose worker was gone before it got them"
            ),
            Err(error) => {
                tracing::warn!(%error, "cannot put trials back whose worker was gone before it got them")
            }
        }
    }
}

/// Requests that give the leases of a worker with this secret back. It costs the trials nothing.
pub(crate) fn returns(secret: TokenDigest, claimed: &Claimed) -> Vec<Request> {
    let message = "whoever asked for the trial was gone before the answer came".to_owned();
    let outcome = Outcome::Failed { class: ErrorClass::Preempted, message };
    let completions = claimed.leases.iter().map(|lease| Completion {
        token: lease.token,
        batch: None,
        outcome: outcome.clone(),
    });
    let complete = |completion| Request::Complete { secret, completion, reply: Reply::to_nobody() };
    completions.map(complete).collect()
}
