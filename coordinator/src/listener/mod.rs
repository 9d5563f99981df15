//! The one port of a coordinator: gRPC and HTTP on the same connections, and every limit on what a peer may hold of this process before and
//! while it is served. Everything that arrives from the network passes here first.

mod accept;
mod admission;
mod body;
mod door;
mod http;
mod limits;
mod refusals;
#[cfg(test)]
mod tests;

pub(crate) use accept::Listener;
pub(crate) use door::Door;
pub(crate) use limits::Limits;
