//! Keys of a database's rows, and the fencing tokens of attempts.
//!
//! A key means nothing outside of its database; there, sweeps, trials and workers have names. A token does: workers report under it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one attempt at one trial. Tokens grow and are never reissued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptToken(pub i64);

impl fmt::Display for AttemptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a database: a random number, which a database that was restored from a backup does not share with the one that the backup was made
/// of. A token means nothing under another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub i64);

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident),+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl From<i64> for $name {
            fn from(key: i64) -> Self {
                Self(key)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

keys! {
    /// Of a sweep.
    SweepKey,
    /// Of a trial of one sweep.
    TrialKey,
    /// Of a worker process.
    WorkerKey
}
