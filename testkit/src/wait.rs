//! Waits for other processes, within a limit.

use std::time::{Duration, Instant};

/// Short compared with the start of a process, long compared with the cost of one check.
const POLL: Duration = Duration::from_millis(5);

/// Checks until the condition holds; false if it does not within the limit.
pub fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    for_some(limit, || holds().then_some(())).is_some()
}

/// Checks until there is a value; none if there is none within the limit. It checks at least once.
pub fn for_some<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = now();
    loop {
        let last = now() - start >= limit;
        let found = look();
        if found.is_some() || last {
            return found;
        }
        std::thread::sleep(POLL);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is waited for and measured here happens in real processes, on real disks"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_until_the_condition_holds_or_the_limit_is_over() {
        let mut looks = 0;
        let third = || {
            looks += 1;
            looks == 3
        };
        assert!(until(Duration::from_secs(60), third));
        assert_eq!(looks, 3);
        assert!(!until(Duration::from_millis(1), || false));
        assert!(until(Duration::ZERO, || true));
    }
}
