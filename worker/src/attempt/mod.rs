//! One attempt at a trial, from its lease to its end.

pub(crate) mod artifacts;
pub(crate) mod attempt_log;
pub(crate) mod checkpoints;
mod code;
mod device;
pub(crate) mod ending;
pub(crate) mod lease;
pub(crate) mod lifecycle;
pub(crate) mod log_head_tail;
mod orders;
pub(crate) mod outbox;
pub(crate) mod program;
pub(crate) mod spool;
pub(crate) mod time_limits;
