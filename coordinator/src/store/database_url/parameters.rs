//! The parameters of a Postgres URL, behind its `?`.

use std::net::IpAddr;

/// Those that are understood. The driver has further spellings of some.
const SUPPORTED: [&str; 19] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "connect_timeout",
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "application_name",
    "options",
    "ssl-mode",
    "ssl-root-cert",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "statement-cache-capacity",
];
/// How many of them are named where another is refused.
const NAMED: usize = 13;
/// Further ones of libpq, which are refused by name. Their names are no secret.
const OF_LIBPQ: [&str; 22] = [
    "passfile",
    "require_auth",
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "replication",
    "gssencmode",
    "sslcompression",
    "sslpassword",
    "sslcertmode",
    "sslcrl",
    "sslsni",
    "sslnegotiation",
    "requirepeer",
    "service",
    "target_session_attrs",
    "load_balance_hosts",
];
/// The ways to use TLS, as libpq calls them.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/// The longest that a start may wait for the server, in seconds.
const CONNECT_SECONDS_MAX: u64 = 3600;

/// Whether it is one of libpq's keywords, which also stand in its form `host=HOST dbname=NAME`.
pub(super) fn is_keyword(word: &str) -> bool {
    SUPPORTED[..NAMED].contains(&word) || OF_LIBPQ.contains(&word)
}

/// The parameters of a URL, as they are written.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// Those in a text, if all are understood.
    pub(super) fn find(text: &'a str) -> Option<Self> {
        let found = Self(text);
        found.pairs().all(|(key, value)| value.is_some() && is_supported(key)).then_some(found)
    }

    /// None at all.
    pub(super) fn none() -> Self {
        Self("")
    }

    /// Name and value of each.
    fn pairs(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (pair, None),
        })
    }

    /// The value of the last that has one of these names, as it is written.
    pub(super) fn value(self, names: &[&str]) -> Option<&'a str> {
        self.pairs().filter(|(key, _)| names.contains(key)).last().and_then(|(_, value)| value)
    }

    /// Those that the driver understands.
    pub(super) fn for_driver(self) -> String {
        let kept = self.pairs().filter(|(key, _)| *key != "connect_timeout");
        kept.map(|(key, value)| format!("{key}={}", value.unwrap_or_default())).collect::<Vec<_>>().join("&")
    }

    /// Checks every value.
    pub(super) fn check(self) -> Result<(), String> {
        for (key, value) in self.pairs() {
            let value = value.unwrap_or_default();
            if value.contains('+') && key == "password" {
                return Err("'+' in the password must be written %2B".to_owned());
            }
            let wrong = match key {
                "sslmode" | "ssl-mode" if !SSL_MODES.contains(&value) => SSL_MODES.join(", "),
                "hostaddr" if value.parse::<IpAddr>().is_err() => "an address such as 127.0.0.1".to_owned(),
                "port" if !is_port(value) => "1 to 65535".to_owned(),
                "connect_timeout" if seconds(value).is_none() => {
                    format!("1 to {CONNECT_SECONDS_MAX}, in seconds")
                }
                "statement-cache-capacity" if value.parse::<u16>().is_err() => "a whole number".to_owned(),
                _ => continue,
            };
            return Err(format!("{key} is not right; allowed: {wrong}"));
        }
        Ok(())
    }

    /// How long a start waits for the server, in seconds.
    pub(super) fn connect_seconds(self) -> Option<u64> {
        self.value(&["connect_timeout"]).and_then(seconds)
    }
}

/// Why not all of these are understood. What nobody knows is not named: it may be a part of a password.
pub(super) fn unknown(text: &str) -> String {
    let pairs = || Parameters(text).pairs();
    if let Some((key, _)) = pairs().find(|(key, _)| OF_LIBPQ.contains(key)) {
        return format!("the parameter {key} is not supported; leave it out");
    }
    let number = 1 + pairs().take_while(|(key, value)| value.is_some() && is_supported(key)).count();
    format!(
        "its parameter {number} is unknown; allowed: {}; '&' in a value must be written %26, and '?' in the password %3F",
        SUPPORTED[..NAMED].join(", ")
    )
}

fn is_supported(key: &str) -> bool {
    SUPPORTED.contains(&key) || (key.starts_with("options[") && key.ends_with(']'))
}

fn seconds(text: &str) -> Option<u64> {
    text.parse().ok().filter(|seconds| (1..=CONNECT_SECONDS_MAX).contains(seconds))
}

/// Whether it is the number of a port.
pub(super) fn is_port(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}
