//! `sortie run`: a whole sweep on this machine, by one command.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use sortie_access::Place;
use sortie_analysis::{FigureKind, FigureQuestion, Format, Question, Results};
use sortie_coordinator::presence::{Presence, presence};
use sortie_coordinator::server::{Config, ServeError, Server};
use sortie_coordinator::store::{DEFAULT_URL, DatabaseUrl, Limits, OpenOptions};
use sortie_core::access::Role;
use sortie_core::pipe::Preparation;
use sortie_core::record::Detail;
use sortie_core::trial::Work;
use sortie_proto::v1::SweepStatus;
use sortie_worker::{AgentConfig, AgentError, Observation, Stop};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::connection::{Client, ClientError, Connection, RetryingClient};
use crate::hidden::Hidden;
use crate::machine::Machine;
use crate::sweep_source::{Reuse, SweepArguments};
use crate::watching::{self, Watcher};
use crate::{folders, identity, logging, output, storage};

/// How long a coordinator that starts at the same time may take to publish its address.
const ADDRESS_SECONDS_MAX: u32 = 10;
/// How long a lease of the embedded coordinator lasts after a heartbeat.
const LEASE: Duration = Duration::from_secs(10);
/// The exit code of shells for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Run a sweep on this machine: coordinator, worker, progress, and the results table at the end.
///
/// Ctrl-C at any moment loses nothing: the same command goes on. If a coordinator serves the SQLite file already, this command joins it as
/// one more worker. Exit codes: 0 every trial has a result, 1 some have none (the reason is printed), 130 interrupted.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// The database: a SQLite file on a disk of this machine, or a Postgres server.
    #[arg(long, env = "SORTIE_DB", default_value = DEFAULT_URL, value_name = "FILE | sqlite://FILE | postgres://...")]
    db: Hidden,
    /// Write results.json, results.csv, figure.svg and figure.png into this folder.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Let results count whatever files they left.
    ///
    /// Otherwise a trial whose result lacks weights or logits that `[keep]` asks for runs again. Its earlier result counts until it has
    /// another.
    #[arg(long)]
    reuse_anyway: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Runs the sweep to its end, or until it is interrupted.
///
/// # Errors
/// One line: the sweep is not right, this machine cannot run it, or a trial failed.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<ExitCode> {
    logging::start_quiet()?;
    let stop = sortie_worker::stop_requests(false)?;
    loop {
        if let Some(code) = run_once(arguments, connection, &stop).await? {
            return Ok(code);
        }
        output::note("the coordinator that this command had joined is gone; going on without it");
    }
}

/// The same, unless a coordinator that was joined goes away: then nothing.
async fn run_once(
    arguments: &Arguments,
    connection: &Connection,
    stop: &watch::Receiver<Stop>,
) -> Result<Option<ExitCode>> {
    let read = arguments.sweep.read()?;
    let name = read.spec.name.clone();
    let runs_commands = matches!(read.spec.work, Work::Command(_));
    let database = storage::database(&arguments.db)?;
    let coordinator = Coordinator::start_or_join(&database, connection).await?;
    let connection = &coordinator.connection;
    let mut client = Client::connect(connection).await?;
    output::warn(&read.warnings);
    let reuse = Reuse { reuse_anyway: arguments.reuse_anyway, ..Reuse::default() };
    let progress = client.submit(read.request(reuse, None)).await?;
    let submitted = watching::follow_submission(progress, false).await?;
    watching::lacking_line(submitted.lacking, "run again").iter().for_each(|line| output::note(line));

    let visible = std::env::var_os("CUDA_VISIBLE_DEVICES");
    let data = arguments.sweep.data.folder.as_ref();
    // The user names this sweep file, so its commands may run, but no other sweep's.
    let config = arguments.machine.agent(data, connection, runs_commands, visible.as_deref())?;
    let config = AgentConfig { sweep: Some(name.clone()), exit_when_idle: true, ..config };
    let observed = config.observer.subscribe();
    let mut agent = tokio::spawn(sortie_worker::run(config, stop.clone()));
    let ended = follow(&name, RetryingClient::new(connection, client), &mut agent, &observed).await;
    // It has ended already, unless the coordinator is gone. Its trials end with it.
    agent.abort();
    let ended = match ended {
        Err(error) if is_transient(&error) && coordinator.embedded.is_none() => return Ok(None),
        // Why it does not answer is known here.
        Err(error) if is_transient(&error) => return coordinator.stop().await.and(Err(error)),
        ended => ended?,
    };
    let report = Report { name: &name, database: &database, arguments, connection };
    let code = report.finish(&ended, *stop.borrow() != Stop::No, &observed.borrow().clone()).await;
    coordinator.stop().await.and(code.map(Some))
}

