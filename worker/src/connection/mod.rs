//! Calls to the coordinator: the session, heartbeats, reports that are sent until they arrive.

pub(crate) mod deliver;
pub(crate) mod heartbeat;
pub(crate) mod retry;
pub(crate) mod session;
