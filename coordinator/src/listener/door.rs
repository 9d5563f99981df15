//! Who is let in: encrypted connections only, and requests whose token allows what they ask for.

use std::io;
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, header};
use sortie_access::{AccessError, Identity, TlsServer, TlsStream, TokenDigest};
use sortie_core::access::{Role, may_call};
use tokio::net::TcpStream;
use tonic::Status;

/// How often the certificate is made anew, long before it expires.
const RENEW_INTERVAL: Duration = Duration::from_secs(86_400);

/// The door of a coordinator that is not `--insecure`.
#[derive(Debug)]
pub(crate) struct Door {
    tls: TlsServer,
    tokens: Vec<(TokenDigest, Role)>,
}

impl Door {
    /// One that proves this identity and knows its tokens.
    pub(crate) fn new(identity: &Identity) -> Result<Self, AccessError> {
        Ok(Self { tls: TlsServer::new(identity, now())?, tokens: identity.digests() })
    }

    /// Renews the certificate until the task is dropped.
    pub(crate) async fn renew(&self) {
        let mut ticks = tokio::time::interval(RENEW_INTERVAL);
        loop {
            ticks.tick().await;
            if let Err(error) = self.tls.renew(now()) {
                tracing::error!(%error, "cannot renew the certificate");
            }
        }
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream> {
        self.tls.accept(stream).await
    }

    /// The role of a request's token, if it has one that is known.
    pub(super) fn role(&self, headers: &HeaderMap) -> Option<Role> {
        let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        let given = TokenDigest::of(given);
        // All are compared, so that the time says nothing about which one it is.
        let known = self.tokens.iter().filter(|(digest, _)| digest.matches(&given));
        known.fold(None, |_, &(_, role)| Some(role))
    }

    /// Refuses a call that the token does not allow.
    pub(super) fn check_call(&self, headers: &HeaderMap, path: &str) -> Result<(), Status> {
        let Some(role) = self.role(headers) else {
            return Err(Status::unauthenticated(
                "the coordinator does not know this token; bring a new access file from its machine (`sortie access show`)",
            ));
        };
        if may_call(role, path) {
            return Ok(());
        }
        let call = path.rsplit(['.', '/']).next().unwrap_or_default();
        Err(Status::permission_denied(format!("a {role}'s token does not allow {call}")))
    }
}

#[expect(clippy::disallowed_methods, reason = "a certificate is valid by the clocks of those who check it")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with_token(text: &str) -> HeaderMap {
        let value = HeaderValue::from_str(text).unwrap();
        [(header::AUTHORIZATION, value)].into_iter().collect()
    }

    #[test]
    fn each_token_has_its_role_and_nothing_else_has_one() {
        let (ours, other) = (Identity::new().unwrap(), Identity::new().unwrap());
        let door = Door::new(&ours).unwrap();
        for &role in Role::ALL {
            let token = |identity: &Identity| identity.access(role, Vec::new()).token.reveal().to_owned();
            let good = with_token(&format!("Bearer {}", token(&ours)));
            assert_eq!(door.role(&good), Some(role));
            for call in sortie_core::access::CALLS {
                let path = format!("/{}/{}", call.service, call.method);
                let checked = door.check_call(&good, &path);
                assert_eq!(checked.is_ok(), call.roles.contains(&role), "{role} {path}");
                assert!(checked.is_ok() || checked.unwrap_err().code() == tonic::Code::PermissionDenied);
            }
            for bad in [
                format!("Bearer {}", token(&other)),
                format!("Basic {}", token(&ours)),
                token(&ours),
                "Bearer ".to_owned(),
            ] {
                let refused =
                    door.check_call(&with_token(&bad), "/sortie.v1.SweepService/Handshake").unwrap_err();
                assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{bad}");
            }
        }
        assert_eq!(door.role(&HeaderMap::new()), None);
    }
}
