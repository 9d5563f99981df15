//! Tools of tests, benchmarks and chaos runs: real processes that can be killed, a real PostgreSQL that can crash, a network that can be
//! cut, and the sync time of a disk. Blocking calls and threads only, because callers may have no runtime. No released program depends
//! on it.

pub mod disk;
pub mod ports;
pub mod postgres;
pub mod processes;
pub mod programs;
pub mod proxy;
pub mod wait;
