//! The services as tonic serves them.

use std::sync::Arc;

use sortie_proto::v1;

use super::coordinator::Coordinator;
use super::{access, sweep, worker};

/// The services as tonic serves them.
pub(crate) fn routes(coordinator: &Arc<Coordinator>) -> tonic::service::Routes {
    let limit = sortie_proto::MESSAGE_BYTES_MAX;
    let worker =
        v1::worker_service_server::WorkerServiceServer::new(worker::WorkerApi(Arc::clone(coordinator)));
    let sweep = v1::sweep_service_server::SweepServiceServer::new(sweep::SweepApi(Arc::clone(coordinator)));
    tonic::service::Routes::new(worker.max_decoding_message_size(limit))
        .add_service(sweep.max_decoding_message_size(limit))
        .add_service(v1::access_service_server::AccessServiceServer::new(access::AccessApi(Arc::clone(
            coordinator,
        ))))
}
