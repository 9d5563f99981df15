//! Where a coordinator is, as users write it.

use sortie_core::secret::may_hold_password;
use tonic::transport::Uri;

/// The coordinator that tools and workers talk to unless another is configured.
pub const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7070";

/// An address that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// It is no URL of a coordinator.
    #[error("coordinator {0:?} is not a URL like {DEFAULT_COORDINATOR}")]
    NotAUrl(String),
    /// It has a user, a password or parameters, so that it is not shown.
    #[error(
        "the coordinator's URL has a user, a password or parameters: connections are not authenticated yet; write it like {DEFAULT_COORDINATOR}"
    )]
    Login,
    /// It is on another machine, and nothing protects the traffic yet.
    #[error(
        "coordinator {0} is not on this machine, and connections are neither encrypted nor authenticated yet: add --insecure on a network that you trust"
    )]
    Exposed(String),
}

/// Reads a coordinator's URL.
///
/// # Errors
/// [`BadEndpoint`], one line that says what to do.
pub fn coordinator_uri(url: &str, insecure: bool) -> Result<Uri, BadEndpoint> {
    if may_hold_password(url) || url.contains(['@', '?', '#']) {
        return Err(BadEndpoint::Login);
    }
    let not_a_url = || BadEndpoint::NotAUrl(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| not_a_url())?;
    let plain = uri.scheme_str() == Some("http")
        && uri.port().is_some()
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none();
    let host = uri.host().filter(|_| plain).ok_or_else(not_a_url)?;
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let loopback =
        host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback || insecure { Ok(uri) } else { Err(BadEndpoint::Exposed(url.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_needs_no_consent() {
        for near in ["http://127.0.0.1:7070", "http://localhost:1", "http://[::1]:7070/"] {
            assert!(coordinator_uri(near, false).is_ok(), "{near}");
        }
        let far = "http://10.0.0.1:7070";
        assert_eq!(coordinator_uri(far, false), Err(BadEndpoint::Exposed(far.to_owned())));
        assert!(coordinator_uri(far, true).is_ok());
        for bad in [
            "",
            "127.0.0.1:7070",
            "https://127.0.0.1:7070",
            "http://127.0.0.1",
            "http://127.0.0.1:7070/x",
            "http://a b:1",
        ] {
            assert!(matches!(coordinator_uri(bad, true), Err(BadEndpoint::NotAUrl(_))), "{bad}");
        }
        for secret in [
            "http://me:visible@127.0.0.1:7070",
            "http://visible@127.0.0.1:7070",
            "http://me:vis/ible@127.0.0.1:7070",
            "http://127.0.0.1:7070?token=visible",
            "http://127.0.0.1:7070/#visible",
            "me:visible@host",
        ] {
            assert_eq!(coordinator_uri(secret, true), Err(BadEndpoint::Login), "{secret}");
        }
    }
}
