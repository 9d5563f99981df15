//! Processes of this host, and kills for lack of memory.

pub(crate) mod oom;
pub(crate) mod processes;
