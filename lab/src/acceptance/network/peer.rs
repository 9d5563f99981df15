//! `sortie-lab network-peer`: what one host does to a coordinator over the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sortie_access::{AccessFile, DialError, Identity, Target, Token};
use sortie_core::access::Role;
use sortie_proto::v1;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::now;
use crate::statistics::Percentiles;

/// Connections that are kept open at the same time by the floods.
const IDLE: usize = 10_000;
const SLOW: usize = 500;
const HANDSHAKES: usize = 64;
/// How soon what was closed is tried again. Ten thousand that come back at once would be a flood of another kind, of the system's own.
const PAUSE: Duration = Duration::from_millis(10);
const IDLE_PAUSE: Duration = Duration::from_secs(10);
/// How often the probe asks.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Asks for a trial again and again, and prints the milliseconds of 99 of 100 answers.
    Probe,
    /// Keeps connections open that say nothing.
    Idle,
    /// Keeps connections open that greet a byte at a time.
    Slow,
    /// Shakes hands, and goes.
    Handshakes,
    /// Sends the beginnings of messages, with a worker's token.
    Halves,
    /// Says what is another worker's to say, and prints the refusals.
    Steal,
}

/// Options.
#[derive(Debug, clap::Args)]
pub struct PeerOptions {
    /// What to do
    #[arg(value_enum)]
    kind: Kind,
    /// The coordinator's address
    #[arg(long)]
    address: String,
    /// A worker's access file in one line
    #[arg(long, env = "SORTIE_PEER_ACCESS", hide_env_values = true)]
    access: Option<String>,
    /// For how long
    #[arg(long)]
    seconds: u64,
    /// The other worker's id
    #[arg(long, default_value = "")]
    worker: String,
    /// The token of its attempt
    #[arg(long, default_value = "0")]
    token: i64,
}

/// Does it, and prints as one number how often it was done.
///
/// # Errors
/// When the probe is not answered.
pub async fn run(options: &PeerOptions) -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the open files")?;
    let ends = Instant::now() + Duration::from_secs(options.seconds);
    let count = Arc::new(AtomicU64::new(0));
    let tasks = match options.kind {
        Kind::Probe => return probe(&access(options)?, ends).await,
        Kind::Steal => return steal(&access(options)?, &options.worker, options.token).await,
        Kind::Idle => IDLE,
        Kind::Slow | Kind::Halves => SLOW,
        Kind::Handshakes => HANDSHAKES,
    };
    let stranger = Identity::new()?.target(Role::Worker, options.address.parse()?)?;
    let known = if options.kind == Kind::Halves { Some(access(options)?) } else { None };
    let mut peers = JoinSet::new();
    for _ in 0..tasks {
        let (count, stranger, known) = (Arc::clone(&count), stranger.clone(), known.clone());
        let (kind, address) = (options.kind, options.address.clone());
        peers.spawn(async move {
            loop {
                let is_done = match kind {
                    // The server has done its part when its certificate is refused.
                    Kind::Handshakes => matches!(stranger.connect().await, Err(DialError::Untrusted(_))),
                    Kind::Halves => half(known.as_ref()).await.is_ok(),
                    Kind::Idle => keep(&address, Duration::from_secs(3_600)).await.is_ok(),
                    _ => keep(&address, Duration::from_millis(500)).await.is_ok(),
                };
                count.fetch_add(u64::from(is_done), Ordering::Relaxed);
                tokio::time::sleep(if kind == Kind::Idle { IDLE_PAUSE } else { PAUSE }).await;
            }
        });
    }
    tokio::time::sleep_until(ends).await;
    println!("{}", count.load(Ordering::Relaxed));
    Ok(())
}

fn access(options: &PeerOptions) -> Result<Target> {
    let line = options.access.as_deref().context("SORTIE_PEER_ACCESS is needed")?;
    let file = AccessFile::parse(line, "SORTIE_PEER_ACCESS")?;
    Ok(Target::new(&file)?.at(options.address.parse()?))
}

/// A connection that says the beginning of a greeting, a byte at each pause, until it is closed.
async fn keep(address: &str, pause: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    for byte in [0x16, 0x03, 0x01, 0x02, 0x00, 0x01].into_iter().cycle() {
        let mut answer = [0];
        match tokio::time::timeout(pause, stream.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return Ok(()),
            _ => stream.write_all(&[byte]).await?,
        }
    }
    Ok(())
}

/// A report of an attempt that is not there, megabytes long, which goes away in the middle.
async fn half(target: Option<&Target>) -> Result<()> {
    let link = target.context("no access")?.connect().await?;
    let mut client = WorkerServiceClient::new(link);
    let batch = v1::Batch { sequence: 1, log: vec![b'x'; 8 << 20], ..v1::Batch::default() };
    let request = v1::ReportRequest { token: 1, batch: Some(batch), ..v1::ReportRequest::default() };
    // It ends before all of it is sent.
    let _ = tokio::time::timeout(Duration::from_millis(50), client.report(request)).await;
    Ok(())
}

fn registration(worker: &str, secret: &str) -> v1::RegisterRequest {
    v1::RegisterRequest {
        version: Some(v1::Version::ours("sortie-lab")),
        worker_id: worker.to_owned(),
        machine: worker.to_owned(),
        host: worker.to_owned(),
        secret: secret.to_owned(),
        ..v1::RegisterRequest::default()
    }
}

async fn steal(target: &Target, worker: &str, token: i64) -> Result<()> {
    let mut client = WorkerServiceClient::new(target.connect().await?);
    let secret = Token::new()?.reveal().to_owned();
    let own = client.register(registration("thief", &secret)).await?.into_inner();
    let incarnation = own.incarnation;
    let replayed = client.register(registration(worker, &secret)).await.err();
    let report = v1::ReportRequest {
        token,
        batch: Some(v1::Batch { sequence: 1, ..v1::Batch::default() }),
        incarnation,
        secret: secret.clone(),
    };
    let reported = client.report(report).await.err();
    let outcome = Some(v1::complete_request::Outcome::Succeeded(v1::Succeeded {}));
    let complete = v1::CompleteRequest {
        token,
        outcome,
        incarnation,
        secret: secret.clone(),
        ..v1::CompleteRequest::default()
    };
    let completed = client.complete(complete).await.err();
    let attempts = vec![v1::Progress { token, step: 1, preparation: None }];
    let heartbeat = v1::HeartbeatRequest { worker_id: worker.to_owned(), attempts, incarnation, secret };
    let beaten = client.heartbeat(heartbeat).await.err();
    for refusal in [replayed, reported, completed, beaten] {
        println!("{}", refusal.map_or_else(|| "nothing".to_owned(), |status| status.message().to_owned()));
    }
    Ok(())
}

async fn probe(target: &Target, ends: Instant) -> Result<()> {
    let mut client = WorkerServiceClient::new(target.connect().await?);
    let secret = Token::new()?.reveal().to_owned();
    let worker_id = format!("probe-{}", std::process::id());
    let incarnation = client.register(registration(&worker_id, &secret)).await?.into_inner().incarnation;
    let mut milliseconds = Vec::new();
    while Instant::now() < ends {
        let request = v1::LeaseRequest {
            worker_id: worker_id.clone(),
            count_max: 1,
            sweep: "none".to_owned(),
            return_when_idle: true,
            incarnation,
            secret: secret.clone(),
            ..v1::LeaseRequest::default()
        };
        let started = now();
        client.lease(request).await?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1_000.0);
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    println!("{:.1}", Percentiles::of(milliseconds).p99);
    Ok(())
}