/// Whether the coordinator may only be unreachable for now.
fn is_transient(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClientError>().is_some_and(ClientError::is_transient)
}

/// The coordinator of the sweep: in this process, or another one that serves the database.
struct Coordinator {
    connection: Connection,
    embedded: Option<Embedded>,
}

/// The connection to a coordinator of this machine: by this user's own identity if it proves that, else as the user says.
async fn join(connection: &Connection, coordinator: &str) -> Connection {
    let own = async {
        let place = coordinator.parse::<Place>().ok().filter(|place| place.is_encrypted)?;
        let identity = folders::access().identity().ok()??;
        let target = identity.target(Role::Operator, place.address).ok()?;
        target.connect().await.ok()?;
        Some(Connection::to(target))
    };
    let found = if connection.access.is_none() { own.await } else { None };
    found.unwrap_or_else(|| connection.at(coordinator.to_owned()))
}

/// A coordinator in this process.
struct Embedded {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Coordinator {
    async fn start_or_join(database: &DatabaseUrl, connection: &Connection) -> Result<Self> {
        for _ in 0..ADDRESS_SECONDS_MAX * 10 {
            match presence(database) {
                Presence::Free => return Self::start(database).await,
                Presence::Served(Some(coordinator)) => {
                    output::note(&format!(
                        "joining the coordinator at {coordinator}, which serves this database"
                    ));
                    return Ok(Self { connection: join(connection, &coordinator).await, embedded: None });
                }
                Presence::Served(None) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        bail!(
            "another process has {database} open and does not say where it listens; stop that one, or name another file by --db"
        )
    }

    async fn start(database: &DatabaseUrl) -> Result<Self> {
        let artifacts = storage::artifacts(None, database)?;
        let listen = ([127, 0, 0, 1], 0).into();
        let options = OpenOptions { query_program: Some(folders::own_program()), ..OpenOptions::default() };
        let database = database.clone();
        let identity = identity::of_run()?;
        let config = Config {
            database,
            options,
            listen,
            identity: Some(identity.clone()),
            lease: LEASE,
            limits: Limits::DEFAULT,
            artifacts,
        };
        let server = Server::open(&config).await?;
        let target = identity.target(Role::Operator, server.url()?.address)?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            // An error means that the sender was dropped, so the command ends.
            let stopped = async { drop(stopped.await) };
            server.run(stopped).await
        });
        Ok(Self { connection: Connection::to(target), embedded: Some(Embedded { stop, task }) })
    }

