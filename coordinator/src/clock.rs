//! Time as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

use sortie_core::job::Timestamp;

/// Where the coordinator gets the time from.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the coordinator reads the machine's clock"
    )]
    fn now(&self) -> Timestamp {
        // A clock before 1970 counts as 1970: leases then simply last until it is right.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}
