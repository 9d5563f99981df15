//! Processes of this host, kills for lack of memory, what trials need of it, and which machine it is.

pub(crate) mod identity;
pub(crate) mod oom;
pub(crate) mod prerequisites;
pub(crate) mod processes;
