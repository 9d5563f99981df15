//! The URL of a Postgres server. What its grammar does not allow is refused with what to write instead, because another reading of it would
//! take a part of the password for a host or a database, and show it.

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::parameters::{Parameters, is_port, unknown};

/// How long a start waits for the server, unless the URL says otherwise.
const CONNECT: Duration = Duration::from_secs(5);
/// What a password may not hold, since it ends there by the grammar of URLs.
const DELIMITERS: [(char, &str); 6] =
    [('/', "%2F"), ('?', "%3F"), ('#', "%23"), ('@', "%40"), ('[', "%5B"), (']', "%5D")];
/// What a password stands in front of.
const FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// The URL of a Postgres server, whose `Display` and `Debug` show no password.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) struct ServerUrl {
    /// With the password, and without what the driver does not know.
    text: String,
    connect: Duration,
    shown: String,
}

impl ServerUrl {
    /// Reads what follows `postgres://`.
    pub(super) fn read(rest: &str) -> Result<Self, String> {
        let (before, parameters) = split_parameters(rest);
        let (login, place) = match before.rsplit_once('@') {
            Some((login, place)) => (login, place),
            None => ("", before),
        };
        check_login(login)?;
        if rest.contains('#') {
            return Err("'#' must be written %23".to_owned());
        }
        if let Some((_, query)) = place.split_once('?') {
            return Err(unknown(query));
        }
        let (address, database) = place.split_once('/').unwrap_or((place, ""));
        check_address(address)?;
        if let Some(c) = rest.chars().find(|c| c.is_whitespace() || c.is_control()) {
            let mut bytes = [0; 4];
            let codes: String =
                c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect();
            return Err(format!("a space, a line break or the like must be written {codes}"));
        }
        if !is_percent_encoded(rest) {
            return Err("'%' must be written %25".to_owned());
        }
        parameters.check()?;
        let user = parameters.value(&["user"]).unwrap_or(login.split(':').next().unwrap_or_default());
        let user = if user.is_empty() { String::new() } else { format!("{user}@") };
        let (host, port) = split_port(address);
        let host = parameters.value(&["hostaddr", "host"]).unwrap_or(host);
        let port = parameters.value(&["port"]).or(port).map(|port| format!(":{port}")).unwrap_or_default();
        let database = parameters.value(&["dbname"]).unwrap_or(database);
        let url = Self {
            text: format!("postgres://{before}?{}", parameters.for_driver()),
            connect: parameters.connect_seconds().map_or(CONNECT, Duration::from_secs),
            shown: format!("postgres://{user}{host}{port}/{database}"),
        };
        // So that nothing is refused later, where the reason may quote it.
        url.options().map(|_| url)
    }

    /// How to connect, as the driver takes it. It has the password, and shows it.
    pub(in crate::store) fn options(&self) -> Result<PgConnectOptions, String> {
        // What the driver says may quote the URL.
        let options = PgConnectOptions::from_str(&self.text).map_err(|_| {
            format!("it is not of the form {FORM}, with all but letters and digits written as %XX")
        })?;
        let host = options.get_host().to_owned();
        let options = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => options.host(host),
            None => options,
        };
        let rest = self.text.split_once('?').map(|(_, parameters)| parameters).and_then(Parameters::find);
        tls(options, rest.unwrap_or_else(Parameters::none))
    }

    /// How long a start waits for the server.
    pub(in crate::store) fn connect_limit(&self) -> Duration {
        self.connect
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ServerUrl({self})")
    }
}

/// What stands before the parameters, and these. A `?` that is not followed by known parameters alone belongs to something else.
fn split_parameters(rest: &str) -> (&str, Parameters<'_>) {
    let marks = rest.match_indices('?');
    let mut found = marks.filter_map(|(at, _)| Some((&rest[..at], Parameters::find(&rest[at + 1..])?)));
    found.next().unwrap_or((rest, Parameters::none()))
}

