//! Wiring: database, services, reaper, and an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;

use crate::clock::SystemClock;
use crate::grpc::{self, Coordinator};
use crate::reaper;
use crate::store::{OpenOptions, Settings, Store, StoreError};

/// How long requests that run may take to end once the server is asked to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// Connections whose other end vanished are noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What a coordinator needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// `sqlite://PATH` or `postgres://...`.
    pub database: String,
    /// What the user allows the database.
    pub options: OpenOptions,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether to listen beyond loopback, although nothing protects the traffic yet.
    pub insecure: bool,
    /// How long a lease lasts after a heartbeat.
    pub lease: Duration,
}

/// Why a coordinator did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address is taken, not this machine's, or not allowed.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The address is reachable from other machines.
    #[error(
        "{0} can be reached from other machines, and connections are neither encrypted nor authenticated yet: listen on 127.0.0.1, or add --insecure on a network that you trust"
    )]
    Exposed(SocketAddr),
    /// A bug: the task that writes ended.
    #[error("the task that writes to the database ended; what was acknowledged is safe, start again and report this")]
    Writer,
    /// The transport failed.
    #[error("server: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A coordinator that has its database and its port, and answers once it [`runs`](Server::run).
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    coordinator: Arc<Coordinator>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Opens the database and the port.
    ///
    /// # Errors
    /// [`ServeError`], one line that says what to do.
    pub async fn open(config: &Config) -> Result<Self, ServeError> {
        let address = config.listen;
        if !address.ip().is_loopback() && !config.insecure {
            return Err(ServeError::Exposed(address));
        }
        let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, error })?;
        let settings = Settings { lease: config.lease };
        let store = Arc::new(Store::open(&config.database, &config.options, settings, Arc::new(SystemClock)).await?);
        let (stop, stopping) = watch::channel(false);
        let coordinator = Arc::new(Coordinator { store, stopping });
        Ok(Self { listener, coordinator, stop })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` ends; then lets what runs end, within a few seconds, and closes the database.
    ///
    /// # Errors
    /// [`ServeError::Transport`].
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { listener, coordinator, stop: stopping } = self;
        let reaper = tokio::spawn(reaper::run(Arc::clone(&coordinator.store)));
        let mut asked_to_stop = stopping.subscribe();
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .tcp_nodelay(true)
            .add_routes(grpc::routes(&coordinator))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                // An error means that the sender is gone: then there is nothing to wait for either.
                let _ = asked_to_stop.wait_for(|&stop| stop).await;
            });
        let mut server = std::pin::pin!(server);
        let ended = tokio::select! {
            ended = &mut server => ended,
            () = coordinator.store.ended() => return Err(ServeError::Writer),
            () = stop => {
                stopping.send_replace(true);
                tokio::time::timeout(STOP_GRACE, server).await.unwrap_or(Ok(()))
            }
        };
        reaper.abort();
        // A database that does not answer must not keep this process.
        let _ = tokio::time::timeout(STOP_GRACE, coordinator.store.close()).await;
        Ok(ended?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_whose_writer_ended_says_so_instead_of_refusing_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Arc::new(Store::without_writer(Settings { lease: Duration::from_secs(10) }, Arc::new(SystemClock)));
        let (stop, stopping) = watch::channel(false);
        let server = Server { listener, coordinator: Arc::new(Coordinator { store, stopping }), stop };
        let ended = tokio::time::timeout(Duration::from_secs(60), server.run(std::future::pending())).await.unwrap();
        assert!(matches!(ended, Err(ServeError::Writer)), "{ended:?}");
    }
}
