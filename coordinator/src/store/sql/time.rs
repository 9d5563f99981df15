//! Where the time of a database comes from, and how the time of a SQLite file goes on after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sortie_core::job::Timestamp;

use crate::clock::Clock;

/// By how much the stored time may be behind the last write.
pub(super) const STORED_INTERVAL: Duration = Duration::from_secs(1);

/// Where the time comes from.
#[derive(Clone, Debug)]
pub(super) enum TimeSource {
    /// Several coordinators may share the database: from its own clock.
    Database,
    /// From a clock of this process.
    Process(ProcessTime),
}

/// A clock of this process, and the last of its times that stands in the database.
#[derive(Clone, Debug)]
pub(super) struct ProcessTime {
    clock: Arc<dyn Clock>,
    stored_ms: Arc<AtomicI64>,
}

impl ProcessTime {
    pub(super) fn new(clock: Arc<dyn Clock>, stored: Timestamp) -> Self {
        Self { clock, stored_ms: Arc::new(AtomicI64::new(stored.0)) }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time, if it should be stored with what is written now.
    pub(super) fn to_store(&self) -> Option<Timestamp> {
        let stored = Timestamp(self.stored_ms.load(Ordering::Relaxed));
        Some(self.now()).filter(|now| stored.plus(STORED_INTERVAL) <= *now)
    }

    pub(super) fn note_stored(&self, time: Timestamp) {
        self.stored_ms.fetch_max(time.0, Ordering::Relaxed);
    }
}
