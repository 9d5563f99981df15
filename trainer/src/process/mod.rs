//! The trial process: the child that the agent starts for each trial, so that a crash, a leak or a kill ends one trial and nothing else.

mod log;
mod serve;
mod sink;
mod watchdog;

pub use serve::run;
pub use sink::EventSink;
