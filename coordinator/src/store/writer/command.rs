//! What has a transaction of its own: what users do, and the writer's work in the background.

use sortie_core::access::Role;
use sortie_core::keys::{SweepKey, TrialKey};
use sortie_core::spec::SweepSpec;
use tokio::sync::watch;

use super::access_commands::{AddToken, KnowTokens, NoteDeed, RevokeToken, RotateToken};
use super::change::{Change, Commit, Time};
use crate::store::access::Deed;
use crate::store::admin::{self, Chunk, PinDone, PinRequest, TrialsDone, TrialsRequest};
use crate::store::backend::{Changes, Release, Transaction};
use crate::store::request::Reply;
use crate::store::types::{SubmitOptions, Submitted, SweepAction, TrialEvent, Worker};
use crate::store::{Limits, StoreError};

/// Trials that one transaction adds to a sweep.
const EXPAND_TRIALS: u64 = 500;

/// A request that has a transaction of its own, and the reply that its caller waits for.
#[derive(Debug)]
pub(crate) enum Command {
    Register(Register, Reply<()>),
    /// Answered when the sweep is stored; its trials follow.
    Submit(Submit, Reply<watch::Receiver<Submitted>>),
    Act(Act, Reply<()>),
    /// Answered when nobody finds the sweep any more; its rows are removed later.
    Delete(Delete, Reply<()>),
    /// Changes the trials of one page.
    ActOnTrials(TrialsRequest, Reply<TrialsDone>),
    Note(Note, Reply<()>),
    /// Answered by the number of quarantines that it ended.
    Release(Release, Reply<u64>),
    Pin(PinRequest, Reply<PinDone>),
    /// Answered by the number of leases.
    Grace(Grace, Reply<u64>),
    AddToken(AddToken, Reply<()>),
    /// Answered by the number of those that were new.
    KnowTokens(KnowTokens, Reply<u64>),
    /// Answered by the number of tokens that it ended.
    RevokeToken(RevokeToken, Reply<u64>),
    /// Answered by the role of the new token.
    RotateToken(RotateToken, Reply<Role>),
    NoteDeed(NoteDeed, Reply<()>),
}

/// Stores a worker, or notes that it is there again.
#[derive(Debug)]
pub(crate) struct Register(pub(crate) Worker);

/// Stores a sweep.
#[derive(Debug)]
pub(crate) struct Submit {
    pub(crate) spec: Box<SweepSpec>,
    pub(crate) options: SubmitOptions,
    pub(crate) limits: Limits,
}

/// Changes a sweep.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) sweep: String,
    pub(crate) action: SweepAction,
}

/// Deletes a sweep, or only looks whether it may be deleted.
#[derive(Debug)]
pub(crate) struct Delete {
    pub(crate) sweep: String,
    pub(crate) only_ask: bool,
}

/// Notes something about a trial, at the time of the transaction.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) trial: TrialKey,
    pub(crate) event: TrialEvent,
}

/// Gives every lease the time of one lease from now.
#[derive(Debug)]
pub(crate) struct Grace;

/// Adds some trials to a sweep whose grid is not stored completely.
#[derive(Debug)]
pub(super) struct Expand;

/// Looks which combinations need not wait for their members any more; gives how many.
#[derive(Debug)]
pub(super) struct Settle;

/// Removes some trials of a sweep that is deleted; gives which sweep.
#[derive(Debug)]
pub(super) struct Remove {
    /// At most so many.
    pub(super) trials_max: u64,
}

#[tonic::async_trait]
impl Change for Register {
    type Done = ();

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<(), StoreError> {
        tx.register(&self.0, time.now).await
    }

    fn commit((): &()) -> Commit {
        Commit::Quiet
    }
}

#[tonic::async_trait]
impl Change for Submit {
    /// The sweep's id, and how far it is.
    type Done = (SweepKey, Submitted);

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<Self::Done, StoreError> {
        admin::store_sweep(&self.spec, self.options, self.limits, time.now, tx).await
    }

    fn deed(&self) -> Option<Deed> {
        Some(self.told())
    }
}

#[tonic::async_trait]
impl Change for Act {
    type Done = ();

    async fn perform(&self, _: Time, tx: &mut dyn Transaction) -> Result<(), StoreError> {
        admin::act(&self.sweep, &self.action, tx).await
    }

    fn deed(&self) -> Option<Deed> {
        Some(self.told())
    }
}

#[tonic::async_trait]
impl Change for Delete {
    /// Whether anything changed.
    type Done = bool;

    async fn perform(&self, _: Time, tx: &mut dyn Transaction) -> Result<bool, StoreError> {
        admin::delete(&self.sweep, self.only_ask, tx).await?;
        Ok(!self.only_ask)
    }

    fn commit(changed: &bool) -> Commit {
        if *changed { Commit::Quiet } else { Commit::Nothing }
    }

    fn deed(&self) -> Option<Deed> {
        Some(self.told())
    }
}

#[tonic::async_trait]
impl Change for TrialsRequest {
    type Done = TrialsDone;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<TrialsDone, StoreError> {
        admin::act_on_trials(self, time.now, time.lease, tx).await
    }

    fn deed(&self) -> Option<Deed> {
        self.told()
    }
}

#[tonic::async_trait]
impl Change for Note {
    type Done = ();

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<(), StoreError> {
        let event = TrialEvent { at_ms: time.now.0, ..self.event.clone() };
        tx.write(&Changes { events: vec![(self.trial, event)], ..Changes::default() }).await
    }
}

#[tonic::async_trait]
impl Change for Release {
    type Done = u64;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<u64, StoreError> {
        tx.release(self, time.now).await
    }

    fn commit(count: &u64) -> Commit {
        if *count > 0 { Commit::Announced } else { Commit::Nothing }
    }

    fn deed(&self) -> Option<Deed> {
        Some(self.told())
    }
}

#[tonic::async_trait]
impl Change for PinRequest {
    type Done = PinDone;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<PinDone, StoreError> {
        admin::pin(self, time.now, tx).await
    }

    fn deed(&self) -> Option<Deed> {
        Some(self.told())
    }
}

#[tonic::async_trait]
impl Change for Grace {
    type Done = u64;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<u64, StoreError> {
        tx.renew_leases(time.now, time.lease).await
    }

    fn commit(_: &u64) -> Commit {
        Commit::Quiet
    }
}

#[tonic::async_trait]
impl Change for Expand {
    type Done = Option<Chunk>;

    async fn perform(&self, _: Time, tx: &mut dyn Transaction) -> Result<Option<Chunk>, StoreError> {
        admin::expand(EXPAND_TRIALS, tx).await
    }

    fn commit(chunk: &Option<Chunk>) -> Commit {
        if chunk.is_some() { Commit::Announced } else { Commit::Nothing }
    }
}

#[tonic::async_trait]
impl Change for Settle {
    type Done = u64;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<u64, StoreError> {
        admin::settle(time.now, time.lease, tx).await
    }

    fn commit(count: &u64) -> Commit {
        if *count > 0 { Commit::Announced } else { Commit::Nothing }
    }
}

#[tonic::async_trait]
impl Change for Remove {
    type Done = Option<SweepKey>;

    async fn perform(&self, _: Time, tx: &mut dyn Transaction) -> Result<Option<SweepKey>, StoreError> {
        admin::remove(self.trials_max, tx).await
    }

    fn commit(sweep: &Option<SweepKey>) -> Commit {
        if sweep.is_some() { Commit::Quiet } else { Commit::Nothing }
    }
}
