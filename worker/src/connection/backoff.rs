//! How long to wait before the same thing is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// Short enough that a restarted coordinator is found well within a lease.
const LONGEST: Duration = Duration::from_secs(3);

/// Growing delays with jitter. The jitter is a function of the seed, so that workers that lost one coordinator do not come back in step
/// and a worker's behaviour can still be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    seed: u64,
    attempt: u32,
}

impl Backoff {
    /// Delays of their own for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, attempt: 0 }
    }

    /// The next delay: twice the one before up to the longest, times a factor in [0.5, 1).
    pub(crate) fn next(&mut self) -> Duration {
        let full =
            FIRST.saturating_mul(1_u32.checked_shl(self.attempt.min(16)).unwrap_or(u32::MAX)).min(LONGEST);
        let bits = mix(self.seed.wrapping_add(u64::from(self.attempt))) >> 40;
        self.attempt = self.attempt.saturating_add(1);
        full.mul_f64(0.5 + bits as f64 / (1_u64 << 25) as f64)
    }

    /// Starts over: it went well.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// A seed for what one worker says about one thing: FNV-1a over its name and the thing's number.
pub(crate) fn seed(worker_id: &str, number: i64) -> u64 {
    let bytes = worker_id.bytes().chain(number.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// SplitMix64's finaliser: neighbouring inputs give unrelated outputs.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_differ_between_workers() {
        let delays = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..80).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        let (one, other) = (delays(1), delays(2));
        for (index, delay) in one.iter().enumerate() {
            let full = FIRST.saturating_mul(1 << index.min(16)).min(LONGEST);
            assert!(*delay >= full / 2 && *delay < full, "{index}: {delay:?}");
        }
        assert_eq!(one, delays(1));
        assert_ne!(one, other);
        let mut backoff = Backoff::new(1);
        let first = backoff.next();
        backoff.reset();
        assert_eq!(backoff.next(), first);
    }
}
