//! Keys of a database's rows. None of them means anything outside of its database; trials, sweeps and workers have names of their own there.

use serde::Serialize;

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

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
