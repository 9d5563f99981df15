//! What the coordinator decides about its store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;

/// How a coordinator treats its workers.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a lease lasts after a heartbeat.
    pub lease: Duration,
}

impl Settings {
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
