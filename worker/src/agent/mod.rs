//! The agent: takes trials from the coordinator, runs each in a process of its own, and tells what happens to them. It never calls
//! libtorch, so that a fault in there ends a trial and not the worker.
//!
//! Reading order: [`run`](fn@run) wires and decides when to stop; `session` is the connection; `heartbeat` says that attempts are
//! alive; `attempt` carries one lease from its process (`launch`, `child`, `metric_lines`) through its reports (`outbox`, `spool`,
//! `deliver`) to its end (`ending`). `artifacts` finds out whether checkpoints
//! can be shared; `home` is the agent's folder on disk, `journal` notes for tests what was acknowledged, `time_budget` knows what may still be started.

mod artifacts;
mod attempt;
mod attempt_log;
mod backoff;
mod child;
mod config;
mod deliver;
mod ending;
mod excerpt;
mod gpu_memory;
mod heartbeat;
mod home;
mod introduction;
mod journal;
mod launch;
mod lines;
mod metric_lines;
mod oom;
mod outbox;
mod processes;
mod registry;
mod run;
mod session;
mod signals;
mod slots;
mod spool;
mod time_budget;

pub use config::{AgentConfig, AgentError};
pub use gpu_memory::smallest_gpu_gib;
pub use run::run;
pub use signals::{Stop, stop_requests};
pub use slots::{DeviceSelection, Slot, plan, visible_gpus};