/// Whatever stands before the last `@` is user and password.
fn check_login(login: &str) -> Result<(), String> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    for (part, name) in [(password, "password"), (user, "user name")] {
        let mut wrong: Vec<_> = DELIMITERS.iter().filter(|(c, _)| part.contains(*c)).copied().collect();
        if !is_percent_encoded(part) {
            wrong.push(('%', "%25"));
        }
        if !wrong.is_empty() {
            let characters: Vec<String> = wrong.iter().map(|(c, _)| format!("'{c}'")).collect();
            let codes: Vec<&str> = wrong.iter().map(|(_, code)| *code).collect();
            let (characters, codes) = (characters.join(" and "), codes.join(" and "));
            return Err(format!("{characters} in the {name} must be written {codes}"));
        }
    }
    Ok(())
}

fn check_address(address: &str) -> Result<(), String> {
    let (host, port) = split_port(address);
    if port.is_some_and(|port| !is_port(port)) {
        return Err(format!("the port is not a number from 1 to 65535; the form is {FORM}"));
    }
    if host.contains(',') {
        return Err("it names several hosts; name one".to_owned());
    }
    let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '%' | '[' | ']' | ':');
    if host.chars().all(is_allowed) {
        Ok(())
    } else {
        Err(format!("the host is not a name; the form is {FORM}"))
    }
}

/// Host and port. Colons within brackets belong to an address.
fn split_port(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (address, None),
    }
}

/// Whether two hexadecimal digits follow each `%`.
fn is_percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|after| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

