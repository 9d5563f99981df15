//! The only clock of the trainer. It decides when a checkpoint is due, and it times benchmarks. No number of a trial depends on it.

use std::time::Instant;

#[expect(
    clippy::disallowed_methods,
    reason = "it decides when a checkpoint is due and what a benchmark says, never what a trial computes"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}
