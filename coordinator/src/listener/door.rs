//! Who is let in: encrypted connections only, and requests whose token allows what they ask for.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, header};
use sortie_access::{AccessError, Identity, TlsServer, TlsStream, TokenDigest};
use sortie_core::access::{Caller, may_call};
use tokio::net::TcpStream;
use tonic::Status;

use crate::callers::{Callers, NoCaller};

/// How often the certificate is made anew, long before it expires.
const RENEW_INTERVAL: Duration = Duration::from_secs(86_400);

/// The door of a coordinator that is not `--insecure`.
#[derive(Debug)]
pub(crate) struct Door {
    tls: TlsServer,
    callers: Arc<Callers>,
}

impl Door {
    /// One that proves this identity, and lets these callers in.
    pub(crate) fn new(identity: &Identity, callers: Arc<Callers>) -> Result<Self, AccessError> {
        Ok(Self { tls: TlsServer::new(identity, now())?, callers })
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

    /// Who makes a request, if its token says so.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller, NoCaller> {
        let given = headers.get(header::AUTHORIZATION).ok_or(NoCaller::Missing)?;
        let given = given.to_str().ok().and_then(|given| given.strip_prefix("Bearer "));
        self.callers.of(&TokenDigest::of(given.ok_or(NoCaller::Unknown)?))
    }
}

/// Refuses a call that its caller may not make.
pub(super) fn check_call(caller: &Result<Caller, NoCaller>, path: &str) -> Result<(), Status> {
    let role = match caller {
        Err(reason) => return Err(Status::unauthenticated(reason.to_string())),
        Ok(Caller::Anybody) => return Ok(()),
        Ok(Caller::Holder { role, .. }) => *role,
    };
    if may_call(role, path) {
        return Ok(());
    }
    let call = path.rsplit(['.', '/']).next().unwrap_or_default();
    Err(Status::permission_denied(format!("a {role}'s token does not allow {call}")))
}

#[expect(clippy::disallowed_methods, reason = "a certificate is valid by the clocks of those who check it")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use sortie_core::access::Role;

    use super::*;

    fn with_token(text: &str) -> HeaderMap {
        let value = HeaderValue::from_str(text).unwrap();
        [(header::AUTHORIZATION, value)].into_iter().collect()
    }

    #[test]
    fn each_token_has_its_role_and_nothing_else_has_one() {
        let (ours, other) = (Identity::new().unwrap(), Identity::new().unwrap());
        let door = Door::new(&ours, Arc::new(Callers::of_identity(&ours))).unwrap();
        for &role in Role::ALL {
            let token = |identity: &Identity| identity.access(role, Vec::new()).token.reveal().to_owned();
            let good = door.caller(&with_token(&format!("Bearer {}", token(&ours))));
            assert_eq!(good, Ok(Caller::Holder { name: role.to_string(), role }));
            for call in sortie_core::access::CALLS {
                let path = format!("/{}/{}", call.service, call.method);
                let checked = check_call(&good, &path);
                assert_eq!(checked.is_ok(), call.roles.contains(&role), "{role} {path}");
                assert!(checked.is_ok() || checked.unwrap_err().code() == tonic::Code::PermissionDenied);
            }
            for bad in [
                format!("Bearer {}", token(&other)),
                format!("Basic {}", token(&ours)),
                token(&ours),
                "Bearer ".to_owned(),
            ] {
                let caller = door.caller(&with_token(&bad));
                assert_eq!(caller, Err(NoCaller::Unknown), "{bad}");
                let refused = check_call(&caller, "/sortie.v1.SweepService/Handshake").unwrap_err();
                assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{bad}");
            }
        }
        assert_eq!(door.caller(&HeaderMap::new()), Err(NoCaller::Missing));
    }
}
