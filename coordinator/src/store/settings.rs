//! What the coordinator decides about its store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sortie_access::TokenDigest;

use crate::clock::Clock;

/// How a coordinator treats its workers, and how much it stores.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a lease lasts after a heartbeat.
    pub lease: Duration,
    /// How much is stored at most.
    pub limits: Limits,
    /// Of the CA of the coordinator's identity: tokens that other identities made for themselves do not count here.
    pub identity: Option<TokenDigest>,
}

/// How much is stored at most: what goes beyond is refused by a line that names the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sweeps of a database.
    pub sweeps: u64,
    /// Trials of a database, as its sweeps plan them.
    pub trials: u64,
    /// Evaluations of an attempt; eight named numbers count as one more.
    pub evaluations: u64,
    /// Training losses of an attempt. A trial that has more steps may report one for each.
    pub losses: u64,
    /// Files of an attempt, of which it reports where they are.
    pub artifacts: u64,
}

impl Limits {
    /// Lists of sweeps are read as a whole, and each takes some kilobytes there.
    pub const SWEEPS: u64 = 100_000;
    /// A trial takes about a kilobyte before it runs: 20 gigabytes, the most that a database on one disk handles well.
    pub const TRIALS: u64 = 20_000_000;
    /// Rows of about 150 bytes: half a gigabyte for one attempt, a thousand times what long trainings report.
    pub const EVALUATIONS: u64 = 1 << 22;
    /// Rows of about 30 bytes: 300 megabytes for one attempt.
    pub const LOSSES: u64 = 10_000_000;
    /// A checkpoint every minute for two months.
    pub const ARTIFACTS: u64 = 100_000;

    /// Those of a database of which nothing else is said.
    pub const DEFAULT: Self = Self {
        sweeps: Self::SWEEPS,
        trials: Self::TRIALS,
        evaluations: Self::EVALUATIONS,
        losses: Self::LOSSES,
        artifacts: Self::ARTIFACTS,
    };
}

impl Settings {
    /// Leases of this length, and the limits of a database of which nothing is said.
    pub const fn new(lease: Duration) -> Self {
        Self { lease, limits: Limits::DEFAULT, identity: None }
    }

    /// A worker that was last heard from longer ago is not counted on. Those that wait for trials are noted every ten seconds at least.
    pub fn silent_after(&self) -> Duration {
        self.lease.max(Duration::from_secs(10)) * 2
    }
}

/// What a user may allow a database.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// A SQLite file on a network file system: exclusive locking, no shared memory.
    pub network_disk: bool,
    /// The program that answers users' queries on a SQLite file: it calls [`run_query`](super::run_query) when its first word is
    /// [`QUERY_WORD`](super::QUERY_WORD). Without, queries are refused there.
    pub query_program: Option<PathBuf>,
    /// Instead of the store's own clock: for tests that decide what time it is.
    pub clock: Option<Arc<dyn Clock>>,
    /// The most pages that a SQLite file may have: for tests of a full disk.
    pub pages_max: Option<u32>,
}
