//! Requests about who may use the coordinator, and who did what.

use std::time::Duration;

use sortie_access::{Link, TokenDigest};
use sortie_core::access::Role;
use sortie_proto::v1;
use sortie_proto::v1::access_service_client::AccessServiceClient;

use super::error::Answer;
use super::{Client, Connection};

/// A coordinator that answered the handshake.
pub struct AccessClient(AccessServiceClient<Link>);

impl AccessClient {
    /// Connects, and checks the version by the handshake.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(connection: &Connection) -> Answer<Self> {
        drop(Client::connect(connection).await?);
        let service = AccessServiceClient::new(connection.target(Role::Operator)?.connect().await?);
        Ok(Self(service.max_decoding_message_size(sortie_proto::MESSAGE_BYTES_MAX)))
    }

    /// Stores a token.
    ///
    /// # Errors
    /// [`super::ClientError`].
    pub async fn create(
        &mut self,
        digest: TokenDigest,
        name: &str,
        role: Role,
        lasts: Option<Duration>,
    ) -> Answer<()> {
        let (digest, name, role) = (digest.to_string(), name.to_owned(), role.to_string());
        let request = v1::CreateTokenRequest { digest, name, role, lasts_ms: lasts.map(millis) };
        self.0.create_token(request).await?;
        Ok(())
    }

    /// All tokens.
    ///
    /// # Errors
    /// [`super::ClientError`].
    pub async fn tokens(&mut self) -> Answer<Vec<v1::Token>> {
        Ok(self.0.tokens(v1::TokensRequest {}).await?.into_inner().tokens)
    }

    /// Ends the tokens of a name. Gives how many there were.
    ///
    /// # Errors
    /// [`super::ClientError`].
    pub async fn revoke(&mut self, name: &str) -> Answer<u64> {
        let request = v1::RevokeTokenRequest { name: name.to_owned() };
        Ok(self.0.revoke_token(request).await?.into_inner().tokens)
    }

    /// Stores a token in the place of those of a name, which end after a while. Gives its role.
    ///
    /// # Errors
    /// [`super::ClientError`].
    pub async fn rotate(&mut self, name: &str, digest: TokenDigest, overlap: Duration) -> Answer<String> {
        let (name, digest) = (name.to_owned(), digest.to_string());
        let request = v1::RotateTokenRequest { name, digest, overlap_ms: millis(overlap) };
        Ok(self.0.rotate_token(request).await?.into_inner().role)
    }

    /// What users did, the newest first.
    ///
    /// # Errors
    /// [`super::ClientError`].
    pub async fn audit(&mut self, before: Option<i64>, count_max: u32) -> Answer<Vec<v1::AuditEntry>> {
        Ok(self.0.audit(v1::AuditRequest { before, count_max }).await?.into_inner().entries)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
