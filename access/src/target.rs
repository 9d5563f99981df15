//! The client's end of a connection.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::{InterceptedService, Service, http::Uri};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::{AccessError, AccessFile, Address, Place, SERVER_NAME, Token, certificates};

/// How long one address may take to answer, its handshake included.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A connection to a coordinator, which is made again whenever it is lost. Every request carries the token.
pub type Link = InterceptedService<Channel, Bearer>;

/// A coordinator, and what it has to prove before it gets a token.
#[derive(Clone, Debug)]
pub struct Target {
    /// In the order in which to try.
    addresses: Arc<[Address]>,
    tls: Option<Arc<ClientConfig>>,
    bearer: Bearer,
    /// The access file that it was read from: one with a newer token may come in its place.
    file: Option<(PathBuf, AccessFile)>,
}

impl Target {
    /// The coordinator of an access file.
    ///
    /// # Errors
    /// [`AccessError::Certificate`].
    pub fn new(file: &AccessFile) -> Result<Self, AccessError> {
        let mut roots = RootCertStore::empty();
        roots.add(certificates::read(&file.ca)?).map_err(AccessError::certificate)?;
        let config = ClientConfig::builder_with_provider(certificates::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(AccessError::certificate)?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            addresses: file.addresses.clone().into(),
            tls: Some(Arc::new(config)),
            bearer: Bearer::new(&file.token)?,
            file: None,
        })
    }

    /// A coordinator that proves nothing and gets no token.
    pub fn insecure(address: Address) -> Self {
        Self { addresses: [address].into(), tls: None, bearer: Bearer::default(), file: None }
    }

    /// The same, which was read from this file.
    pub fn read_from(self, path: PathBuf, file: AccessFile) -> Self {
        Self { file: Some((path, file)), ..self }
    }

    /// How many tokens this target has had.
    pub fn tokens_had(&self) -> u64 {
        self.bearer.read().had
    }

    /// The coordinator refused the token that a request had which began when so many had been had. Whether all links of this target have
    /// another one now: the access file, read again, may have a newer one of the same coordinator.
    pub fn has_newer(&self, had: u64) -> bool {
        if self.tokens_had() != had {
            return true;
        }
        let Some((path, known)) = &self.file else { return false };
        let Ok(read) = AccessFile::read(path) else { return false };
        let is_same = read.ca.trim() == known.ca.trim() && read.role == known.role;
        is_same && self.bearer.replace(&read.token)
    }

    /// The same coordinator at another address.
    pub fn at(self, address: Address) -> Self {
        Self { addresses: [address].into(), ..self }
    }

    /// Its addresses as URLs.
    pub fn shown(&self) -> String {
        let is_encrypted = self.tls.is_some();
        let urls =
            self.addresses.iter().map(|address| Place { address: address.clone(), is_encrypted }.to_string());
        urls.collect::<Vec<_>>().join(", ")
    }

    /// Connects.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn connect(&self) -> Result<Link, DialError> {
        let first = self.dial().await?;
        Ok(self.link(Endpoint::from_static("http://coordinator.sortie"), Some(first)))
    }

    /// Connects with the first request. An idle connection is probed so often.
    pub fn lazy(&self, keepalive: Duration) -> Link {
        let endpoint = Endpoint::from_static("http://coordinator.sortie")
            .http2_keep_alive_interval(keepalive)
            .keep_alive_timeout(keepalive)
            .keep_alive_while_idle(true);
        self.link(endpoint, None)
    }

    fn link(&self, endpoint: Endpoint, first: Option<Stream>) -> Link {
        let connector = Connector { target: self.clone(), first: Arc::new(Mutex::new(first)) };
        InterceptedService::new(endpoint.connect_with_connector_lazy(connector), self.bearer.clone())
    }

    /// Tries one address after the other.
    async fn dial(&self) -> Result<Stream, DialError> {
        let mut failed = None;
        for address in self.addresses.iter() {
            let dialled = tokio::time::timeout(CONNECT_MAX, self.dial_one(address)).await;
            match dialled.unwrap_or_else(|_| Err(Failure::Unreachable("no answer".to_owned()))) {
                Ok(stream) => return Ok(stream),
                // An address that may answer later decides: the right one may be restarting.
                Err(failure) => {
                    failed = match (failed, failure) {
                        (Some(Failure::Unreachable(reason)), _) => Some(Failure::Unreachable(reason)),
                        (_, failure) => Some(failure),
                    }
                }
            }
        }
        let at = self.shown();
        Err(match failed {
            Some(Failure::Untrusted) => DialError::Untrusted(at),
            Some(Failure::Plain) => DialError::Plain(at),
            Some(Failure::Unreachable(reason)) => DialError::Unreachable { at, reason },
            None => DialError::Unreachable { at, reason: "it has no address".to_owned() },
        })
    }

    async fn dial_one(&self, address: &Address) -> Result<Stream, Failure> {
        let unreachable = |error: io::Error| Failure::Unreachable(error.to_string());
        let stream = TcpStream::connect(address.as_str()).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        // The name is a constant that is one.
        let name =
            ServerName::try_from(SERVER_NAME).map_err(|error| Failure::Unreachable(error.to_string()))?;
        match TlsConnector::from(Arc::clone(config)).connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                Err(match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
                    Some(rustls::Error::InvalidCertificate(error)) if is_of_time(error) => {
                        let reason = "its certificate is not valid at this machine's time: set the clocks of both machines";
                        Failure::Unreachable(reason.to_owned())
                    }
                    Some(rustls::Error::InvalidCertificate(_)) => Failure::Untrusted,
                    Some(rustls::Error::InvalidMessage(_)) => Failure::Plain,
                    _ => unreachable(error),
                })
            }
        }
    }
}

