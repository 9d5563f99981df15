//! Calls to the coordinator: the session, heartbeats, reports that are sent until they arrive.

pub(crate) mod backoff;
pub(crate) mod deliver;
pub(crate) mod heartbeat;
pub(crate) mod session;
