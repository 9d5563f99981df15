//! What an attempt printed, sent in parts: an answer never holds a whole log.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use sortie_core::keys::AttemptToken;
use sortie_proto::v1;
use tonic::Status;

use super::coordinator::Coordinator;
use super::refusal::refused;
use crate::store::{LogPart, StoreError};

/// First whose output it is, then the output.
pub(super) async fn stream(
    coordinator: Arc<Coordinator>,
    request: v1::LogsRequest,
) -> Result<BoxStream<'static, Result<v1::LogsChunk, Status>>, Status> {
    let v1::LogsRequest { trial, token } = request;
    let log = coordinator.store.log(&trial, Some(AttemptToken(token)).filter(|token| token.0 != 0)).await;
    let log = log.map_err(|error| match error {
        // Here an attempt that is not there is a user's slip, not a stale worker.
        StoreError::UnknownToken(_) => Status::not_found(format!("trial {trial} has no such attempt")),
        other => refused(other),
    })?;
    let token = log.token.map_or(0, |token| token.0);
    let first = v1::LogsChunk { token, worker: log.worker.clone(), text: Vec::new() };
    let parts = stream::try_unfold((coordinator, log, 0), |(coordinator, log, after)| async move {
        let part = coordinator.store.log_part(&log, after).await?;
        Ok::<_, StoreError>(part.map(|LogPart { text, last }| {
            (v1::LogsChunk { text, ..v1::LogsChunk::default() }, (coordinator, log, last))
        }))
    });
    Ok(stream::once(async { Ok(first) }).chain(parts.map_err(refused)).boxed())
}
