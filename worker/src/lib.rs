//! A worker's agent: takes trials from the coordinator, runs each in a process of its own, and reports what happens to them. It never
//! opens the database and never calls libtorch, so that a fault in there ends a trial and not the worker.
//!
//! Reading order: [`run`] wires and decides when to stop; `connection` talks to the coordinator; `attempt` carries one lease from its
//! process (`process`) through its reports to its end; `launcher` starts trainers; `machine` knows devices and processes of this host;
//! `guard` runs a command so that nothing of it is left behind.

mod agent;
mod attempt;
mod config;
mod connection;
pub mod guard;
#[cfg(feature = "test-hooks")]
mod journal;
pub mod launcher;
mod machine;
mod observation;
mod process;
mod registration;
mod registry;
mod signals;
mod state_dir;
mod time_budget;

pub use agent::run;
pub use config::{AgentConfig, AgentError};
pub use observation::{Observation, Observer};
pub use signals::{Stop, stop_requests};
