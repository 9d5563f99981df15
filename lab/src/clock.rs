//! Real time. Benchmarks and fault injection measure processes, so no simulated clock can replace it.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "benchmarks and fault injection measure real time")]
pub fn now() -> Instant {
    Instant::now()
}
