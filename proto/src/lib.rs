//! The protocol between coordinator, workers and tools: generated code and the conversions between wire and [`sortie_core`] types.
//! The comments in `sortie/v1/*.proto` are the contract.

mod convert;
pub mod endpoint;

pub use convert::WireError;

/// Version 1 of the protocol.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::large_enum_variant,
    unused_qualifications,
    reason = "generated; the .proto files document it"
)]
pub mod v1 {
    tonic::include_proto!("sortie.v1");
}

/// Raised whenever an older peer would misunderstand a newer one. Both sides refuse any other number.
pub const API_VERSION: u32 = 3;

/// The largest message that either side accepts, in bytes. Batches and chunks are kept far below it.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

impl v1::Version {
    /// How this build names itself.
    pub fn ours(software: &str) -> Self {
        Self { api_version: API_VERSION, software: format!("{software} {}", env!("CARGO_PKG_VERSION")) }
    }

    /// Checks a peer's version.
    ///
    /// # Errors
    /// One line that names both versions.
    pub fn check(peer: Option<&Self>) -> Result<(), WireError> {
        let (api_version, software) =
            peer.map_or((0, "an unknown peer"), |peer| (peer.api_version, peer.software.as_str()));
        if api_version == API_VERSION {
            return Ok(());
        }
        Err(WireError::Version { peer: software.to_owned(), theirs: api_version })
    }
}
