//! Why the coordinator gives no answer.

use std::error::Error as _;

use sortie_access::{AccessError, DialError};
use sortie_proto::WireError;
use tonic::{Code, Status};

/// Why there is no answer, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no way to a coordinator.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// What answers is not the coordinator of the access file.
    #[error("{0}")]
    Stranger(DialError),
    /// Nothing answers; a later try may succeed.
    #[error(
        "cannot reach the coordinator at {0}: start one with `sortie serve`, or name another with --coordinator"
    )]
    Unreachable(String),
    /// The connection broke in the middle; a later try may succeed.
    #[error("the coordinator stopped answering")]
    ConnectionLost,
    /// The coordinator cannot answer yet; a later try may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The server is no Sortie coordinator.
    #[error("the server at {url} is not a Sortie coordinator: {message}")]
    NotSortie {
        /// Its URL.
        url: String,
        /// Its message.
        message: String,
    },
    /// The coordinator refuses for good.
    #[error("{0}")]
    Refused(String),
    /// The answer breaks the contract.
    #[error("cannot read the coordinator's answer: {0}")]
    Wire(#[from] WireError),
    /// The answer lacks what the trials run.
    #[error("cannot read the coordinator's answer: it does not say what the sweep runs")]
    NoWork,
}

impl ClientError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::ConnectionLost | Self::Unavailable(_))
    }
}

impl From<DialError> for ClientError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Unreachable { at, .. } => Self::Unreachable(at),
            stranger => Self::Stranger(stranger),
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        // A status of the coordinator has no source; one that the transport makes when a connection breaks has one.
        match status.code() {
            _ if status.source().is_some() => Self::ConnectionLost,
            Code::Unavailable => Self::Unavailable(status.message().to_owned()),
            _ => Self::Refused(status.message().to_owned()),
        }
    }
}

/// What the coordinator answered, or why it did not.
pub(super) type Answer<T> = Result<T, ClientError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let broken = Status::from_error("the wire is cut".into());
        assert!(matches!(ClientError::from(broken), ClientError::ConnectionLost));
        let starting = ClientError::from(Status::unavailable("starting"));
        assert!(starting.is_transient() && starting.to_string() == "starting");
        let refused = ClientError::from(Status::not_found("no sweep is called x"));
        assert!(!refused.is_transient() && refused.to_string() == "no sweep is called x");
    }
}