    /// Shuts down the coordinator of this process.
    ///
    /// # Errors
    /// Why it had ended before.
    async fn stop(self) -> Result<()> {
        let Some(Embedded { stop, task }) = self.embedded else { return Ok(()) };
        // It may have ended already.
        let _ = stop.send(());
        task.await.context("the coordinator ended with a panic")?.context("the coordinator ended")
    }
}

/// How the agent ended, and the sweep's progress then.
struct Ended {
    agent: Result<(), AgentError>,
    status: SweepStatus,
}

/// Shows the sweep's progress until the agent ends.
async fn follow(
    name: &str,
    mut client: RetryingClient<'_>,
    agent: &mut JoinHandle<Result<(), AgentError>>,
    observed: &watch::Receiver<Observation>,
) -> Result<Ended> {
    let mut follower = Follower { name, agent, observed, display: Display::new()? };
    let agent = watching::poll(&mut client, Some(name), &mut follower).await?;
    let status = status_of(name, client.status(Some(name), Err).await?)?;
    follower.display.end(&status);
    Ok(Ended { agent, status })
}

fn status_of(name: &str, sweeps: Vec<SweepStatus>) -> Result<SweepStatus> {
    sweeps.into_iter().next().with_context(|| format!("sweep {name} is gone from the database"))
}

/// Watches the sweep and the agent of this process.
struct Follower<'a> {
    name: &'a str,
    agent: &'a mut JoinHandle<Result<(), AgentError>>,
    observed: &'a watch::Receiver<Observation>,
    display: Display,
}

impl Watcher for Follower<'_> {
    /// How the agent ended.
    type End = Result<(), AgentError>;

    fn see(&mut self, sweeps: Vec<SweepStatus>) -> Result<Option<Self::End>> {
        self.display.show(&status_of(self.name, sweeps)?, &self.observed.borrow());
        Ok(None)
    }

    /// A coordinator that was joined is not awaited: this command can go on without it.
    fn outage(&mut self, error: ClientError) -> Result<(), ClientError> {
        Err(error)
    }

    async fn pause(&mut self) -> Result<Option<Self::End>> {
        tokio::select! {
            ended = &mut *self.agent => Ok(Some(ended.context("the worker ended with a panic")?)),
            () = tokio::time::sleep(watching::INTERVAL) => Ok(None),
        }
    }
}

/// A bar on a terminal; elsewhere a line for each change.
struct Display {
    bar: ProgressBar,
    terminal: bool,
    started: Instant,
    first_steps: Option<u64>,
    shown: String,
}

impl Display {
    fn new() -> Result<Self> {
        let terminal = std::io::stderr().is_terminal();
        let bar = watching::bar(terminal)?;
        Ok(Self { bar, terminal, started: Instant::now(), first_steps: None, shown: String::new() })
    }

    fn show(&mut self, status: &SweepStatus, observed: &Observation) {
        let first = *self.first_steps.get_or_insert(status.steps_done);
        let left =
            watching::eta_observed(status, first, self.started.elapsed()).or_else(|| watching::eta(status));
        let (line, done, total) = match &observed.preparation {
            Some(preparation) => (preparation_line(preparation), preparation.done, preparation.total),
            None => (watching::line(status, left), status.steps_done, status.steps_planned),
        };
        self.bar.set_length(total.max(1));
        self.bar.set_position(done);
        self.bar.set_message(line.clone());
        // Without a terminal, a line whenever a trial starts or ends; a new estimate of the time left prints none.
        let (news, line) = match &observed.preparation {
            Some(preparation) => (preparation.what.clone(), format!("preparation: {}", preparation.what)),
            None => (format!("{} {}", status.running, status.succeeded + status.failed), line),
        };
        if !self.terminal && news != self.shown {
            output::note(&line);
            self.shown = news;
        }
    }

    fn end(&self, status: &SweepStatus) {
        self.bar.finish_and_clear();
        if self.terminal {
            output::note(&watching::line(status, None));
        }
    }
}

fn preparation_line(preparation: &Preparation) -> String {
    format!("preparation: {preparation}")
}

/// The last lines of output.
struct Report<'a> {
    name: &'a str,
    database: &'a DatabaseUrl,
    arguments: &'a Arguments,
    connection: &'a Connection,
}

