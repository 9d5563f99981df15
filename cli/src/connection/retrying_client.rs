//! A client that outlives a coordinator.

use std::time::Duration;

use sortie_proto::v1;

use super::error::Answer;
use super::{Client, ClientError, Connection};

/// The first pause before a request is repeated, doubled every further time, and the longest one.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A client that reconnects when the coordinator restarts, for commands that run as long as a sweep.
pub struct RetryingClient<'a> {
    connection: &'a Connection,
    client: Client,
}

impl<'a> RetryingClient<'a> {
    /// Connects. This first call does not retry, since an unreachable coordinator probably means a wrong URL.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(connection: &'a Connection) -> Answer<Self> {
        Ok(Self { connection, client: Client::connect(connection).await? })
    }

    /// The same with a client that is connected.
    pub fn new(connection: &'a Connection, client: Client) -> Self {
        Self { connection, client }
    }

    /// The progress of sweeps. After each transient failure it asks `outage` and, unless that refuses, retries.
    ///
    /// # Errors
    /// [`ClientError`]; a transient one only from `outage`.
    pub async fn status(
        &mut self,
        sweep: Option<&str>,
        mut outage: impl FnMut(ClientError) -> Answer<()>,
    ) -> Answer<Vec<v1::SweepStatus>> {
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.client.status(sweep).await {
                Err(error) if error.is_transient() => error,
                answer => return answer,
            };
            outage(error)?;
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
            // Another build may answer now, so the handshake is repeated.
            match Client::connect(self.connection).await {
                Ok(client) => self.client = client,
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
        }
    }
}
