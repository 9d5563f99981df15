//! Requests of workers, which share transactions, and their replies.

use sortie_core::job::{Outcome, Token};
use tokio::time::Instant;

use super::StoreError;
use super::types::{Batch, Claim, Claimed, Completion};

/// A request. All of them can share a transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    Claim(Claim),
    Heartbeat {
        worker: String,
        attempts: Vec<(Token, u64)>,
    },
    Report {
        token: Token,
        batch: Batch,
    },
    Complete(Completion),
    Leave(String),
    /// Not if its turn comes later than this.
    Reap(Option<Instant>),
}

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Claimed(Claimed),
    /// Tokens that no longer hold their trial.
    Lost(Vec<Token>),
    /// How many leases were ended.
    Reaped(u64),
    /// Its turn came too late.
    Late,
    Done,
}

pub(crate) type Answer = Result<Reply, StoreError>;

/// Which outcome an operation reports, if it reports one.
pub(crate) fn outcome_of(op: &Op) -> Option<(Token, &Outcome)> {
    if let Op::Complete(completion) = op { Some((completion.token, &completion.outcome)) } else { None }
}
