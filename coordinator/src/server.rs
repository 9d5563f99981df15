//! Wiring: database, services, reaper, and an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sortie_access::{AccessError, Identity, Place, TokenDigest};
use sortie_artifacts::{ArtifactError, ArtifactStore};
use sortie_core::access::Role;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::callers::Callers;
use crate::grpc::{self, Coordinator, Offer};
use crate::listener::{self, Door, Listener};
use crate::store::{DatabaseUrl, Limits, NewToken, OpenOptions, Settings, Store, StoreError};
use crate::{presence, reaper};

/// How long requests that run may take to end once the server is asked to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long they may take once the database is lost: nothing is stored any more.
const LOSS_GRACE: Duration = Duration::from_secs(1);
/// How long an artifact store may take to answer at the start.
const STORE_ANSWERS: Duration = Duration::from_secs(30);

/// What a coordinator needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database.
    pub database: DatabaseUrl,
    /// What the user allows the database.
    pub options: OpenOptions,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What it proves, and whose tokens it knows; none to let everybody do everything, on connections that are not encrypted.
    pub identity: Option<Identity>,
    /// How long a lease lasts after a heartbeat.
    pub lease: Duration,
    /// How much is stored at most.
    pub limits: Limits,
    /// Where workers put what trials leave.
    pub artifacts: Artifacts,
}

/// Where workers put what trials leave besides their metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifacts {
    /// At this URL, which a user chose: a coordinator that cannot use it does not start.
    Chosen(String),
    /// At this URL by default: where it cannot be used, each worker keeps its artifacts on its own disk.
    Default(String),
    /// Each worker keeps its artifacts on its own disk.
    None,
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
    /// It has no certificate.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The artifact store cannot be used.
    #[error("{0}; name another with --store")]
    Artifacts(ArtifactError),
    /// A bug: the task that writes ended.
    #[error(
        "the task that writes to the database ended; what was acknowledged is safe, start again and report this"
    )]
    Writer,
}

/// It is not the source of the error: its text is a part of it already.
impl From<ArtifactError> for ServeError {
    fn from(error: ArtifactError) -> Self {
        Self::Artifacts(error)
    }
}

/// A coordinator that has its database and its port, and answers once it [`runs`](Server::run).
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    door: Option<Arc<Door>>,
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
        let callers = Arc::<Callers>::default();
        let door = config.identity.as_ref().map(|identity| Door::new(identity, Arc::clone(&callers)));
        let door = door.transpose()?.map(Arc::new);
        let listener = Listener::bind(address, listener::Limits::of_this_process(), door.clone()).await;
        let listener = listener.map_err(|error| ServeError::Listen { address, error })?;
        let identity = config.identity.as_ref().map(Identity::digest);
        let settings = Settings { lease: config.lease, limits: config.limits, identity };
        let store = Arc::new(Store::open(&config.database, &config.options, settings).await?);
        if let Some(identity) = &config.identity {
            let own = identity.digests();
            store.know_tokens(own.iter().map(|&(digest, role)| own_token(digest, role)).collect()).await?;
            callers.read(&store).await?;
            callers.warn_of_ended(&own);
        }
        if let Ok(address) = listener.address() {
            presence::announce(&config.database, &url(address, door.is_some())?);
        }
        let artifacts = match &config.artifacts {
            Artifacts::Chosen(url) => Some(mark(url).await?),
            Artifacts::Default(url) => {
                let warn = |error| tracing::warn!(%error, "no artifact store: each worker keeps checkpoints and artifacts on its own disk");
                mark(url).await.map_err(warn).ok()
            }
            Artifacts::None => None,
        };
        let (stop, stopping) = watch::channel(false);
        let coordinator = Arc::new(Coordinator { store, artifacts, callers, stopping });
        Ok(Self { listener, door, coordinator, stop })
    }

    /// The URL of the artifact store; none if there is none.
    pub fn artifacts(&self) -> Option<&str> {
        self.coordinator.artifacts.as_ref().map(|offer| offer.url.as_str())
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Its URL.
    ///
    /// # Errors
    /// What the system says.
    pub fn url(&self) -> Result<Place, ServeError> {
        let listening = self
            .address()
            .map_err(|error| ServeError::Listen { address: ([0, 0, 0, 0], 0).into(), error })?;
        url(listening, self.door.is_some())
    }

    /// Answers until `stop` ends; then lets what runs end, within a few seconds, and closes the database.
    ///
    /// # Errors
    /// [`ServeError::Writer`]; [`StoreError::Lost`] when the database is not any more what was opened: from then on nothing is
    /// acknowledged.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { listener, door, coordinator, stop: stopping } = self;
        let reaper = tokio::spawn(reaper::run(Arc::clone(&coordinator.store)));
        let following = {
            let coordinator = Arc::clone(&coordinator);
            tokio::spawn(async move { coordinator.callers.follow(&coordinator.store).await })
        };
        let renewal = door.map(|door| tokio::spawn(async move { door.renew().await }));
        let server = listener.serve(grpc::routes(&coordinator), stopping.subscribe());
        let mut server = std::pin::pin!(server);
        let ended = tokio::select! {
            () = &mut server => Ok(()),
            () = coordinator.store.ended() => return Err(ServeError::Writer),
            reason = coordinator.store.lost() => {
                // Who waits for an answer learns why there is none.
                stopping.send_replace(true);
                let _ = tokio::time::timeout(LOSS_GRACE, server).await;
                Err(StoreError::Lost(reason).into())
            }
            () = stop => {
                stopping.send_replace(true);
                let _ = tokio::time::timeout(STOP_GRACE, server).await;
                Ok(())
            }
        };
        reaper.abort();
        following.abort();
        renewal.iter().for_each(JoinHandle::abort);
        // A database that does not answer must not keep this process.
        let _ = tokio::time::timeout(STOP_GRACE, coordinator.store.close()).await;
        ended
    }
}

/// A token of a coordinator's identity, as it is stored at the first start: its name is its role.
fn own_token(digest: TokenDigest, role: Role) -> NewToken {
    NewToken { digest, name: role.to_string(), role, lasts: None }
}

/// The URL of an address. A socket's own address is one.
fn url(address: SocketAddr, is_encrypted: bool) -> Result<Place, ServeError> {
    Ok(Place { address: address.to_string().parse()?, is_encrypted })
}

/// Opens the artifact store and marks it, so that workers can tell whether they share it.
async fn mark(url: &str) -> Result<Offer, ArtifactError> {
    let store = ArtifactStore::create(url)?;
    // Unique is enough; it is no number of any trial.
    let new = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let slow = |_| ArtifactError::Slow { url: url.to_owned(), seconds: STORE_ANSWERS.as_secs() };
    let mark = tokio::time::timeout(STORE_ANSWERS, store.marked(new.trim())).await.map_err(slow)??;
    Ok(Offer { url: url.to_owned(), mark })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_whose_writer_ended_says_so_instead_of_refusing_for_ever() {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), listener::Limits::of_this_process(), None)
            .await
            .unwrap();
        let store = Arc::new(Store::without_writer(Settings::new(Duration::from_secs(10))));
        let (stop, stopping) = watch::channel(false);
        let server = Server {
            listener,
            door: None,
            coordinator: Arc::new(Coordinator { store, artifacts: None, callers: Arc::default(), stopping }),
            stop,
        };
        let ended =
            tokio::time::timeout(Duration::from_secs(60), server.run(std::future::pending())).await.unwrap();
        assert!(matches!(ended, Err(ServeError::Writer)), "{ended:?}");
    }
}