/// TLS as libpq has it, where the driver differs: no TLS on a Unix socket, and a root certificate that is named is used.
fn tls(options: PgConnectOptions, parameters: Parameters<'_>) -> Result<PgConnectOptions, String> {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    if parameters.value(&["sslmode", "ssl-mode"]).is_none()
        && variable("PGSSLMODE").is_some_and(|mode| mode.parse::<PgSslMode>().is_err())
    {
        return Err(
            "PGSSLMODE is not right; allowed: disable, allow, prefer, require, verify-ca, verify-full"
                .to_owned(),
        );
    }
    if options.get_socket().is_some() || options.get_host().starts_with('/') {
        return Ok(options.ssl_mode(PgSslMode::Disable));
    }
    let root = parameters.value(&["sslrootcert", "ssl-root-cert", "ssl-ca"]).map(str::to_owned);
    let has_root = root.or_else(|| variable("PGSSLROOTCERT")).is_some();
    match options.get_ssl_mode() {
        PgSslMode::Require if has_root => Ok(options.ssl_mode(PgSslMode::VerifyCa)),
        _ => Ok(options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ServerUrl, String> {
        ServerUrl::read(text.strip_prefix("postgres://").unwrap())
    }

    fn password(url: &ServerUrl) -> String {
        // The only way to see it: the driver's own `Debug`.
        let options = format!("{:?}", url.options().unwrap());
        let rest = options.split_once("password: Some(\"").unwrap().1;
        rest.split_once("\"),").unwrap().0.to_owned()
    }

    #[test]
    fn a_password_is_used_and_not_shown() {
        for (text, secret, shown) in [
            ("postgres://me:visible1@host:5/db", "visible1", "postgres://me@host:5/db"),
            ("postgres://me:a:b@host/db", "a:b", "postgres://me@host/db"),
            ("postgres://me:a%40b%2Fc%23d%25@host/db", "a@b/c#d%", "postgres://me@host/db"),
            ("postgres://:visible1@host", "visible1", "postgres://host/"),
            ("postgres://host/db?password=visible1", "visible1", "postgres://host/db"),
            ("postgres://host/db?user=me&password=a@b/c?d%26", "a@b/c?d&", "postgres://me@host/db"),
            (
                "postgres:///?host=h&port=7&dbname=d&password=visible1&sslmode=require",
                "visible1",
                "postgres://h:7/d",
            ),
            ("postgres://me:visible1@[::1]:5/db", "visible1", "postgres://me@[::1]:5/db"),
            ("postgres://me:caf\u{e9}!$*();=,~|@host/db", "caf\u{e9}!$*();=,~|", "postgres://me@host/db"),
        ] {
            let url = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(password(&url), secret, "{text}");
            assert_eq!(
                (url.to_string(), format!("{url:?}")),
                (shown.to_owned(), format!("ServerUrl({shown})"))
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        for (text, said) in [
            ("postgres://me:visible#more@host/db", "'#' in the password must be written %23"),
            ("postgres://me:visible/more@host/db", "'/' in the password must be written %2F"),
            ("postgres://me:12/more@host/db", "'/' in the password must be written %2F"),
            ("postgres://me:visible@more@host/db", "'@' in the password must be written %40"),
            ("postgres://me:visible?more@host/db", "'?' in the password must be written %3F"),
            ("postgres://me:visible?more@host/db?sslmode=require", "'?' in the password must be written %3F"),
            (
                "postgres://me:visi/ble?mo#re@host/db",
                "'/' and '?' and '#' in the password must be written %2F and %3F and %23",
            ),
            ("postgres://me:visible[@host/db", "'[' in the password must be written %5B"),
            ("postgres://me:visible%more@host/db", "'%' in the password must be written %25"),
            ("postgres://me:visible%@host/db", "'%' in the password must be written %25"),
            ("postgres://me@there:visible@host/db", "'@' in the user name must be written %40"),
            ("postgres://me:visible more@host/db", "a space, a line break or the like must be written %20"),
            ("postgres://me:visible\nmore@host/db", "a space, a line break or the like must be written %0A"),
            ("postgres://host/db?password=visible+more", "'+' in the password must be written %2B"),
            ("postgres://host/db?password=visible%more", "'%' must be written %25"),
            ("postgres://host/db?password=visible#more", "'#' must be written %23"),
            ("postgres://host/db?password=visible&more", "its parameter 2 is unknown; allowed: sslmode, "),
            ("postgres://host/db?pasword=visible", "its parameter 1 is unknown; allowed: sslmode, "),
            (
                "postgres://host/db?sslmode=require&channel_binding=visible",
                "the parameter channel_binding is not supported",
            ),
            ("postgres://host/db?sslmode=visible", "sslmode is not right; allowed: disable, allow, prefer"),
            ("postgres://host/db?port=visible", "port is not right; allowed: 1 to 65535"),
            (
                "postgres://host/db?connect_timeout=0",
                "connect_timeout is not right; allowed: 1 to 3600, in seconds",
            ),
            (
                "postgres://me:visible",
                "the port is not a number from 1 to 65535; the form is postgres://USER:",
            ),
            ("postgres://me:visible/db", "the port is not a number from 1 to 65535"),
            ("postgres://me:pw@host:visible/db", "the port is not a number"),
            ("postgres://me:pw@host:0/db", "the port is not a number"),
            ("postgres://me:pw@visible,host/db", "it names several hosts"),
            ("postgres://me:pw@vis{ible/db", "the host is not a name"),
            (
                "postgres://me:visible@[/db",
                "it is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            ),
            ("postgres://me:visible%FF@host/db", "it is not of the form"),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                error.contains(said) && !error.contains("visible") && !error.contains("more"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn tls_is_as_libpq_has_it() {
        for (text, mode) in [
            ("postgres://host/db", PgSslMode::Prefer),
            ("postgres://host/db?sslmode=disable", PgSslMode::Disable),
            ("postgres://host/db?sslmode=require", PgSslMode::Require),
            ("postgres://host/db?sslmode=require&sslrootcert=a.pem", PgSslMode::VerifyCa),
            ("postgres://host/db?sslmode=verify-full&sslrootcert=a.pem", PgSslMode::VerifyFull),
            ("postgres://%2Ftmp/db?sslmode=require", PgSslMode::Disable),
            ("postgres:///db?host=/tmp&sslmode=require", PgSslMode::Disable),
        ] {
            let found = read(text).unwrap().options().unwrap().get_ssl_mode();
            assert_eq!(format!("{found:?}"), format!("{mode:?}"), "{text}");
        }
    }

    #[test]
    fn the_time_for_a_start_is_ours() {
        let url = read("postgres://host/db?connect_timeout=2&sslmode=disable").unwrap();
        assert_eq!(url.connect_limit(), Duration::from_secs(2));
        assert!(!url.text.contains("connect_timeout"));
        assert_eq!(read("postgres://host").unwrap().connect_limit(), CONNECT);
    }
}
