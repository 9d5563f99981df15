//! A worker's agent: takes trials from the coordinator, runs each in a process of its own, and reports what happens to them. It never
//! opens the database and never calls libtorch, so that a crash in libtorch ends a trial and not the worker.
//!
//! Reading order: [`run`] is the main loop and decides when to stop; `connection` calls the coordinator; `attempt` runs one lease: its
//! process (`process`), its reports and its end; `launcher` starts trainers; `machine` reads processes and memory of this host;
//! `guard` runs a command so that nothing of it is left behind.

mod agent;
mod attempt;
mod config;
mod connection;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
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
mod slots;
mod state_dir;
mod time_budget;

pub use agent::run;
pub use config::{AgentConfig, AgentError};
pub use observation::{Observation, Observer};
pub use signals::{Stop, StopSignals, stop_requests, stop_signals};
