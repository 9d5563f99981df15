//! Real time. Benchmarks and fault injection measure processes, so no simulated clock can replace it.

use std::time::{Instant, SystemTime};

#[expect(clippy::disallowed_methods, reason = "benchmarks and fault injection measure real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since the Unix epoch, to compare what several processes saw.
#[expect(clippy::disallowed_methods, reason = "benchmarks and fault injection measure real time")]
pub fn wall_clock() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
