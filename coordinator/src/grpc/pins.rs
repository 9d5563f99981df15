//! What users say about digests of datasets and weights.

use sortie_core::inputs::InputKind;
use sortie_proto::v1;
use tonic::Status;

use super::refusal::refused;
use crate::store::{Pinned, Store, Unpinned};

/// Makes a digest the one that counts.
pub(super) async fn pin(store: &Store, request: v1::PinRequest) -> Result<v1::PinResponse, Status> {
    let v1::PinRequest { name, kind, digest } = request;
    let Pinned { input, digest, machines, results } =
        store.pin(&name, read_kind(&kind)?, &digest).await.map_err(refused)?;
    tracing::info!(%input, %digest, machines = %machines.join(", "), results, "a user pinned a digest");
    Ok(v1::PinResponse { kind: input.kind.to_string(), digest, machines, trials: results })
}

/// Forgets digests.
pub(super) async fn unpin(store: &Store, request: v1::UnpinRequest) -> Result<v1::UnpinResponse, Status> {
    let v1::UnpinRequest { name, kind } = request;
    let Unpinned { input, digests } = store.unpin(&name, read_kind(&kind)?).await.map_err(refused)?;
    tracing::info!(%input, digests = %digests.join(", "), "a user forgot digests");
    Ok(v1::UnpinResponse { kind: input.kind.to_string(), digests })
}

fn read_kind(kind: &str) -> Result<Option<InputKind>, Status> {
    let kind = Some(kind).filter(|kind| !kind.is_empty()).map(str::parse::<InputKind>).transpose();
    kind.map_err(|error| Status::invalid_argument(error.to_string()))
}
