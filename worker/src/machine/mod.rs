//! What this host has: devices, processes, kills for lack of memory.

pub(crate) mod oom;
pub(crate) mod processes;