/// Whether a certificate is refused for the time that this machine has.
fn is_of_time(error: &CertificateError) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(error, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

/// Why one address did not do.
enum Failure {
    Unreachable(String),
    Untrusted,
    Plain,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing answers; a later try may succeed.
    #[error("cannot reach the coordinator at {at}: {reason}")]
    Unreachable {
        /// Where.
        at: String,
        /// What the system says.
        reason: String,
    },
    /// It got no token.
    #[error(
        "the server at {0} is not the coordinator of the access file: its certificate is signed by another CA, so it got no token; name the right file with --access"
    )]
    Untrusted(String),
    /// It got no token.
    #[error(
        "the server at {0} does not speak TLS; a coordinator that was started with --insecure is http:// and needs --insecure here, too"
    )]
    Plain(String),
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Stream = Box<dyn Io>;

/// Makes connections for a channel.
struct Connector {
    target: Target,
    /// One that was made already.
    first: Arc<Mutex<Option<Stream>>>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let target = self.target.clone();
        Box::pin(async move {
            let stream = match first {
                Some(stream) => stream,
                None => target.dial().await?,
            };
            Ok(TokioIo::new(stream))
        })
    }
}

/// Adds the token to requests. All clones have the same.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Arc<RwLock<Held>>);

/// A token, if there is one, and how many there were.
#[derive(Debug, Default)]
struct Held {
    had: u64,
    value: Option<MetadataValue<Ascii>>,
}

