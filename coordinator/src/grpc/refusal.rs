//! Refusals on the wire.

use sortie_core::job::Refused;
use sortie_core::keys::{AttemptToken, Incarnation};
use sortie_proto::{WireError, v1};
use tonic::Status;

use crate::store::StoreError;

pub(super) fn check_version(version: Option<&v1::Version>) -> Result<(), Status> {
    v1::Version::check(version).map_err(|error| Status::failed_precondition(error.to_string()))
}

/// Refuses reports of an attempt that began under another incarnation of the database, as those of any stale attempt.
pub(super) fn check_attempt(token: i64, incarnation: i64, ours: Incarnation) -> Result<AttemptToken, Status> {
    if Incarnation(incarnation) == ours {
        return Ok(AttemptToken(token));
    }
    Err(Status::aborted(format!(
        "attempt {token} began before this database was restored from a backup, or under another one"
    )))
}

/// Refuses a worker that registered under another incarnation of the database: it registers again.
pub(super) fn check_worker(worker: &str, incarnation: i64, ours: Incarnation) -> Result<(), Status> {
    if Incarnation(incarnation) == ours {
        return Ok(());
    }
    Err(Status::not_found(format!(
        "worker {worker:?} registered before this database was restored from a backup, or under another one"
    )))
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
        | StoreError::Token(_)
        | StoreError::Verification(_) => Status::failed_precondition(error.to_string()),
        StoreError::OtherWorker(_) | StoreError::NotYours(_) => {
            tracing::warn!(%error, "a worker is refused");
            Status::permission_denied(error.to_string())
        }
        StoreError::SlowQuery { .. } => Status::deadline_exceeded(error.to_string()),
        StoreError::QueriesRunning | StoreError::BackupRunning => {
            Status::resource_exhausted(error.to_string())
        }
        StoreError::UnknownSweep { .. }
        | StoreError::UnknownMachine { .. }
        | StoreError::UnknownAccessToken { .. }
        | StoreError::UnknownWorker(_) => Status::not_found(error.to_string()),
        StoreError::Database(_) | StoreError::NoAnswer(_) | StoreError::Open { .. } => {
            tracing::error!(%error, "the database failed");
            // The caller may try again: nothing was stored.
            Status::unavailable(error.to_string())
        }
        // The server ends, and says why.
        StoreError::Lost(_) | StoreError::Stopping => Status::unavailable(error.to_string()),
    }
}
