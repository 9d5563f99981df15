//! What the port answers to what is no gRPC.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

/// The paths that need no token.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Whether a path needs no token.
pub(super) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

/// What there is.
pub(super) fn routes(stopping: watch::Receiver<bool>) -> Router {
    Router::new().route(OPEN[0], get(healthy)).route(OPEN[1], get(ready)).with_state(stopping)
}

/// The process runs and answers.
async fn healthy() -> &'static str {
    "ok\n"
}

/// It has its database and takes requests: it listens only once it has, and ends when it loses it.
async fn ready(State(stopping): State<watch::Receiver<bool>>) -> impl IntoResponse {
    if *stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    (StatusCode::OK, "ready\n")
}

/// The answer to every other path without a token, known or not.
pub(super) fn unauthorized() -> Response {
    let answer = (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "a token is needed\n");
    answer.into_response()
}
