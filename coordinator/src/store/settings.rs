//! What the coordinator decides about its store.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;

/// How long a worker that was quarantined gets no trials.
pub(super) const QUARANTINE: Duration = Duration::from_secs(600);

/// How a coordinator treats its workers.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a lease lasts after a heartbeat.
    pub lease: Duration,
}

/// What a user may allow a database.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// A SQLite file on a network file system: exclusive locking, no shared memory.
    pub network_disk: bool,
    /// Instead of the store's own clock: for tests that decide what time it is.
    pub clock: Option<Arc<dyn Clock>>,
    /// The most pages that a SQLite file may have: for tests of a full disk.
    pub pages_max: Option<u32>,
}
