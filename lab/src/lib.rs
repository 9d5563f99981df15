//! Benchmarks, fault injection and deployment checks with real processes and real databases: what takes too long for tests. `cargo xtask
//! bench`, `chaos` and `acceptance` build and run it.

pub mod acceptance;
mod by_hand;
pub mod chaos;
mod crowd;
pub mod dispatch;
pub mod fleet;
mod floor;
pub mod idle;
pub mod place;
pub mod programs;
pub mod results;
pub mod train;
