//! The agent: takes trials from the coordinator, runs each in a process of its own, and tells what happens to them. It never calls
//! libtorch, so that a fault in there ends a trial and not the worker.
//!
//! Reading order: [`run`](fn@run) wires and decides when to stop; `session` is the connection; `heartbeat` says that attempts are
//! alive; `attempt` carries one lease from its process (`child`) through its reports (`outbox`, `deliver`) to its end (`ending`).

mod attempt;
mod attempt_log;
mod backoff;
mod child;
mod config;
mod deliver;
mod ending;
mod heartbeat;
mod lines;
mod outbox;
mod registry;
mod run;
mod session;
mod signals;
mod slots;

pub use config::{AgentConfig, AgentError};
pub use run::run;
pub use signals::{Stop, stop_requests};
pub use slots::{DeviceSelection, Slot, plan, visible_gpus};
