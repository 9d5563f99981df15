//! What is run beside a build rather than in its tests: benchmarks of the coordinator, and what becomes of a sweep when everything around
//! it fails, with real processes and real databases. `cargo xtask bench` and `cargo xtask chaos` build and call it.

mod by_hand;
pub mod chaos;
mod crowd;
pub mod dispatch;
pub mod fleet;
mod floor;
pub mod idle;
pub mod place;
pub mod results;
