//! What users say about digests of datasets and weights.

use sortie_core::inputs::InputKind;
use sortie_proto::v1;
use tonic::Status;

use super::coordinator::Coordinator;
use super::refusal::refused;
use crate::store::{Pinned, Unpinned};

/// Makes a digest the one that counts.
pub(super) async fn pin(
    coordinator: &Coordinator,
    request: v1::PinRequest,
) -> Result<v1::PinResponse, Status> {
    let v1::PinRequest { name, kind, digest } = request;
    let Pinned { input, digest, machines, results } =
        coordinator.store.pin(&name, read_kind(&kind)?, &digest).await.map_err(refused)?;
    tracing::info!(%input, %digest, machines = %machines.join(", "), results, "a user pinned a digest");
    Ok(v1::PinResponse { kind: input.kind.to_string(), digest, machines, trials: results })
}

/// Forgets digests.
pub(super) async fn unpin(
    coordinator: &Coordinator,
    request: v1::UnpinRequest,
) -> Result<v1::UnpinResponse, Status> {
    let v1::UnpinRequest { name, kind } = request;
    let Unpinned { input, digests } =
        coordinator.store.unpin(&name, read_kind(&kind)?).await.map_err(refused)?;
    tracing::info!(%input, digests = %digests.join(", "), "a user forgot digests");
    Ok(v1::UnpinResponse { kind: input.kind.to_string(), digests })
}

fn read_kind(kind: &str) -> Result<Option<InputKind>, Status> {
    let kind = Some(kind).filter(|kind| !kind.is_empty()).map(str::parse::<InputKind>).transpose();
    kind.map_err(|error| Status::invalid_argument(error.to_string()))
}
