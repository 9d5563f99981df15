//! Time as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

use sortie_core::job::Timestamp;
use tokio::time::Instant;

/// What tells a store the time where its database does not.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The clock of a coordinator that has its database to itself: the machine's clock gives the start, and the machine's monotonic clock
/// all that follows. A step of the machine's clock changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Timestamp,
    started: Instant,
}

impl MonotonicClock {
    /// Starts now, but not earlier than a time that was stored before: the machine's clock may have been set back meanwhile.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the coordinator reads the machine's clock"
    )]
    pub fn start(stored: Timestamp) -> Self {
        // A clock before 1970 counts as 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Timestamp(0).plus(since_epoch).max(stored), started: Instant::now() }
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_goes_on_from_the_later_of_machine_and_store() {
        let machine = MonotonicClock::start(Timestamp(0)).now();
        // 2020-01-01.
        assert!(machine > Timestamp(1_577_836_800_000), "{machine:?}");
        let later = machine.plus(Duration::from_secs(86_400));
        let clock = MonotonicClock::start(later);
        assert_eq!(clock.now(), later);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), later.plus(Duration::from_secs(5)));
    }
}
