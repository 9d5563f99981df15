//! The identity of this user's coordinators, and the files by which their programs find them.

use std::net::SocketAddr;

use anyhow::Result;
use sortie_access::{Address, DEFAULT_COORDINATOR, Identity, Place, Published};

use crate::folders;

/// The identity of a coordinator that a command runs for itself. Where none can be stored, it has one of its own.
///
/// # Errors
/// One line: a certificate cannot be made.
pub fn of_run() -> Result<Identity> {
    let state = folders::access();
    let address = DEFAULT_COORDINATOR.parse::<Place>()?.address;
    let stored = state.identity_or_new().and_then(|identity| {
        // Another command may join this one, and looks there.
        state.publish(&identity, &[address], false).map(|_| identity)
    });
    Ok(match stored {
        Ok(identity) => identity,
        Err(error) => {
            tracing::debug!(%error, "no identity is stored");
            Identity::new()?
        }
    })
}

/// Names a coordinator in the access files, for as long as the result is held.
///
/// # Errors
/// One line: they cannot be written.
pub fn publish(identity: &Identity, addresses: &[Address]) -> Result<Published> {
    let published = folders::access().publish(identity, addresses, true)?;
    match &published {
        Published::Here(_) => {}
        Published::Another => tracing::warn!(
            "the access files name another coordinator of this user, which runs; reach this one by --coordinator"
        ),
        Published::Foreign(path, _) => tracing::warn!(
            file = %path.display(),
            "this access file was imported and stays as it is; `sortie access show --own` prints one of this coordinator, for --access"
        ),
    }
    Ok(published)
}

/// Where others find a coordinator that listens there.
///
/// # Errors
/// One line: this machine's name is none of the network.
pub fn addresses(listening: SocketAddr) -> Result<Vec<Address>> {
    if !listening.ip().is_unspecified() {
        return Ok(vec![listening.to_string().parse()?]);
    }
    let port = listening.port();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(vec![format!("127.0.0.1:{port}").parse()?, format!("{host}:{port}").parse()?])
}
