//! The loop of every command that waits for a sweep or watches it.

use std::time::Duration;

use anyhow::Result;
use sortie_proto::v1::SweepStatus;

use crate::connection::{ClientError, RetryingClient};

/// The time between two requests, unless a watcher says otherwise.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// A command's part of the loop.
pub trait Watcher {
    /// The value that ends the loop.
    type End;

    /// Takes the progress of the sweeps. A value ends the loop.
    ///
    /// # Errors
    /// End the loop too.
    fn see(&mut self, sweeps: Vec<SweepStatus>) -> Result<Option<Self::End>>;

    /// Takes note of a transient failure, before the request is repeated.
    ///
    /// # Errors
    /// End the loop instead.
    fn outage(&mut self, error: ClientError) -> Result<(), ClientError>;

    /// Waits before the next request. A value ends the loop.
    ///
    /// # Errors
    /// End the loop too.
    async fn pause(&mut self) -> Result<Option<Self::End>> {
        tokio::time::sleep(INTERVAL).await;
        Ok(None)
    }
}

/// Asks for the progress of a sweep, or of all, until the watcher ends that.
///
/// # Errors
/// One line: the coordinator refuses, or the watcher fails.
pub async fn poll<W: Watcher>(
    client: &mut RetryingClient<'_>,
    sweep: Option<&str>,
    watcher: &mut W,
) -> Result<W::End> {
    loop {
        let sweeps = client.status(sweep, |error| watcher.outage(error)).await?;
        if let Some(end) = watcher.see(sweeps)? {
            return Ok(end);
        }
        if let Some(end) = watcher.pause().await? {
            return Ok(end);
        }
    }
}
