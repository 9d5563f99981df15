//! Processes of this host, kills for lack of memory, and which machine it is.

pub(crate) mod identity;
pub(crate) mod oom;
pub(crate) mod processes;
