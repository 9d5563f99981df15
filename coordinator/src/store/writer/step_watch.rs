//! Notices that a database's clock was set.

use std::time::Duration;

use sortie_core::job::Timestamp;
use tokio::time::Instant;

/// The last time that was read, by the database's clock and by this process's monotonic clock.
#[derive(Debug, Default)]
pub(super) struct StepWatch {
    last: Option<(Timestamp, Instant)>,
}

impl StepWatch {
    /// By how much the two clocks differ about the time that has passed since the last call of [`StepWatch::note`].
    pub(super) fn divergence(&self, now: Timestamp) -> Duration {
        let Some((time, instant)) = self.last else { return Duration::ZERO };
        let expected = time.plus(instant.elapsed());
        now.since(expected).max(expected.since(now))
    }

    pub(super) fn note(&mut self, now: Timestamp) {
        self.last = Some((now, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_either_way_diverges_and_one_that_goes_on_does_not() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let (start, mut watch) = (Timestamp(1_000_000_000), StepWatch::default());
        assert_eq!(watch.divergence(start), Duration::ZERO);
        watch.note(start);
        tokio::time::advance(HOUR).await;
        assert_eq!(watch.divergence(start.plus(HOUR)), Duration::ZERO);
        assert_eq!(watch.divergence(start.plus(HOUR * 2)), HOUR);
        assert_eq!(watch.divergence(start), HOUR);
        watch.note(start);
        assert_eq!(watch.divergence(start), Duration::ZERO);
    }
}
