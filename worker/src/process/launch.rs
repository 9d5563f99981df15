//! How the process of a lease is started and understood: Sortie's own trainer, or a command of the user's.

use std::path::PathBuf;

use sortie_core::code::Code;
use sortie_core::command::{CommandSettings, Invocation, WorkerValues};
use sortie_core::finetune::Precision;
use sortie_core::job::Outcome;
use sortie_core::lease::Lease;
use sortie_core::record::Fingerprint;
use sortie_core::trial::Work;
use tokio::process::Command;

use crate::attempt::ending;
use crate::config::AgentConfig;
use crate::guard::UNREAD_VARIABLE;
use crate::launcher::{Slot, Trainer};
use crate::process::lines::{Line, LineEnd};
use crate::process::metric_lines::{Earlier, MetricLines, Reading};
use crate::process::metrics_record::MetricsRecord;
use crate::process::secrets;
use sortie_core::pipe::Assignment;
use sortie_core::pipe::CombinationAssignment;
use sortie_core::pipe::Event;
use sortie_core::pipe::LINE_BYTES_MAX;

/// A process that is ready to start.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Program, arguments and environment.
    pub(crate) command: Command,
    /// What it reads first from its standard input, which then stays open as long as the agent runs.
    pub(crate) input: Vec<u8>,
    /// Reads its standard output.
    pub(crate) parser: OutputParser,
    /// Whether the process is a guard, which ends, with all processes of its command, when its input closes.
    pub(crate) guarded: bool,
    /// The fingerprint of a command; the trainer reports its own.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Where a command's metrics are noted for later attempts.
    pub(crate) record: Option<MetricsRecord>,
}

/// What a command finds of earlier attempts at its trial, and where it leaves something for later ones.
#[derive(Debug)]
pub(crate) struct ProgramFolder {
    /// The folder of its checkpoints.
    pub(crate) files: PathBuf,
    /// The file of its metrics.
    pub(crate) metrics: PathBuf,
    /// Where its guard writes what the worker has not read when it is killed.
    pub(crate) unread: PathBuf,
    /// The metrics of the attempts that it goes on from, if it finds files of theirs.
    pub(crate) earlier: Option<Earlier>,
    /// What the command runs.
    pub(crate) code: Code,
}

/// How lines of a process's standard output are read.
#[derive(Debug)]
pub(crate) enum OutputParser {
    /// Events of the trainer.
    Events,
    /// Metrics of a command, between whatever else it prints.
    Metrics(Box<MetricLines>),
}

/// Prepares a trial's process. `store` is the URL of the store for its artifacts.
///
/// # Errors
/// The outcome of a trial that cannot run here or anywhere.
#[tracing::instrument(name = "launching", level = "debug", skip_all)]
pub(crate) fn prepare(
    config: &AgentConfig,
    lease: &Lease,
    slot: &Slot,
    store: Option<&str>,
    trainer: Option<&Trainer>,
    folder: Option<ProgramFolder>,
) -> Result<Launch, Outcome> {
    match &lease.spec.work {
        Work::Finetune(_) => finetune(config, lease, slot, store, trainer),
        Work::Command(settings) => command(config, settings, lease, slot, folder),
    }
}

fn finetune(
    config: &AgentConfig,
    lease: &Lease,
    slot: &Slot,
    store: Option<&str>,
    trainer: Option<&Trainer>,
) -> Result<Launch, Outcome> {
    let trainer = trainer.ok_or_else(|| ending::transient("no trainer was looked for".to_owned()))?;
    let combination = lease.spec.combination.clone();
    let combination = combination.map(|combination| CombinationAssignment {
        spec_hash: lease.spec_hash,
        combination,
        members: lease.members.clone(),
    });
    let assignment = Assignment {
        spec: lease.spec.finetune().map_err(|error| ending::bad_config(error.to_string()))?,
        data: config.data.clone(),
        cache: config.cache.clone(),
        device: slot.inside.to_owned(),
        threads: config.threads,
        store: store.map(str::to_owned),
        token: lease.token,
        attempt: lease.attempt,
        checkpoints: lease.checkpoints.clone(),
        keep: lease.keep,
        kill_at: lease.kill_at,
        combination,
    };
    let written = serde_json::to_vec(&assignment);
    let mut input =
        written.map_err(|error| ending::transient(format!("cannot write the assignment: {error}")))?;
    input.push(b'\n');
    Ok(Launch {
        command: trainer_command(config, slot, trainer, assignment.spec.settings.precision),
        input,
        parser: OutputParser::Events,
        guarded: false,
        fingerprint: None,
        record: None,
    })
}

