//! Accepting connections and serving them.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use sortie_core::access::Caller;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::codegen::Service as _;

use super::admission::{Admission, Admitted};
use super::body::Budget;
use super::door::{Door, check_call};
use super::http;
use super::limits::{self, Limits};
use super::refusals::Refusals;
use crate::callers::NoCaller;

/// A port, and the limits of what connects to it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    limits: Limits,
    door: Option<Arc<Door>>,
}

impl Listener {
    /// Takes the port; port 0 takes a free one. Without a door everybody may do everything, on connections that are not encrypted.
    pub(crate) async fn bind(
        address: SocketAddr,
        limits: Limits,
        door: Option<Arc<Door>>,
    ) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, limits, door })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers until `stopping` is true, and then until the requests that run have ended. Dropping it ends all connections at once.
    pub(crate) async fn serve(self, grpc: tonic::service::Routes, stopping: watch::Receiver<bool>) {
        let Self { socket, limits, door } = self;
        let admission = Admission::new(&limits);
        let server = Arc::new(Connections {
            grpc: grpc.prepare().into_axum_router(),
            http: http::routes(stopping.clone()),
            builder: builder(&limits),
            budget: Budget::new(&limits),
            limits,
            door,
            refusals: Refusals::default(),
        });
        let mut connections = JoinSet::new();
        let mut said = Said::default();
        let mut stop = stopping.clone();
        let mut stop = pin!(told_to_stop(&mut stop));
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => match admission.admit(peer.ip().to_canonical()) {
                        Some(admitted) => {
                            let server = Arc::clone(&server);
                            connections.spawn(server.serve(peer.ip(), stream, admitted, stopping.clone()));
                        }
                        None => said.warn(|| tracing::warn!(address = %peer.ip(), "too many connections: new ones are closed")),
                    },
                    // The peer gave up before it was served.
                    Err(error) if is_of_peer(&error) => {}
                    Err(error) => {
                        said.warn(|| tracing::warn!(%error, "cannot accept connections"));
                        admission.evict_oldest();
                        tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // Who connects from now on is refused at once.
        drop(socket);
        while connections.join_next().await.is_some() {}
    }
}

/// Returns when the server is told to stop.
async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: then there is nothing to wait for either.
    let _ = stopping.wait_for(|&stop| stop).await;
}

fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits::KEEPALIVE)
        .keep_alive_timeout(limits::KEEPALIVE)
        .max_concurrent_streams(limits::STREAMS_MAX)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_header_list_size(limits::HEAD_BYTES_MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.first_request)
        .max_buf_size(limits::HEAD_BYTES_MAX as usize);
    builder
}

/// What all connections share.
#[derive(Debug)]
struct Connections {
    grpc: Router,
    http: Router,
    builder: Builder<TokioExecutor>,
    budget: Budget,
    limits: Limits,
    door: Option<Arc<Door>>,
    refusals: Refusals,
}

impl Connections {
    /// Serves a connection to its end. One that makes no request in time, or has to give way before, is closed.
    async fn serve(
        self: Arc<Self>,
        peer: IpAddr,
        stream: TcpStream,
        admitted: Admitted,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut silence = pin!(async {
            let _ = tokio::time::timeout(self.limits.first_request, admitted.evicted()).await;
        });
        // A connection costs nothing before its first byte.
        tokio::select! {
            readable = stream.readable() => if readable.is_err() { return },
            () = &mut silence => return,
            () = told_to_stop(&mut stopping) => return,
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection without TCP_NODELAY");
        }
        let Some(door) = &self.door else {
            return self.serve_requests(peer, stream, &admitted, silence, stopping).await;
        };
        let handshake = async {
            admitted.wait_for_turn().await;
            door.accept(stream).await
        };
        let encrypted = tokio::select! {
            encrypted = handshake => encrypted,
            () = &mut silence => return,
            () = told_to_stop(&mut stopping) => return,
        };
        match encrypted {
            Ok(stream) => self.serve_requests(peer, stream, &admitted, silence, stopping).await,
            Err(error) => tracing::debug!(%error, "a connection that is not encrypted as ours are"),
        }
    }

    /// Serves what comes over a connection, until `silence` is over if nothing has come until then.
    async fn serve_requests(
        &self,
        peer: IpAddr,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        admitted: &Admitted,
        mut silence: Pin<&mut impl Future<Output = ()>>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let service = service_fn(|request: Request<Incoming>| self.answer(peer, admitted, request));
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        let (mut is_silent, mut is_stopping) = (true, false);
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::trace!(%error, "a connection broke");
                    }
                    return;
                }
                () = &mut silence, if is_silent => {
                    if admitted.is_silent() {
                        return;
                    }
                    is_silent = false;
                }
                () = told_to_stop(&mut stopping), if !is_stopping => {
                    if admitted.is_silent() {
                        return;
                    }
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    /// Answers a request, by its kind. Only one that needed no token, where none is asked for, or had one makes the connection one that has spoken.
    fn answer(
        &self,
        peer: IpAddr,
        admitted: &Admitted,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
        let caller = self.door.as_ref().map_or(Ok(Caller::Anybody), |door| door.caller(request.headers()));
        let kind = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let refused = if is_grpc {
            self.refuse_call(peer, &caller, request.uri().path())
        } else {
            let is_allowed = caller.is_ok() || http::is_open(request.uri().path());
            (!is_allowed).then(http::unauthorized)
        };
        let answer = match refused {
            Some(refusal) => {
                if caller.is_err() {
                    admitted.refuse();
                }
                Err(refusal)
            }
            None => {
                // Who asks without a token how the coordinator is holds no place by that.
                if let Ok(caller) = caller {
                    admitted.has_spoken();
                    request.extensions_mut().insert(caller);
                }
                let mut router = if is_grpc { self.grpc.clone() } else { self.http.clone() };
                Ok(router.call(request.map(|body| self.budget.body(body))))
            }
        };
        async {
            match answer {
                Ok(answer) => answer.await,
                Err(refusal) => Ok(refusal),
            }
        }
    }

    /// The refusal of a call that its caller may not make.
    fn refuse_call(
        &self,
        peer: IpAddr,
        caller: &Result<Caller, NoCaller>,
        path: &str,
    ) -> Option<Response<Body>> {
        let refusal = check_call(caller, path).err()?;
        self.refusals.note(peer, caller.as_ref().unwrap_or(&Caller::Anybody), refusal.message());
        Some(refusal.into_http())
    }
}

/// Says something again only after a while.
#[derive(Debug, Default)]
struct Said(Option<Instant>);

impl Said {
    fn warn(&mut self, warn: impl FnOnce()) {
        let now = Instant::now();
        if self.0.is_none_or(|last| now >= last + limits::LOG_INTERVAL) {
            self.0 = Some(now);
            warn();
        }
    }
}
