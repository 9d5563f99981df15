//! The coordinator: the one process that opens the database. It turns sweep files into trials, assigns trials to workers under leases,
//! takes their reports, and answers questions about them.

mod callers;
pub mod clock;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc;
mod listener;
pub mod presence;
mod reaper;
pub mod server;
pub mod store;
