//! Where a coordinator is, as users write it.

use std::fmt;
use std::str::FromStr;

use sortie_core::secret::may_hold_password;

use crate::AccessError;

/// A host and a port: `127.0.0.1:7070`, `head:7070`, `[::1]:7070`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(String);

impl Address {
    /// As the system's resolver takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        if may_hold_password(text) || text.contains(['@', '?', '#']) {
            return Err(AccessError::Login);
        }
        let wrong = || AccessError::NotAUrl(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let is_v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_v6 = is_v6.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name =
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if port.parse::<u16>().is_err() || !(is_v6 || is_name) {
            return Err(wrong());
        }
        Ok(Self(text.to_owned()))
    }
}

/// A coordinator's URL, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address.
    pub address: Address,
    /// Whether it is an `https://` one.
    pub is_encrypted: bool,
}

impl FromStr for Place {
    type Err = AccessError;

    fn from_str(url: &str) -> Result<Self, AccessError> {
        if may_hold_password(url) || url.contains(['@', '?', '#']) {
            return Err(AccessError::Login);
        }
        let not_a_url = || AccessError::NotAUrl(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(not_a_url)?;
        let is_encrypted = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(not_a_url()),
        };
        let address = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| not_a_url())?;
        Ok(Self { address, is_encrypted })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_strictly_and_logins_are_not_shown() {
        for (url, shown, is_encrypted) in [
            ("https://127.0.0.1:7070", "https://127.0.0.1:7070", true),
            ("https://head-1.site_a:7070/", "https://head-1.site_a:7070", true),
            ("http://[::1]:7070", "http://[::1]:7070", false),
        ] {
            let place: Place = url.parse().unwrap();
            assert_eq!((place.to_string().as_str(), place.is_encrypted), (shown, is_encrypted));
        }
        for bad in [
            "",
            "127.0.0.1:7070",
            "ftp://x:1",
            "https://x",
            "https://x:1/y",
            "https://a b:1",
            "https://[x]:1",
            "https://:1",
        ] {
            assert!(matches!(bad.parse::<Place>(), Err(AccessError::NotAUrl(_))), "{bad}");
        }
        for secret in [
            "https://me:visible@127.0.0.1:7070",
            "https://visible@h:1",
            "https://h:1?token=visible",
            "me:visible@host",
        ] {
            let error = secret.parse::<Place>().unwrap_err();
            assert!(
                matches!(error, AccessError::Login) && !error.to_string().contains("visible"),
                "{secret}"
            );
        }
    }
}