/// A trainer for this slot, before it has a trial.
pub(crate) fn trainer_command(
    config: &AgentConfig,
    slot: &Slot,
    trainer: &Trainer,
    precision: Precision,
) -> Command {
    let mut command = prepared(trainer.command(precision).into(), config, slot);
    command.args(["trial", slot.inside]);
    command
}

fn command(
    config: &AgentConfig,
    settings: &CommandSettings,
    lease: &Lease,
    slot: &Slot,
    folder: Option<ProgramFolder>,
) -> Result<Launch, Outcome> {
    let folder = folder.ok_or_else(|| ending::transient("no folder was made for checkpoints".to_owned()))?;
    let Some(guard) = &config.command_guard else {
        return Err(ending::bad_config("this worker runs no commands; --allow-commands lets it".to_owned()));
    };
    let data = config.data.display().to_string();
    let (device, checkpoints) = (slot.inside.to_owned(), folder.files.display().to_string());
    let worker_values = WorkerValues { data, device, threads: config.threads, checkpoints };
    let invocation = settings.invocation(lease.spec_hash, &lease.spec.point, &worker_values);
    let Invocation { words, environment } =
        invocation.map_err(|error| ending::bad_config(error.to_string()))?;
    let mut command = prepared(Command::new(guard), config, slot);
    secrets::remove(&mut command);
    // In the worker's own working directory, so that a relative path in a sweep file means the same as on its command line.
    command.arg0("sortie").arg("guard").args(words).envs(environment);
    // Python buffers what it prints into a pipe: progress would be late, and the last lines before a crash lost.
    command.env("PYTHONUNBUFFERED", "1").env(UNREAD_VARIABLE, &folder.unread);
    let fingerprint = Fingerprint {
        software: concat!("sortie ", env!("CARGO_PKG_VERSION")).to_owned(),
        device: slot.device.clone(),
        threads: u32::try_from(config.threads).unwrap_or(u32::MAX),
        code: Some(Box::new(folder.code)),
        ..Fingerprint::default()
    };
    let parser = OutputParser::Metrics(Box::new(MetricLines::new(settings).after(folder.earlier).timed()));
    let record = Some(MetricsRecord::new(folder.metrics));
    Ok(Launch { command, input: Vec::new(), parser, guarded: true, fingerprint: Some(fingerprint), record })
}

fn prepared(mut command: Command, config: &AgentConfig, slot: &Slot) -> Command {
    command.env("CUDA_VISIBLE_DEVICES", &slot.visible).env("OMP_NUM_THREADS", config.threads.to_string());
    // A group of its own, so that Ctrl-C in a terminal stops the agent alone, and all processes of the trial are killed with it.
    command.process_group(0);
    command
}

impl OutputParser {
    /// What a line of standard output means.
    ///
    /// # Errors
    /// The outcome of an attempt whose process breaks the schema: to skip the line could lose an evaluation.
    pub(crate) fn read(&mut self, line: &Line) -> Result<Reading, Outcome> {
        match self {
            Self::Events if line.cut => Err(ending::transient(format!(
                "the trial's process printed more than {LINE_BYTES_MAX} bytes in one line"
            ))),
            // Some library prints there while it is loaded; an event that is not whole is ignored, for the end of the process counts.
            Self::Events if line.text.first() != Some(&b'{') || line.end == LineEnd::Missing => {
                Ok(Reading { events: Vec::new(), output: Some(line.text.clone()) })
            }
            Self::Events => match serde_json::from_slice(&line.text) {
                Ok(event) => Ok(Reading { events: vec![event], output: None }),
                Err(error) => Err(ending::transient(format!(
                    "the trial's process printed something that is no event: {error}"
                ))),
            },
            Self::Metrics(lines) => lines.read(&line.text).map_err(ending::bad_config),
        }
    }

    /// What is left to report when the process has ended: the metrics of earlier attempts, if it printed none that follows them.
    pub(crate) fn rest(&mut self) -> Vec<Event> {
        match self {
            Self::Events => Vec::new(),
            Self::Metrics(lines) => lines.take_up(None),
        }
    }

    /// What a command that ended with exit status 0 lacks for success, and what of its output is not used.
    pub(crate) fn end(self) -> (Option<Outcome>, Vec<String>) {
        match self {
            Self::Events => (None, Vec::new()),
            Self::Metrics(lines) => (lines.lacks(), lines.notes()),
        }
    }
}
