//! The listener on a real socket. Time limits are short where a test waits for one to be over, and far longer than a busy machine needs
//! where it must not be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Limits, Listener};
use crate::grpc::{self, Coordinator};
use crate::store::{Settings, Store};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);
const HANDSHAKE: &str = "POST /sortie.v1.SweepService/Handshake HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\nte: trailers\r\n";

fn limits() -> Limits {
    Limits {
        connections: 100,
        connections_per_address: 100,
        first_request: LONG,
        request_body: LONG,
        body_bytes: 1 << 20,
    }
}

/// A listener of a coordinator, until it is told to stop.
struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(limits: Limits) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), limits, None).await.unwrap();
        let address = listener.address().unwrap();
        let (stop, stopping) = watch::channel(false);
        let store = Arc::new(Store::without_writer(Settings::new(LONG)));
        let coordinator = Arc::new(Coordinator {
            store,
            artifacts: None,
            callers: Arc::default(),
            stopping: stopping.clone(),
        });
        let task = tokio::spawn(listener.serve(grpc::routes(&coordinator), stopping));
        Self { address, stop, task }
    }

    /// A connection that has sent these bytes.
    async fn connect(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    /// The answer to these bytes, until the connection is closed.
    async fn answer(&self, bytes: &str) -> String {
        said(self.connect(bytes).await).await
    }

    async fn get(&self, path: &str) -> String {
        self.answer(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }
}

/// What a connection says until it is closed.
async fn said(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ =
        tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn without_tokens_every_path_that_there_is_is_answered() {
    let running = Running::start(limits()).await;
    for (path, status) in
        [("/healthz", "200"), ("/readyz", "200"), ("/", "404"), ("/metrics", "404"), ("/healthz/x", "404")]
    {
        let answer = running.get(path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn silent_connections_give_way_to_new_clients() {
    let running = Running::start(Limits { connections: 4, ..limits() }).await;
    let mut silent = Vec::new();
    for count in 0..20 {
        // Some have sent the beginning of a request.
        silent.push(running.connect(["", "GET /hea", "PRI * HT"][count % 3]).await);
    }
    assert!(running.get("/healthz").await.ends_with("ok\n"));
    // The first one had to go; nothing was said on it.
    assert_eq!(said(silent.remove(0)).await, "");
}

#[tokio::test]
async fn a_client_that_has_made_a_request_is_not_sent_away() {
    let running = Running::start(Limits { connections: 2, ..limits() }).await;
    let mut client = running.connect("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    for _ in 0..8 {
        drop(running.connect("").await);
    }
    client.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(said(client).await.ends_with("ready\n"));
}

#[tokio::test]
async fn who_sends_no_whole_request_in_time_is_closed() {
    let running = Running::start(Limits { first_request: SHORT, ..limits() }).await;
    for bytes in ["", "GET /healthz HTTP/1.1\r\nhost:", "PRI * HTTP/2.0\r\n\r\nSM\r\n", "\u{16}\u{3}\u{1}"] {
        let answer = running.answer(bytes).await;
        assert!(!answer.contains(" 200 "), "{bytes:?}: {answer}");
    }
}

#[tokio::test]
async fn a_half_sent_message_is_answered_and_given_up() {
    let running = Running::start(Limits { request_body: SHORT, ..limits() }).await;
    let mut client =
        running.connect(&format!("{HANDSHAKE}connection: close\r\ncontent-length: 5000\r\n\r\n")).await;
    client.write_all(&[0, 0, 0, 19, 131, 1, 2, 3]).await.unwrap();
    let answer = said(client).await;
    // DEADLINE_EXCEEDED.
    assert!(answer.contains("grpc-status: 4"), "{answer}");
}

#[tokio::test]
async fn half_sent_messages_hold_no_more_than_the_budget() {
    let running = Running::start(Limits { body_bytes: 1 << 18, ..limits() }).await;
    let length = 1 << 20;
    let head = format!("{HANDSHAKE}connection: close\r\ncontent-length: {length}\r\n\r\n");
    let half = async || {
        let mut client = running.connect(&head).await;
        let mut bytes = vec![1; length / 2];
        bytes[..5].copy_from_slice(&[0, 0, 15, 255, 251]);
        // It may be answered before all is sent.
        let _ = client.write_all(&bytes).await;
        client
    };
    // UNAVAILABLE: the client tries again.
    let answer = said(half().await).await;
    assert!(answer.contains("grpc-status: 14"), "{answer}");
}

#[tokio::test]
async fn it_ends_when_it_is_told_whatever_silent_clients_do() {
    let running = Running::start(limits()).await;
    let silent = [running.connect("").await, running.connect("GET /hea").await];
    assert!(running.get("/healthz").await.ends_with("ok\n"));
    running.stop.send_replace(true);
    tokio::time::timeout(LONG, running.task).await.expect("it ends").unwrap();
    drop(silent);
    assert!(TcpStream::connect(running.address).await.is_err());
}