impl Bearer {
    fn new(token: &Token) -> Result<Self, AccessError> {
        Ok(Self(Arc::new(RwLock::new(Held { had: 1, value: Some(header(token)?) }))))
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the token is another one than before.
    fn replace(&self, token: &Token) -> bool {
        let Ok(new) = header(token) else { return false };
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = held.value.as_ref() != Some(&new);
        if is_other {
            *held = Held { had: held.had + 1, value: Some(new) };
        }
        is_other
    }
}

fn header(token: &Token) -> Result<MetadataValue<Ascii>, AccessError> {
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {}", token.reveal()).parse().map_err(AccessError::certificate)?;
    value.set_sensitive(true);
    Ok(value)
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.read().value {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use sortie_core::access::Role;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{Identity, TlsServer};

    /// A server of an identity that says a word to everyone; one that speaks no TLS where there is none.
    async fn server(identity: Option<&Identity>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let tls = identity.map(|identity| TlsServer::new(identity, time()).unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                match &tls {
                    Some(tls) => {
                        tls.renew(time()).unwrap();
                        if let Ok(mut stream) = tls.accept(stream).await {
                            let _ = stream.write_all(b"hello").await;
                            let _ = stream.shutdown().await;
                        }
                    }
                    None => drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await),
                }
            }
        });
        address
    }

    #[expect(clippy::disallowed_methods, reason = "certificates are checked by the system's clock")]
    fn time() -> SystemTime {
        SystemTime::now()
    }

    async fn said(identity: &Identity, addresses: Vec<Address>) -> Result<String, DialError> {
        let target = Target::new(&identity.access(Role::Worker, addresses)).unwrap();
        let mut text = String::new();
        target.dial().await?.read_to_string(&mut text).await.unwrap();
        Ok(text)
    }

    #[tokio::test]
    async fn only_a_server_of_the_files_own_ca_is_talked_to() {
        let (ours, other) = (Identity::new().unwrap(), Identity::new().unwrap());
        let (right, wrong, plain) =
            (server(Some(&ours)).await, server(Some(&other)).await, server(None).await);
        let nobody: Address = "127.0.0.1:1".parse().unwrap();
        assert_eq!(said(&ours, vec![right.clone()]).await.unwrap(), "hello");
        let error = said(&ours, vec![wrong.clone()]).await.unwrap_err();
        assert!(matches!(error, DialError::Untrusted(_)), "{error}");
        let error = said(&ours, vec![plain.clone()]).await.unwrap_err();
        assert!(matches!(error, DialError::Plain(_)), "{error}");
        let error = said(&ours, vec![wrong.clone(), nobody.clone()]).await.unwrap_err();
        assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
        // Whatever listens at the first addresses, the right one is found.
        assert_eq!(said(&ours, vec![nobody, plain, wrong, right]).await.unwrap(), "hello");
    }

    #[test]
    fn a_newer_token_is_taken_from_the_file_and_that_of_another_coordinator_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.toml");
        let identity = Identity::new().unwrap();
        let file = identity.access(Role::Worker, vec!["a:1".parse().unwrap()]);
        let target = Target::new(&file).unwrap();
        assert!(!target.has_newer(target.tokens_had()));
        let target = target.read_from(path.clone(), file.clone());
        let mut bearer = target.bearer.clone();
        let mut sent = || bearer.call(Request::new(())).unwrap().metadata().get("authorization").cloned();
        let first = sent();
        let newer = AccessFile { token: Token::new().unwrap(), ..file.clone() };
        let other = Identity::new().unwrap().access(Role::Worker, file.addresses.clone());
        let reader = AccessFile { role: Role::Reader, ..newer.clone() };
        for (stored, is_taken) in
            [(&file, false), (&other, false), (&reader, false), (&newer, true), (&newer, false)]
        {
            crate::private::write(&path, &stored.text()).unwrap();
            assert_eq!(target.has_newer(target.tokens_had()), is_taken, "{stored:?}");
        }
        // A request that began with the first token need not look.
        assert!(target.has_newer(1));
        assert!(first.is_some() && sent() != first);
    }

    #[test]
    fn a_token_is_not_shown() {
        let identity = Identity::new().unwrap();
        let file = identity.access(Role::Operator, vec!["a:1".parse().unwrap(), "b:2".parse().unwrap()]);
        let target = Target::new(&file).unwrap();
        assert!(!format!("{target:?}").contains(&file.token.reveal()[7..]));
        assert_eq!(target.shown(), "https://a:1, https://b:2");
    }
}
