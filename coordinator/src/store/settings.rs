//! What the coordinator decides about its store.

use std::time::Duration;

/// How a coordinator treats its workers.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a lease lasts after a heartbeat.
    pub lease: Duration,
}

/// What a user may allow a database.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// A SQLite file on a network file system: exclusive locking, no shared memory.
    pub network_disk: bool,
    /// The caller's clock instead of the database's: for tests that decide what time it is.
    pub local_clock: bool,
    /// The most pages that a SQLite file may have: for tests of a full disk.
    pub pages_max: Option<u32>,
}
