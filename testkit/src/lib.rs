//! Tools of tests, benchmarks and chaos runs: real processes that can be killed, a real PostgreSQL that can crash, and a network that can be
//! cut. Blocking calls and threads only, because callers may have no runtime. No released program depends on it.

pub mod certificates;
pub mod ports;
pub mod postgres;
pub mod processes;
pub mod programs;
pub mod proxy;
pub mod wait;
