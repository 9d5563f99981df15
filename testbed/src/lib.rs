//! What tests, benchmarks and chaos runs need around the system: real processes that can be killed. Blocking calls and threads only, for
//! whoever needs it may or may not have a runtime. Nothing that ships depends on it.

pub mod processes;
pub mod programs;
pub mod wait;
