//! What tests, benchmarks and chaos runs need around the system: real processes that can be killed, a real PostgreSQL that can crash, and
//! a network that can be cut. Blocking calls and threads only, for whoever needs it may or may not have a runtime. Nothing that ships
//! depends on it.

pub mod ports;
pub mod postgres;
pub mod processes;
pub mod programs;
pub mod proxy;
pub mod wait;
