//! The versions that peers compare when they meet.

use crate::{API_VERSION, WireError, v1};

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
