//! The flags that every command has.

use sortie_proto::endpoint::DEFAULT_COORDINATOR;

/// Where the coordinator is.
#[derive(Debug, clap::Args)]
pub struct Connection {
    /// The coordinator to talk to.
    #[arg(long, global = true, env = "SORTIE_COORDINATOR", default_value = DEFAULT_COORDINATOR, value_name = "URL")]
    pub coordinator: String,
    /// Allow connections to and from other machines, although they are neither encrypted nor authenticated yet.
    #[arg(long, global = true, env = "SORTIE_INSECURE")]
    pub insecure: bool,
}
