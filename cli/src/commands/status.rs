//! `sortie status`: the progress of sweeps.

use std::io::IsTerminal;

use anyhow::Result;
use indicatif::ProgressBar;
use sortie_proto::v1::SweepStatus;
use tokio::time::Instant;

use crate::connection::{Client, ClientError, Connection, RetryingClient};
use crate::watching::{self, Watcher};
use crate::{output, rows};

/// Show the progress of sweeps and the time left.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name; all sweeps that are not archived if none is given.
    sweep: Option<String>,
    /// Archived sweeps too.
    #[arg(long, conflicts_with_all = ["sweep", "watch"])]
    all: bool,
    /// Update until every trial has ended, also if the coordinator restarts. Exits with code 1 if a trial failed.
    #[arg(long)]
    watch: bool,
    /// Print one JSON object; with --watch, one line for each change.
    #[arg(long)]
    json: bool,
}

const NO_SWEEP: &str =
    "there is no sweep: `sortie submit SWEEP.toml` stores one, `sortie status --all` lists archived ones too";

/// Prints the status, once or until the end.
///
/// # Errors
/// One line: the coordinator refuses or is gone, or a watched trial failed.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    if arguments.watch {
        return watch(&mut RetryingClient::connect(connection).await?, arguments).await;
    }
    let mut client = Client::connect(connection).await?;
    let sweeps = match arguments.all {
        true => client.status_of_all().await?,
        false => client.status(arguments.sweep.as_deref()).await?,
    };
    let list = rows::sweeps(sweeps, watching::eta)?;
    if arguments.json {
        return output::json(&list);
    }
    if list.sweeps.is_empty() {
        return output::text(NO_SWEEP);
    }
    output::text(&list.text())
}

/// Watches until every trial has ended.
async fn watch(client: &mut RetryingClient<'_>, arguments: &Arguments) -> Result<()> {
    let total =
        watching::poll(client, arguments.sweep.as_deref(), &mut Display::new(arguments.json)?).await?;
    anyhow::ensure!(
        total.failed == 0,
        "{} trials failed; `sortie trials NAME --state failed` lists the errors",
        total.failed
    );
    Ok(())
}

/// A bar on a terminal; elsewhere a line whenever a trial starts or ends. A new estimate of the time left prints none.
struct Display {
    json: bool,
    terminal: bool,
    bar: ProgressBar,
    started: Instant,
    first_steps: Option<u64>,
    /// Trials that ran, had ended and were planned when a line was printed last.
    printed: Option<(u64, u64, u64)>,
    /// Whether the outage was noted.
    noted: bool,
}

impl Display {
    fn new(json: bool) -> Result<Self> {
        let terminal = std::io::stderr().is_terminal() && !json;
        Ok(Self {
            json,
            terminal,
            bar: watching::bar(terminal)?,
            started: Instant::now(),
            first_steps: None,
            printed: None,
            noted: false,
        })
    }
}

impl Watcher for Display {
    type End = SweepStatus;

    fn see(&mut self, sweeps: Vec<SweepStatus>) -> Result<Option<SweepStatus>> {
        self.noted = false;
        let total = watching::total(&sweeps);
        let first = *self.first_steps.get_or_insert(total.steps_done);
        let eta = watching::eta_observed(&total, first, self.started.elapsed());
        let eta = eta.or_else(|| watching::eta(&total));
        let line = watching::line(&total, eta);
        self.bar.set_length(total.steps_planned.max(1));
        self.bar.set_position(total.steps_done);
        self.bar.set_message(line.clone());
        let news = (total.running, watching::ended(&total), total.planned);
        if !self.terminal && self.printed != Some(news) {
            self.printed = Some(news);
            if self.json { output::json(&rows::sweeps(sweeps, |_| eta)?)? } else { output::text(&line)? }
        }
        if !watching::is_over(&total) {
            return Ok(None);
        }
        self.bar.finish_and_clear();
        if self.terminal {
            output::text(&line)?;
        }
        Ok(Some(total))
    }

    fn outage(&mut self, error: ClientError) -> Result<(), ClientError> {
        let note = format!("{error}; asking again");
        // Without a terminal, one line for each outage.
        if !self.terminal && !std::mem::replace(&mut self.noted, true) {
            output::note(&note);
        }
        self.bar.set_message(note);
        Ok(())
    }
}
