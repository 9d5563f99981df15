//! `sortie serve`: the coordinator.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use sortie_access::Address;
use sortie_coordinator::server::{Config, Server};
use sortie_coordinator::store::{DEFAULT_URL, Limits, OpenOptions};
use sortie_worker::StopSignals;
use tokio::io::AsyncReadExt;

use crate::hidden::Hidden;
use crate::logging::{self, LogFormat};
use crate::{folders, identity, output, storage};

/// Run the coordinator: the one process that opens the database, assigns trials and answers all commands.
///
/// Its whole state is in the database: it may be stopped or killed at any time. Start it again on the same database, and workers go on.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The database: a SQLite file on a disk of this machine, or a Postgres server, which several coordinators may share.
    #[arg(long, env = "SORTIE_DB", default_value = DEFAULT_URL, value_name = "FILE | sqlite://FILE | postgres://...")]
    db: Hidden,
    /// Allow a SQLite file on a network disk: only this process can read it then, and a disk whose locks fail can destroy it.
    #[arg(long)]
    db_on_network_disk: bool,
    /// Where to listen; port 0 takes a free one. 0.0.0.0:7070 is reached from other machines.
    #[arg(long, env = "SORTIE_LISTEN", default_value = "127.0.0.1:7070", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where others reach it, if not there: what access files name, in the order in which to try. May be repeated.
    #[arg(long, env = "SORTIE_ADVERTISE", value_delimiter = ',', value_name = "HOST:PORT")]
    advertise: Vec<Address>,
    /// How long a worker may miss heartbeats before other workers get its trials, in seconds.
    #[arg(long, env = "SORTIE_LEASE", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=86_400), value_name = "SECONDS")]
    lease: u64,
    /// The most trials that the database takes. A sweep that would bring it over that is refused; one trial takes about a kilobyte, and what
    /// its attempts report.
    #[arg(long, env = "SORTIE_TRIALS_MAX", default_value_t = Limits::TRIALS, value_parser = clap::value_parser!(u64).range(1..), value_name = "TRIALS")]
    trials_max: u64,
    /// The most sweeps that the database takes, archived ones included.
    #[arg(long, env = "SORTIE_SWEEPS_MAX", default_value_t = Limits::SWEEPS, value_parser = clap::value_parser!(u64).range(1..), value_name = "SWEEPS")]
    sweeps_max: u64,
    /// The format of log lines on stderr. SORTIE_LOG sets which are shown, such as `debug` or `sortie_coordinator=trace`.
    #[arg(long, env = "SORTIE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Where trials save checkpoints, weights and logits: a folder, file:///FOLDER or s3://BUCKET/PREFIX (AWS_* variables give
    /// the access). Workers that can read and write it share it, and an interrupted trial goes on at any of them; others use their own
    /// disk, below --cache. By default the folder `artifacts` beside a SQLite file, and `sortie/artifacts` in the XDG data folder
    /// (~/.local/share) with Postgres, where coordinators on several machines should name one place.
    #[arg(long, env = "SORTIE_STORE", value_name = "FOLDER | URL")]
    store: Option<Hidden>,
    /// Stop when standard input closes: for programs that start a coordinator of their own.
    #[arg(long)]
    stop_on_stdin_close: bool,
}

/// Runs until SIGTERM or Ctrl-C. A second signal ends it at once: nothing that was acknowledged is lost by that.
///
/// # Errors
/// One line: the database or the port cannot be used.
pub async fn run(arguments: &Arguments, insecure: bool) -> Result<()> {
    logging::start(arguments.log_format)?;
    let options = OpenOptions {
        network_disk: arguments.db_on_network_disk,
        query_program: Some(folders::own_program()),
        ..OpenOptions::default()
    };
    let lease = Duration::from_secs(arguments.lease);
    let database = storage::database(&arguments.db)?;
    let artifacts = storage::artifacts(arguments.store.as_ref(), &database)?;
    let identity = if insecure { None } else { Some(folders::access().identity_or_new()?) };
    let limits = Limits { trials: arguments.trials_max, sweeps: arguments.sweeps_max, ..Limits::DEFAULT };
    let config = Config { database, options, listen: arguments.listen, identity, lease, limits, artifacts };
    let server = Server::open(&config).await?;
    let address = server.address().context("cannot read the address of the listening socket")?;
    let published = config.identity.as_ref().map(|identity| {
        let reached = match arguments.advertise.as_slice() {
            [] => identity::addresses(address)?,
            given => given.to_vec(),
        };
        identity::publish(identity, &reached)
    });
    // Held until the end: the files name this coordinator.
    let _published = published.transpose()?;
    if insecure {
        tracing::warn!(
            "--insecure: whoever reaches {address} may do everything, and everybody between reads along"
        );
    }
    // The first and only line on stdout, so that scripts learn the port that `--listen 127.0.0.1:0` took.
    output::text(&format!("listening on {}", server.url()?))?;
    tracing::info!(%address, database = %config.database, store = server.artifacts().unwrap_or("none"), lease_seconds = arguments.lease, "coordinator is up");
    server.run(asked_to_stop(arguments.stop_on_stdin_close)).await?;
    tracing::info!("coordinator stopped");
    Ok(())
}

async fn asked_to_stop(on_stdin_close: bool) {
    // If signal handlers cannot be installed, the default action still ends the process.
    let Ok(mut signals) = StopSignals::listen() else {
        return std::future::pending().await;
    };
    tokio::select! {
        () = signals.next() => {}
        () = stdin_closed(), if on_stdin_close => {}
    }
    tracing::info!("stopping; once more ends it at once");
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(1);
    });
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0_u8; 256];
    while matches!(stdin.read(&mut buffer).await, Ok(read) if read > 0) {}
}
