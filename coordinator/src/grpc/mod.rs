//! The services, thin: wire to core, one call into the store, core to wire.

mod access;
mod coordinator;
mod logs;
mod pins;
mod progress;
mod refusal;
mod request;
mod routes;
mod sweep;
mod wire;
mod worker;

pub(crate) use coordinator::{Coordinator, Offer};
pub(crate) use routes::routes;
