//! Names that both ends of a connection know.

/// The name in every server's certificate: addresses, tunnels and service names never matter.
pub const SERVER_NAME: &str = "coordinator.sortie";
/// A coordinator's URL as users write it.
pub const DEFAULT_COORDINATOR: &str = "https://127.0.0.1:7070";
