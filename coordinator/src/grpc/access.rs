//! Requests about who may use the coordinator, and who did what.

use std::sync::Arc;
use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::Caller;
use sortie_proto::{WireError, v1};
use tonic::{Request, Response, Status};

use super::coordinator::Coordinator;
use super::refusal::{invalid, refused};
use crate::store::{AuditEntry, NewToken};

/// Entries of one answer.
const AUDIT_MAX: u32 = 1_000;
/// The longest time that a token may last, or overlap with its successor: ten years. Far beyond it, times would not fit their type.
const LASTS_MAX: Duration = Duration::from_secs(3_660 * 86_400);

pub(super) struct AccessApi(pub(super) Arc<Coordinator>);

impl AccessApi {
    /// A change of tokens counts here at once; other coordinators read it soon.
    async fn reload(&self) -> Result<(), Status> {
        self.0.callers.read(&self.0.store).await.map_err(refused)
    }
}

#[tonic::async_trait]
impl v1::access_service_server::AccessService for AccessApi {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        refuse_anybody(&request)?;
        let store = self.0.store_for(&request);
        let v1::CreateTokenRequest { digest, name, role, lasts_ms } = request.into_inner();
        let role = role.parse().map_err(|error| invalid(wrong("role", &error)))?;
        let lasts = lasts_ms.map(|lasts| duration("lasts_ms", lasts)).transpose()?;
        let token = NewToken { digest: read_digest(&digest)?, name, role, lasts };
        store.add_token(token.clone()).await.map_err(refused)?;
        tracing::info!(name = %token.name, %role, "a user created a token");
        self.reload().await?;
        Ok(Response::new(v1::CreateTokenResponse {}))
    }

    async fn tokens(&self, _: Request<v1::TokensRequest>) -> Result<Response<v1::TokensResponse>, Status> {
        let (tokens, now) = self.0.store.tokens().await.map_err(refused)?;
        let tokens = tokens.into_iter().map(|token| v1::Token {
            state: token.state(now).to_string(),
            role: token.role.to_string(),
            name: token.name,
            created_ms: token.created.0,
            expires_ms: token.expires.map(|time| time.0),
            revoked_ms: token.revoked.map(|time| time.0),
        });
        Ok(Response::new(v1::TokensResponse { tokens: tokens.collect(), now_ms: now.0 }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        refuse_anybody(&request)?;
        let store = self.0.store_for(&request);
        let name = request.into_inner().name;
        let tokens = store.revoke_token(&name).await.map_err(refused)?;
        tracing::info!(%name, tokens, "a user revoked a token");
        self.reload().await?;
        Ok(Response::new(v1::RevokeTokenResponse { tokens }))
    }

    async fn rotate_token(
        &self,
        request: Request<v1::RotateTokenRequest>,
    ) -> Result<Response<v1::RotateTokenResponse>, Status> {
        refuse_anybody(&request)?;
        let store = self.0.store_for(&request);
        let v1::RotateTokenRequest { name, digest, overlap_ms } = request.into_inner();
        let overlap = duration("overlap_ms", overlap_ms)?;
        let role = store.rotate_token(&name, read_digest(&digest)?, overlap).await.map_err(refused)?;
        tracing::info!(%name, overlap_seconds = overlap.as_secs(), "a user rotated a token");
        self.reload().await?;
        Ok(Response::new(v1::RotateTokenResponse { role: role.to_string() }))
    }

    async fn audit(&self, request: Request<v1::AuditRequest>) -> Result<Response<v1::AuditResponse>, Status> {
        let v1::AuditRequest { before, count_max } = request.into_inner();
        let count_max = u64::from(count_max.clamp(1, AUDIT_MAX));
        let entries = self.0.store.audit(before, count_max).await.map_err(refused)?;
        Ok(Response::new(v1::AuditResponse { entries: entries.into_iter().map(entry).collect() }))
    }
}

/// What is stored here would count at every later coordinator of the database.
fn refuse_anybody<T>(request: &Request<T>) -> Result<(), Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Holder { .. }) => Ok(()),
        Some(Caller::Anybody) | None => Err(Status::failed_precondition(
            "a coordinator that is --insecure asks for no tokens and makes none",
        )),
    }
}

fn entry(entry: AuditEntry) -> v1::AuditEntry {
    let AuditEntry { number, at, caller, action, sweep, detail } = entry;
    let (name, role) = match caller {
        Caller::Anybody => (String::new(), String::new()),
        Caller::Holder { name, role } => (name, role.to_string()),
    };
    v1::AuditEntry { number, at_ms: at.0, name, role, action, sweep: sweep.unwrap_or_default(), detail }
}

fn read_digest(text: &str) -> Result<TokenDigest, Status> {
    text.parse().map_err(|error: &str| invalid(wrong("digest", &error)))
}

fn duration(field: &'static str, milliseconds: u64) -> Result<Duration, Status> {
    let duration = Duration::from_millis(milliseconds);
    let too_long = || wrong(field, &format!("{milliseconds}; must be at most {}", LASTS_MAX.as_millis()));
    if duration <= LASTS_MAX { Ok(duration) } else { Err(invalid(too_long())) }
}

fn wrong(field: &'static str, reason: &dyn std::fmt::Display) -> WireError {
    WireError::Value { field, reason: reason.to_string() }
}
