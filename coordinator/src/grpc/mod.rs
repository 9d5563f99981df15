//! The two services, thin: wire to core, one call into the store, core to wire.

mod coordinator;
mod logs;
mod pins;
mod refusal;
mod request;
mod routes;
mod sweep;
mod wire;
mod worker;

pub(crate) use coordinator::{Coordinator, Offer};
pub(crate) use routes::routes;
