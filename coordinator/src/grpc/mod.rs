//! The two services, thin: wire to core, one call into the store, core to wire.

mod sweep;
mod wire;
mod worker;

use std::sync::Arc;

use sortie_core::job::Refused;
use sortie_proto::{WireError, v1};
use tokio::sync::watch;
use tonic::Status;

use crate::store::{Store, StoreError};

/// What this process calls itself in handshakes.
const SOFTWARE: &str = "sortie coordinator";

/// What both services share.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) store: Arc<Store>,
    /// Where workers put what trials leave; none if nothing is kept there.
    pub(crate) artifacts: Option<Offer>,
    /// True once the server is asked to stop: waiting requests then end at once.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// The artifact store as workers learn of it.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) url: String,
    pub(crate) mark: String,
}

/// The two services as tonic serves them.
pub(crate) fn routes(coordinator: &Arc<Coordinator>) -> tonic::service::Routes {
    let limit = sortie_proto::MESSAGE_BYTES_MAX;
    let worker =
        v1::worker_service_server::WorkerServiceServer::new(worker::WorkerApi(Arc::clone(coordinator)));
    let sweep = v1::sweep_service_server::SweepServiceServer::new(sweep::SweepApi(Arc::clone(coordinator)));
    tonic::service::Routes::new(worker.max_decoding_message_size(limit))
        .add_service(sweep.max_decoding_message_size(limit))
}

fn check_version(version: Option<&v1::Version>) -> Result<(), Status> {
    v1::Version::check(version).map_err(|error| Status::failed_precondition(error.to_string()))
}

fn invalid(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// What a store's refusal is on the wire. Only what a person should look at is logged here; the rest is the caller's to handle.
fn refused(error: StoreError) -> Status {
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
        | StoreError::Url { .. }
        | StoreError::Filter(_)
        | StoreError::Query(_)
        | StoreError::Trial { .. } => Status::invalid_argument(error.to_string()),
        StoreError::Cancelled(_) | StoreError::Incomplete { .. } | StoreError::Verification(_) => {
            Status::failed_precondition(error.to_string())
        }
        StoreError::SlowQuery { .. } => Status::deadline_exceeded(error.to_string()),
        StoreError::QueriesRunning => Status::resource_exhausted(error.to_string()),
        StoreError::UnknownSweep { .. } | StoreError::UnknownWorker(_) => {
            Status::not_found(error.to_string())
        }
        StoreError::Database(_) | StoreError::Open { .. } => {
            tracing::error!(%error, "the database failed");
            // The caller may try again: nothing was stored.
            Status::unavailable(error.to_string())
        }
        StoreError::Stopping => Status::unavailable(error.to_string()),
    }
}
