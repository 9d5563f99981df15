//! Why there is no access.

use std::io;
use std::path::PathBuf;

use crate::DEFAULT_COORDINATOR;

/// Why there is no access to a coordinator, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A URL that is none of a coordinator.
    #[error("coordinator {0:?} is not a URL like {DEFAULT_COORDINATOR}")]
    NotAUrl(String),
    /// It has a user, a password or parameters, so that it is not shown.
    #[error(
        "the coordinator's URL has a user, a password or parameters; write it like {DEFAULT_COORDINATOR}: tokens stand in access files (--access)"
    )]
    Login,
    /// It is neither encrypted nor authenticated.
    #[error(
        "coordinator {0}: http:// is neither encrypted nor authenticated; write https://, or add --insecure on both sides in a network that you trust"
    )]
    Plain(String),
    /// Without encryption there is no https.
    #[error("coordinator {0}: --insecure is for http:// only; leave it out")]
    InsecureTls(String),
    /// No file where every program looks.
    #[error(
        "there is no access file {0}: start a coordinator on this machine with `sortie serve`, or bring one from the coordinator's machine (`sortie access show` there, `sortie access import` here, or --access FILE)"
    )]
    Missing(PathBuf),
    /// Without tokens there is nothing to write into one.
    #[error("a coordinator that is --insecure has no access files")]
    NoFile,
    /// Something with a token in it, which is not shown.
    #[error(
        "--access or SORTIE_ACCESS is neither the path of an access file nor what `sortie access show --one-line` prints (not shown: it holds a secret)"
    )]
    NoPath,
    /// Not an access file.
    #[error("{place} cannot be read as {what}: {reason}")]
    Malformed {
        /// Where the text stands.
        place: String,
        /// What it should be.
        what: &'static str,
        /// What is wrong, without any secret.
        reason: String,
    },
    /// It holds a secret, and others may read it.
    #[error("other users may read {0}, which holds a secret: chmod 600 {0}")]
    Shared(PathBuf),
    /// The system's refusal.
    #[error("cannot {verb} {path}: {error}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A certificate or a key.
    #[error("cannot make or use a certificate: {0}")]
    Certificate(String),
}

impl AccessError {
    pub(crate) fn certificate(error: impl std::fmt::Display) -> Self {
        Self::Certificate(error.to_string())
    }
}
