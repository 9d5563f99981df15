//! Refusals on the wire.

use sortie_core::job::Refused;
use sortie_core::keys::{AttemptToken, Incarnation};
use sortie_proto::{WireError, v1};
use tonic::Status;

use crate::store::StoreError;

/// Bytes of a name that a worker or user sends: lists show them, and every coordinator keeps them.
pub(super) const NAME_BYTES_MAX: usize = 200;
/// Bytes of a refusal. It travels in a header, which clients limit to 16 KiB, and each byte may take three there.
const MESSAGE_BYTES_MAX: usize = 4_096;

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
    check_length("worker_id", worker, NAME_BYTES_MAX)?;
    if Incarnation(incarnation) == ours {
        return Ok(());
    }
    Err(Status::not_found(format!(
        "worker {worker:?} registered before this database was restored from a backup, or under another one"
    )))
}

/// Refuses a text of a request that is longer than any honest one.
pub(super) fn check_length(field: &'static str, text: &str, bytes_max: usize) -> Result<(), Status> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "field {field}: {} bytes; allowed: at most {bytes_max}",
        text.len()
    )))
}

pub(super) fn invalid(error: WireError) -> Status {
    Status::invalid_argument(short(error.to_string()))
}

/// What a store's refusal is on the wire. Only what a person should look at is logged here; the rest is the caller's to handle.
pub(super) fn refused(error: StoreError) -> Status {
    let status = status(error);
    Status::new(status.code(), short(status.message().to_owned()))
}

/// A refusal may quote what was sent: no answer is longer than this.
fn short(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push_str("...");
    }
    message
}

fn status(error: StoreError) -> Status {
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
        | StoreError::TooMuch { .. }
        | StoreError::Filter(_)
        | StoreError::Query(_)
        | StoreError::Input { .. }
        | StoreError::Digest { .. }
        | StoreError::Trial { .. } => Status::invalid_argument(error.to_string()),
        StoreError::Cancelled(_)
        | StoreError::Archived(_)
        | StoreError::NameTaken(_)
        | StoreError::TrialsRun { .. }
        | StoreError::Reused { .. }
        | StoreError::Incomplete { .. }
        | StoreError::Token(_)
        | StoreError::Full { .. }
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