impl Report<'_> {
    async fn finish(&self, ended: &Ended, asked_to_stop: bool, observed: &Observation) -> Result<ExitCode> {
        let Ended { agent, status } = ended;
        let over = watching::is_over(status);
        if asked_to_stop && !over {
            let (done, planned) = (status.succeeded, status.planned);
            output::note(&format!(
                "interrupted with {done} of {planned} trials done; the same command goes on"
            ));
            return Ok(ExitCode::from(INTERRUPTED));
        }
        match agent {
            // What is done is shown, and the reason after it.
            Ok(()) | Err(AgentError::HeldBack(_)) => {}
            Err(error) => bail!("{error}"),
        }
        let axes = if status.succeeded > 0 { self.write_results().await? } else { Vec::new() };
        if over && status.succeeded == status.planned {
            output::text(&self.next_steps(&axes))?;
            return Ok(ExitCode::SUCCESS);
        }
        let why = [&observed.held_back, &observed.last_failure].into_iter().find(|reason| !reason.is_empty());
        let why = why.map_or_else(String::new, |reason| format!(": {reason}"));
        bail!("{} of {} trials have no result{why}", status.planned - status.succeeded, status.planned)
    }

    /// Prints the results table, after it wrote the files that were asked for. Returns the axes that make its rows.
    async fn write_results(&self) -> Result<Vec<String>> {
        let folder = self.arguments.output.as_deref();
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mut client = Client::connect(self.connection).await?;
        let results = client.collect(self.name, &Question::default()).await?.results()?;
        if let Some(folder) = folder {
            self.write_files(folder, &results, &mut client).await?;
        }
        output::bytes(results.render(Format::Table).as_bytes())?;
        Ok(results.axes.iter().map(ToString::to_string).collect())
    }

    async fn write_files(&self, folder: &Path, results: &Results, client: &mut Client) -> Result<()> {
        for format in [Format::Json, Format::Csv] {
            let path = folder.join(format!("results.{format}"));
            output::file(&path, results.render(format).as_bytes())?;
        }
        let (work, records) = client.records(self.name, Detail::Scores).await?;
        let question = FigureQuestion::of(FigureKind::Scatter);
        let svg = match sortie_analysis::figure(self.name, &work, &records, &question) {
            Ok(svg) => svg,
            // The tables say what there is.
            Err(error) => {
                output::note(&format!("no figure: {error}"));
                return Ok(());
            }
        };
        for ending in ["svg", "png"] {
            let path = folder.join(format!("figure.{ending}"));
            output::picture(&path, &svg)?;
            output::text(&format!("wrote {}", path.display()))?;
        }
        Ok(())
    }

    fn next_steps(&self, axes: &[String]) -> String {
        let Self { name, database, arguments, .. } = self;
        // Without the password of a server, which the user knows where to write.
        let db = database.file().map_or_else(|| database.to_string(), |file| file.display().to_string());
        let program = std::env::args().next().unwrap_or_else(|| "sortie".to_owned());
        let serve = if db == "sortie.db" { "serve".to_owned() } else { format!("serve --db {db}") };
        let written = match &arguments.output {
            Some(folder) => format!("\nTables and the figure are in {}.\n", shown(folder)),
            None => String::new(),
        };
        let by = if axes.is_empty() { String::new() } else { format!(" --by {}", axes.join(",")) };
        let figure = match axes {
            _ if axes.iter().any(|axis| axis == "dropout") => "--kind rates -o rates.svg".to_owned(),
            [axis, ..] => format!("--kind box --by {axis} -o box.svg"),
            [] => "--kind scatter -o scatter.svg".to_owned(),
        };
        format!(
            "{written}
Ask more: start the coordinator (Ctrl-C ends it, and nothing is lost),
    {program} {serve}
and in a second terminal:
    {program} results {name}{by}
    {program} figure {name} {figure}
    {program} trials {name}
Raise `seeds` in the sweep file and run it again to add trials; those that are done are kept."
        )
    }
}

fn shown(folder: &Path) -> String {
    format!("{}/", folder.display())
}
