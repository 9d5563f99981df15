//! The only clock of the trainer. It decides when a checkpoint and a line of the log are due, and it times benchmarks. No number of a trial
//! depends on it.

use std::time::Instant;

#[expect(
    clippy::disallowed_methods,
    reason = "it decides when a checkpoint is due and what logs and benchmarks say, never what a trial computes"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
