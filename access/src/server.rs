//! The server's end of a connection.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::identity::Key;
use crate::{AccessError, Identity, certificates};

/// An encrypted connection.
pub type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// What a coordinator proves who it is by. Its own key never is on a disk: each process makes one.
#[derive(Clone)]
pub struct TlsServer {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
    ca_key: Key,
}

/// The certificate of the moment.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl TlsServer {
    /// With a certificate that the identity's CA signs.
    ///
    /// # Errors
    /// [`AccessError::Certificate`].
    pub fn new(identity: &Identity, now: SystemTime) -> Result<Self, AccessError> {
        let provider = certificates::provider();
        let current = Arc::new(Current(RwLock::new(certified(&identity.key, &provider, now)?)));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(AccessError::certificate)?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::clone(&current) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), current, ca_key: identity.key.clone() })
    }

    /// Makes a new certificate for the connections that come from now on.
    ///
    /// # Errors
    /// [`AccessError::Certificate`]; the old one stays.
    pub fn renew(&self, now: SystemTime) -> Result<(), AccessError> {
        let renewed = certified(&self.ca_key, &certificates::provider(), now)?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// The handshake.
    ///
    /// # Errors
    /// The client speaks no TLS 1.3, or does not trust the certificate.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream> {
        self.acceptor.accept(stream).await
    }
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsServer")
    }
}

fn certified(
    ca_key: &Key,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Arc<CertifiedKey>, AccessError> {
    let (certificate, key) = certificates::new_server(&ca_key.0, now)?;
    let key = provider.key_provider.load_private_key(key).map_err(AccessError::certificate)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
}
