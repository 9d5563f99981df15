//! The flags that every command has.

use sortie_proto::endpoint::{BadEndpoint, DEFAULT_COORDINATOR, coordinator_uri};
use tonic::transport::Uri;

use crate::hidden::Hidden;

/// Where the coordinator is.
#[derive(Debug, clap::Args)]
pub struct Connection {
    /// The coordinator to talk to.
    #[arg(long, global = true, env = "SORTIE_COORDINATOR", default_value = DEFAULT_COORDINATOR, value_name = "URL")]
    pub coordinator: Hidden,
    /// Allow connections to and from other machines, although they are neither encrypted nor authenticated yet.
    #[arg(long, global = true, env = "SORTIE_INSECURE")]
    pub insecure: bool,
}

impl Connection {
    /// The coordinator's URL, which may be shown: one with a password is refused.
    ///
    /// # Errors
    /// [`BadEndpoint`].
    pub fn uri(&self) -> Result<Uri, BadEndpoint> {
        coordinator_uri(self.coordinator.reveal(), self.insecure)
    }
}
