//! What fuzz targets need of this crate: all requests, as they come from the network, on a store in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use sortie_core::job::Timestamp;
use tokio::sync::watch;
use tonic::codegen::http::{HeaderMap, Request};
use tonic::codegen::{Body as _, Service as _};
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::clock::MonotonicClock;
use crate::grpc::{Coordinator, routes};
use crate::store::{Memory, Settings, Store, StoreError};

/// The bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// An answer without end is a fault of ours, too.
const ANSWERS_MAX: usize = 10_000;

/// A coordinator on an empty store in memory, without a network.
pub struct Model {
    routes: Routes,
    _stop: watch::Sender<bool>,
}

impl Model {
    /// A new one. Call it in a runtime whose time is paused: long polls then end at once.
    ///
    /// # Errors
    /// None in practice.
    pub async fn new() -> Result<Self, StoreError> {
        let settings = Settings::new(Duration::from_secs(10));
        let clock = Arc::new(MonotonicClock::start(Timestamp(0)));
        let store = Arc::new(Store::in_memory(&Memory::default(), settings, clock).await?);
        let (stop, stopping) = watch::channel(false);
        let coordinator = Arc::new(Coordinator { store, artifacts: None, callers: Arc::default(), stopping });
        Ok(Self { routes: routes(&coordinator), _stop: stop })
    }

    /// Makes a call by its path, such as `/sortie.v1.SweepService/Status`. Gives the status, and the messages of the answer.
    pub async fn call(&mut self, path: &str, message: &[u8]) -> (Status, Vec<Vec<u8>>) {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        let body = [&[0], &length[..], message].concat();
        let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
        let Ok(request) = request.body(Body::from(body)) else {
            return (Status::new(Code::Unimplemented, "no path"), Vec::new());
        };
        let answer = match self.routes.call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let mut status = status_of(answer.headers());
        let mut body = std::pin::pin!(answer.into_body());
        let mut bytes = Vec::new();
        for _ in 0..ANSWERS_MAX {
            let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
            let Some(Ok(frame)) = frame else { break };
            match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => status = frame.trailers_ref().and_then(status_of).or(status),
            }
        }
        (
            status.unwrap_or_else(|| Status::new(Code::Internal, "an answer without a status")),
            messages(&bytes),
        )
    }
}

fn status_of(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

/// The messages of an answer's body.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let Some((message, rest)) = rest.split_at_checked(length) else { break };
        messages.push(message.to_vec());
        bytes = rest;
    }
    messages
}
