//! What the port answers to what is no gRPC.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

/// The paths that need no token. Every other one is answered alike, known or not.
pub(super) fn routes(stopping: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .fallback(unauthorized)
        .with_state(stopping)
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

async fn unauthorized() -> impl IntoResponse {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "a token is needed\n")
}
