//! What the audit says of users' commands.

use super::command::{Act, Delete, Submit};
use crate::store::access::Deed;
use crate::store::admin::{PinRequest, TrialsRequest, WhichTrials};
use crate::store::backend::Release;
use crate::store::types::{SweepAction, TrialAction};

impl Submit {
    pub(super) fn told(&self) -> Deed {
        let (trials, combinations) = self.spec.sizes();
        let detail = format!("{trials} trials, {combinations} combinations");
        Deed::new("submit", Some(&self.spec.name), detail)
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
        Deed::new(action, Some(&self.sweep), detail)
    }
}

impl Delete {
    pub(super) fn told(&self) -> Deed {
        Deed::new("delete", Some(&self.sweep), String::new())
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
        Some(Deed::new(action, Some(&self.sweep), detail))
    }
}

impl Release {
    pub(super) fn told(&self) -> Deed {
        let whose = match self {
            Self::Machine(machine) => format!("machine {machine}"),
            Self::Kind(kind) => kind.to_string(),
        };
        Deed::new("release", None, whose)
    }
}

impl PinRequest {
    pub(super) fn told(&self) -> Deed {
        let Self { input, digest } = self;
        match digest {
            Some(digest) => Deed::new("pin", None, format!("{input} {digest}")),
            None => Deed::new("unpin", None, input.to_string()),
        }
    }
}
