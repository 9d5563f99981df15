//! Commands about who may use the coordinator, and what the audit says of users' commands.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::Role;

use super::command::{Act, Change, Commit, Delete, Submit, Time};
use crate::store::StoreError;
use crate::store::access::{Deed, NewToken};
use crate::store::admin::{self, PinRequest, TrialsRequest, WhichTrials};
use crate::store::backend::{Release, Transaction};
use crate::store::types::{SweepAction, TrialAction};

/// Stores a token.
#[derive(Debug)]
pub(crate) struct AddToken(pub(crate) NewToken);

/// Stores a coordinator's own tokens, as far as they were never stored.
#[derive(Debug)]
pub(crate) struct KnowTokens(pub(crate) Vec<NewToken>);

/// Ends the tokens of a name.
#[derive(Debug)]
pub(crate) struct RevokeToken {
    pub(crate) name: String,
}

/// Stores a token in the place of those of a name, which end after a while.
#[derive(Debug)]
pub(crate) struct RotateToken {
    pub(crate) name: String,
    pub(crate) digest: TokenDigest,
    pub(crate) overlap: Duration,
}

/// Notes what a user does that changes nothing.
#[derive(Debug)]
pub(crate) struct NoteDeed(pub(crate) Deed);

#[tonic::async_trait]
impl Change for AddToken {
    type Done = ();

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<(), StoreError> {
        admin::add_token(&self.0, time.now, tx).await
    }

    fn commit((): &()) -> Commit {
        Commit::Quiet
    }

    fn deed(&self) -> Option<Deed> {
        let NewToken { name, role, .. } = &self.0;
        Some(deed("create-token", None, format!("{name}, {role}")))
    }
}

#[tonic::async_trait]
impl Change for KnowTokens {
    type Done = u64;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<u64, StoreError> {
        admin::know_tokens(&self.0, time.now, tx).await
    }

    fn commit(added: &u64) -> Commit {
        if *added > 0 { Commit::Quiet } else { Commit::Nothing }
    }
}

#[tonic::async_trait]
impl Change for RevokeToken {
    type Done = u64;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<u64, StoreError> {
        admin::revoke_token(&self.name, time.now, tx).await
    }

    fn commit(_: &u64) -> Commit {
        Commit::Quiet
    }

    fn deed(&self) -> Option<Deed> {
        Some(deed("revoke-token", None, self.name.clone()))
    }
}

#[tonic::async_trait]
impl Change for RotateToken {
    type Done = Role;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<Role, StoreError> {
        admin::rotate_token(&self.name, &self.digest, self.overlap, time.now, tx).await
    }

    fn commit(_: &Role) -> Commit {
        Commit::Quiet
    }

    fn deed(&self) -> Option<Deed> {
        Some(deed("rotate-token", None, self.name.clone()))
    }
}

#[tonic::async_trait]
impl Change for NoteDeed {
    type Done = ();

    async fn perform(&self, _: Time, _: &mut dyn Transaction) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit((): &()) -> Commit {
        Commit::Quiet
    }

    fn deed(&self) -> Option<Deed> {
        Some(self.0.clone())
    }
}

fn deed(action: &'static str, sweep: Option<&str>, detail: String) -> Deed {
    Deed { action, sweep: sweep.map(str::to_owned), detail }
}

impl Submit {
    pub(super) fn told(&self) -> Deed {
        let (trials, combinations) = self.spec.sizes();
        let detail = format!("{trials} trials, {combinations} combinations");
        deed("submit", Some(&self.spec.name), detail)
    }
}

impl Act {
    pub(super) fn told(&self) -> Deed {
        let (action, detail) = match &self.action {
            SweepAction::Pause => ("pause", String::new()),
            SweepAction::Resume => ("resume", String::new()),
            SweepAction::Priority(priority) => ("priority", priority.to_string()),
            SweepAction::Rename(new) => ("rename", format!("to {new}")),
            SweepAction::Archive => ("archive", String::new()),
            SweepAction::Unarchive => ("unarchive", String::new()),
        };
        deed(action, Some(&self.sweep), detail)
    }
}

impl Delete {
    pub(super) fn told(&self) -> Deed {
        deed("delete", Some(&self.sweep), String::new())
    }
}

impl TrialsRequest {
    /// Of the first page only: an action of many pages is one deed.
    pub(super) fn told(&self) -> Option<Deed> {
        let action = match self.action {
            TrialAction::Cancel => "cancel",
            TrialAction::Retry => "retry",
            TrialAction::Resume => "resume",
        };
        let detail = match &self.which {
            WhichTrials::Page { from: 1.., .. } => return None,
            WhichTrials::Page { filter, state, .. } => {
                let state = state.map(|state| format!("trials that are {state}"));
                let filter = Some(filter.to_string()).filter(|text| !text.is_empty());
                state.into_iter().chain(filter).collect::<Vec<_>>().join(", ")
            }
            WhichTrials::Named(trials) => format!("{} trials by name", trials.len()),
        };
        Some(deed(action, Some(&self.sweep), detail))
    }
}

impl Release {
    pub(super) fn told(&self) -> Deed {
        let whose = match self {
            Self::Machine(machine) => format!("machine {machine}"),
            Self::Kind(kind) => kind.to_string(),
        };
        deed("release", None, whose)
    }
}

impl PinRequest {
    pub(super) fn told(&self) -> Deed {
        let Self { input, digest } = self;
        match digest {
            Some(digest) => deed("pin", None, format!("{input} {digest}")),
            None => deed("unpin", None, input.to_string()),
        }
    }
}
