//! A change that has a transaction of its own.

use std::time::Duration;

use sortie_core::job::Timestamp;

use crate::store::StoreError;
use crate::store::access::Deed;
use crate::store::backend::Transaction;

/// The time of a transaction, and how long a lease lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) now: Timestamp,
    pub(super) lease: Duration,
}

/// A change that has a transaction of its own.
#[tonic::async_trait]
pub(super) trait Change: Sync {
    /// What it gives.
    type Done: Send;

    /// Reads, decides and writes; the caller commits.
    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<Self::Done, StoreError>;

    /// How it is committed.
    fn commit(_: &Self::Done) -> Commit {
        Commit::Announced
    }

    /// What the audit says of it, if a user makes it and it changes something.
    fn deed(&self) -> Option<Deed> {
        None
    }
}

/// How a change is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    /// Nothing changed: not at all.
    Nothing,
    /// No trial became free by it.
    Quiet,
    /// Other coordinators learn of it.
    Announced,
}
