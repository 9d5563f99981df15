//! Refusals on the wire.

use sortie_core::job::Refused;
use sortie_proto::{WireError, v1};
use tonic::Status;

use crate::store::StoreError;

pub(super) fn check_version(version: Option<&v1::Version>) -> Result<(), Status> {
    v1::Version::check(version).map_err(|error| Status::failed_precondition(error.to_string()))
}

pub(super) fn invalid(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// What a store's refusal is on the wire. Only what a person should look at is logged here; the rest is the caller's to handle.
pub(super) fn refused(error: StoreError) -> Status {
    match &error {
        StoreError::Refused(Refused::Stale(_)) | StoreError::UnknownToken(_) => {
            Status::aborted(error.to_string())
        }
        StoreError::Refused(Refused::NotQueued(_))
        | StoreError::OptimisticLock { .. }
        | StoreError::Corrupt { .. } => {
            tracing::error!(%error, "internal error");
            Status::internal(error.to_string())
        }
        StoreError::Spec(_)
        | StoreError::Gap { .. }
        | StoreError::Foreign { .. }
        | StoreError::Filter(_)
        | StoreError::Query(_)
        | StoreError::Trial { .. } => Status::invalid_argument(error.to_string()),
        StoreError::Cancelled(_)
        | StoreError::Archived(_)
        | StoreError::NameTaken(_)
        | StoreError::TrialsRun { .. }
        | StoreError::Reused { .. }
        | StoreError::Incomplete { .. }
        | StoreError::Verification(_) => Status::failed_precondition(error.to_string()),
        StoreError::SlowQuery { .. } => Status::deadline_exceeded(error.to_string()),
        StoreError::QueriesRunning => Status::resource_exhausted(error.to_string()),
        StoreError::UnknownSweep { .. }
        | StoreError::UnknownMachine { .. }
        | StoreError::UnknownWorker(_) => Status::not_found(error.to_string()),
        StoreError::Database(_) | StoreError::NoAnswer(_) | StoreError::Open { .. } => {
            tracing::error!(%error, "the database failed");
            // The caller may try again: nothing was stored.
            Status::unavailable(error.to_string())
        }
        StoreError::Stopping => Status::unavailable(error.to_string()),
    }
}
