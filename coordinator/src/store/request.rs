//! Requests of workers, which share transactions. Each carries the reply that its caller waits for, so that no request can get a reply of
//! another kind.

use sortie_access::TokenDigest;
use sortie_core::job::Outcome;
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{AttemptHeartbeat, Batch, Completion};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::StoreError;
use super::types::{Claim, Claimed};

/// What a caller gets.
pub(crate) type Answer<T> = Result<T, StoreError>;

/// The reply that one caller waits for.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    caller: oneshot::Sender<Answer<T>>,
    /// What the last try at the transaction gave. It is sent after the commit.
    answer: Answer<T>,
}

impl<T> Reply<T> {
    /// A reply, and where its caller gets it.
    pub(crate) fn channel() -> (Self, oneshot::Receiver<Answer<T>>) {
        let (caller, answer) = oneshot::channel();
        (Self { caller, answer: Err(StoreError::Stopping) }, answer)
    }

    /// A reply that no caller waits for.
    pub(crate) fn to_nobody() -> Self {
        Self::channel().0
    }

    /// Whether the caller is still there.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.caller.is_closed()
    }

    /// The answer, unless the transaction has to be tried again.
    pub(crate) fn set(&mut self, answer: Answer<T>) {
        self.answer = answer;
    }

    /// The answer so far.
    pub(crate) fn answer(&self) -> &Answer<T> {
        &self.answer
    }

    /// Sends the answer; gives it back if the caller is gone.
    pub(crate) fn send(self) -> Result<(), Answer<T>> {
        self.caller.send(self.answer)
    }

    /// Sends this answer. The caller may be gone.
    pub(crate) fn send_answer(mut self, answer: Answer<T>) {
        self.set(answer);
        let _ = self.send();
    }
}

/// The id of a worker, with the digest of the secret that shows that it is that worker.
pub(crate) type WorkerName = (String, TokenDigest);

/// A request. All of them can share a transaction.
#[derive(Debug)]
pub(crate) enum Request {
    Claim(PendingClaim),
    /// Answered by the tokens that no longer hold their trial.
    Heartbeat {
        worker: WorkerName,
        attempts: Vec<AttemptHeartbeat>,
        reply: Reply<Vec<AttemptToken>>,
    },
    Report {
        secret: TokenDigest,
        token: AttemptToken,
        batch: Batch,
        reply: Reply<()>,
    },
    Complete {
        secret: TokenDigest,
        completion: Completion,
        reply: Reply<()>,
    },
    Leave {
        worker: WorkerName,
        reply: Reply<()>,
    },
    /// Ends leases that ran out, unless its turn comes later than `by`. Answered by how many it ended; none if it was too late.
    Reap {
        by: Option<Instant>,
        reply: Reply<Option<u64>>,
    },
}

/// A claim, and how long it may wait if it finds nothing.
#[derive(Debug)]
pub(crate) struct PendingClaim {
    pub(crate) claim: Claim,
    pub(crate) until: Instant,
    pub(crate) reply: Reply<Claimed>,
}

impl PendingClaim {
    /// Whether its answer can be sent: it got trials or something to look for, or no longer waits.
    pub(crate) fn is_settled(&self) -> bool {
        let Ok(claimed) = self.reply.answer() else { return true };
        !claimed.leases.is_empty()
            || !claimed.look_for.is_empty()
            || (claimed.idle && self.claim.return_when_idle)
            || self.until <= Instant::now()
    }
}

impl Request {
    /// Whether it need not be flushed to disk, and comes first.
    pub(crate) fn is_quick(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::Heartbeat { .. })
    }

    /// The outcome that it reports, if it reports one.
    pub(crate) fn outcome(&self) -> Option<(AttemptToken, &Outcome)> {
        let Self::Complete { completion, .. } = self else { return None };
        Some((completion.token, &completion.outcome))
    }

    /// The attempt whose reports it brings, and those.
    pub(crate) fn reported(&self) -> Option<(AttemptToken, Option<&Batch>)> {
        match self {
            Self::Report { token, batch, .. } => Some((*token, Some(batch))),
            Self::Complete { completion, .. } => Some((completion.token, completion.batch.as_ref())),
            Self::Claim(_) | Self::Heartbeat { .. } | Self::Leave { .. } | Self::Reap { .. } => None,
        }
    }

    /// Answers it by an error.
    pub(crate) fn refuse(self, error: StoreError) {
        match self {
            Self::Claim(pending) => pending.reply.send_answer(Err(error)),
            Self::Heartbeat { reply, .. } => reply.send_answer(Err(error)),
            Self::Report { reply, .. } | Self::Complete { reply, .. } | Self::Leave { reply, .. } => {
                reply.send_answer(Err(error));
            }
            Self::Reap { reply, .. } => reply.send_answer(Err(error)),
        }
    }
}
