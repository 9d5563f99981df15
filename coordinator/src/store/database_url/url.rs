//! A database as users name it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sortie_core::secret::may_hold_password;

use super::parameters::is_keyword;
use super::server::ServerUrl;

/// What is supported.
const USE: &str = "use sqlite://PATH or postgres://USER@HOST/DATABASE";

/// Where a database is: a SQLite file or a Postgres server. Neither `Display` nor `Debug` shows the password, and nothing else can.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Place);

/// The two kinds.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) enum Place {
    File(PathBuf),
    Server(ServerUrl),
}

/// Why a text is no database, in one line. It says what to write instead, and nothing of the text, any part of which may be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database's URL cannot be used: {0}")]
pub struct BadDatabaseUrl(String);

impl DatabaseUrl {
    /// The SQLite file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.0 {
            Place::File(path) => Some(path),
            Place::Server(_) => None,
        }
    }

    pub(in crate::store) fn place(&self) -> &Place {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = BadDatabaseUrl;

    /// Reads `sqlite://PATH`, `postgres://...`, or the path of a SQLite file. White space around it is no part of it.
    fn from_str(text: &str) -> Result<Self, BadDatabaseUrl> {
        read(text.trim()).map(Self).map_err(BadDatabaseUrl)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => write!(out, "sqlite://{}", path.display()),
            Place::Server(url) => write!(out, "{url}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "DatabaseUrl({self})")
    }
}

fn read(text: &str) -> Result<Place, String> {
    if text.is_empty() {
        return Err(format!("it is empty; {USE}"));
    }
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => (String::new(), text),
    };
    match scheme.as_str() {
        "sqlite" => file(rest.strip_prefix("//").unwrap_or(rest)),
        "postgres" | "postgresql" => {
            let rest = rest.strip_prefix("//");
            let rest = rest.ok_or_else(|| format!("two slashes must follow {scheme}:; {USE}"))?;
            ServerUrl::read(rest).map(Place::Server)
        }
        // A path has no two slashes after a colon.
        "" if text.contains("://") => Err(USE.to_owned()),
        "" => keywords_or_file(text),
        other if text.contains("://") => Err(format!("{other}:// is not supported; {USE}")),
        _ => keywords_or_file(text),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// A path, unless it is libpq's other form, `host=HOST password=...`.
fn keywords_or_file(text: &str) -> Result<Place, String> {
    let words = text.split('=').map(|before| before.trim_end().rsplit(char::is_whitespace).next());
    // What stands behind the last `=` is a value.
    let keys = words.take(text.matches('=').count());
    if keys.flatten().any(is_keyword) {
        return Err(
            "it is in libpq's form of KEYWORD=VALUE; write postgres://USER:PASSWORD@HOST:PORT/DATABASE, and a file of such a name as ./NAME"
                .to_owned(),
        );
    }
    file(text)
}

fn file(path: &str) -> Result<Place, String> {
    if path.is_empty() || path.starts_with(":memory:") || path.contains('?') {
        return Err(USE.to_owned());
    }
    let plain = ["./", "../"].iter().any(|start| path.starts_with(start))
        || (path.starts_with('/') && !path.starts_with("//"));
    if !plain && may_hold_password(path) {
        return Err(
            "it looks like a server's, but does not begin with postgres://; a file of such a name is written ./NAME".to_owned(),
        );
    }
    Ok(Place::File(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DatabaseUrl, String> {
        text.parse().map_err(|error: BadDatabaseUrl| error.to_string())
    }

    #[test]
    fn files_are_paths_or_urls() {
        for (text, path) in [
            ("sortie.db", "sortie.db"),
            ("sqlite:sortie.db", "sortie.db"),
            ("sqlite:///a/b.db", "/a/b.db"),
            (" SQLITE://b.db\n", "b.db"),
            ("/a:b@c/x.db", "/a:b@c/x.db"),
            ("./host=a", "./host=a"),
            ("runs=3/a.db", "runs=3/a.db"),
            ("a#b%20c.db", "a#b%20c.db"),
        ] {
            let url = read(text).unwrap();
            assert_eq!(url.file(), Some(Path::new(path)), "{text}");
            assert_eq!(url.to_string(), format!("sqlite://{path}"));
            assert_eq!(url.to_string().parse(), Ok(url));
        }
    }

    #[test]
    fn what_is_no_database_is_refused_without_its_text() {
        for (text, part) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("sqlite://", USE),
            ("sqlite::memory:", USE),
            ("sqlite://visible?mode=ro", USE),
            ("mysql://me:visible@host/x", "mysql:// is not supported; use sqlite://PATH or postgres://"),
            ("jdbc:postgresql://host/x?user=me&password=visible", "use sqlite://PATH"),
            ("\"postgres://me:visible@host/x\"", "use sqlite://PATH"),
            ("postgres:/me:visible@host/x", "two slashes must follow postgres:"),
            ("postgresql:me:visible@host/x", "two slashes must follow postgresql:"),
            ("postgres//me:visible@host/x", "does not begin with postgres://"),
            ("//me:visible@host/x", "does not begin with postgres://"),
            ("me:visible@host/x", "does not begin with postgres://"),
            ("sqlite://me:visible@host/x", "does not begin with postgres://"),
            ("host=h user=me password=visible", "libpq's form"),
            ("password = 'visible' host = h", "libpq's form"),
            ("dbname=visible", "libpq's form"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part) && !error.contains("visible"), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
