//! What has a transaction of its own: what users do, and the writer's work in the background.

use std::time::Duration;

use sortie_core::job::Timestamp;
use sortie_core::spec::SweepSpec;
use tokio::sync::watch;

use crate::store::StoreError;
use crate::store::admin::{self, Chunk, TrialsDone, TrialsRequest};
use crate::store::backend::{Changes, Transaction};
use crate::store::types::{SubmitOptions, Submitted, SweepAction, TrialEvent, Worker};

/// Trials that one transaction adds to a sweep.
const EXPAND_TRIALS: u64 = 500;

/// A change that has a transaction of its own.
#[derive(Debug)]
pub(crate) enum Command {
    Register(Worker),
    /// Stores a sweep; its trials follow.
    Submit(Box<SweepSpec>, SubmitOptions),
    Act(String, SweepAction),
    /// Changes the trials of one page.
    ActOnTrials(TrialsRequest),
    /// Notes something about a trial.
    Note(i64, TrialEvent),
    /// Gives every lease the time of one lease from now.
    Grace,
    /// Adds some trials to a sweep whose grid is not stored completely.
    Expand,
    /// Looks which combinations need not wait for their members any more.
    Settle,
}

/// What a command did.
#[derive(Debug)]
pub(crate) enum CommandResult {
    Nothing,
    Stored(i64, Submitted),
    /// A stored sweep's trials are being added.
    Submitted(watch::Receiver<Submitted>),
    Trials(TrialsDone),
    Leases(u64),
    Expanded(Option<Chunk>),
    /// How many combinations.
    Settled(u64),
}

impl Command {
    /// Reads, decides and writes; the caller commits.
    pub(super) async fn perform(
        &self,
        now: Timestamp,
        lease: Duration,
        tx: &mut dyn Transaction,
    ) -> Result<CommandResult, StoreError> {
        Ok(match self {
            Self::Register(worker) => {
                tx.register(worker, now).await?;
                CommandResult::Nothing
            }
            Self::Submit(spec, options) => {
                let (id, submitted) = admin::store_sweep(spec, *options, now, tx).await?;
                CommandResult::Stored(id, submitted)
            }
            Self::Act(sweep, action) => {
                admin::act(sweep, *action, tx).await?;
                CommandResult::Nothing
            }
            Self::ActOnTrials(request) => {
                CommandResult::Trials(admin::act_on_trials(request, now, lease, tx).await?)
            }
            Self::Note(trial, event) => {
                let event = TrialEvent { at_ms: now.0, ..event.clone() };
                tx.write(&Changes { events: vec![(*trial, event)], ..Changes::default() }).await?;
                CommandResult::Nothing
            }
            Self::Grace => CommandResult::Leases(tx.extend_leases(now.plus(lease)).await?),
            Self::Expand => CommandResult::Expanded(admin::expand(EXPAND_TRIALS, tx).await?),
            Self::Settle => CommandResult::Settled(admin::settle(now, lease, tx).await?),
        })
    }
}
