//! How long to wait before the coordinator is called again.

use std::time::Duration;

use backon::ExponentialBuilder;

/// Short enough, even when lengthened, that a restarted coordinator is found well within a lease.
const LONGEST: Duration = Duration::from_millis(1_500);

/// Growing delays without end. Each is lengthened at random by up to its own length, so that workers that lost one coordinator do not come
/// back in step.
pub(crate) const DELAYS: ExponentialBuilder = ExponentialBuilder::new()
    .with_jitter()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(LONGEST)
    .without_max_times();

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder as _;

    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_never_end() {
        let mut shortest = Duration::from_millis(50);
        for (index, delay) in DELAYS.build().take(10_000).enumerate() {
            assert!(delay >= shortest && delay <= 2 * shortest, "{index}: {delay:?}");
            shortest = LONGEST.min(2 * shortest);
        }
        assert_eq!(shortest, LONGEST);
        assert_eq!(DELAYS.build().take(10_000).count(), 10_000);
    }
}
