//! `sortie worker`: takes trials from a coordinator.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::deadline;
use crate::connection::Connection;
use crate::logging::{self, LogFormat};
use crate::trainer::Libtorch;
use crate::{folders, output};
use anyhow::Result;
use clap::Args;
use sortie_core::pipe::Probe;
use sortie_proto::endpoint::coordinator_uri;
use sortie_worker::launcher::{self, DeviceSelection, Launcher};
use sortie_worker::{AgentConfig, AgentError};

/// The time that must be left before `--until` for a trial of unknown duration.
const TIME_FOR_UNKNOWN: Duration = Duration::from_secs(60);
/// Tags of one worker.
const TAGS_MAX: usize = 64;
/// From the request to stop to the end of trials that do not stop by themselves, unless `--grace` says otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// Options of the machine that a worker uses.
#[derive(Args, Clone, Debug)]
pub struct Machine {
    /// Folder of pretrained weights, datasets and logs of trials [default: sortie/ in the XDG cache folder]
    #[arg(long, value_name = "DIR", env = "SORTIE_CACHE")]
    pub cache: Option<PathBuf>,
    /// Where to train: all (every GPU that is visible, else the CPU), cpu, or cuda:0,1
    #[arg(long, value_name = "DEVICES", env = "SORTIE_DEVICES", default_value = "all")]
    pub devices: DeviceSelection,
    #[command(flatten)]
    pub libtorch: Libtorch,
    /// Trials at the same time, distributed over the devices [default: one per device]
    #[arg(long, value_name = "N", env = "SORTIE_SLOTS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub slots: Option<u16>,
    /// CPU threads of each trial [default: the processors divided by the slots]
    #[arg(long, value_name = "N", env = "SORTIE_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// Take trials from a coordinator and run them until stopped
///
/// Takes one trial per GPU, or one on the CPU where there is no GPU. SIGTERM or Ctrl-C hands the running trials back and ends within the
/// grace and two seconds; a second one ends at once. While the coordinator cannot be reached, running trials train on and their results
/// are delivered later.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Folder that holds the datasets' folders, such as ROOT/PACS [default: the cache folder's data/]
    #[arg(long, value_name = "ROOT", env = "SORTIE_DATA")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub machine: Machine,
    /// Let sweeps run commands of their own on this machine, as the user that runs this worker (docs/commands.md)
    #[arg(long, env = "SORTIE_ALLOW_COMMANDS", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub allow_commands: bool,
    /// A tag of this worker: sweeps may require tags. May be repeated
    #[arg(long = "tag", value_name = "TAG", env = "SORTIE_TAGS", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Take only trials of this sweep
    #[arg(long, value_name = "NAME", env = "SORTIE_SWEEP")]
    pub sweep: Option<String>,
    /// End when no trial is left that this worker could get; also when no coordinator answers for 30 s
    #[arg(long)]
    pub exit_when_idle: bool,
    /// Work until then: a point in time such as 2026-01-31T18:00:00+01:00, or a duration such as 3h or 45m. Trials that would not finish
    /// are not started, and running ones are handed back shortly before. The end of a Slurm job counts too, if it is earlier
    #[arg(long, value_name = "TIME", env = "SORTIE_UNTIL")]
    pub until: Option<String>,
    /// From the request to stop to the end of trials that do not stop by themselves
    #[arg(long, value_name = "SECONDS", env = "SORTIE_GRACE", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub grace: u32,
    /// Stop as by SIGTERM when standard input closes: for programs that start workers and must not leave any behind
    #[arg(long)]
    pub stop_on_stdin_close: bool,
    /// How the log on standard error is written
    #[arg(long, value_name = "FORMAT", env = "SORTIE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Runs the agent until it is done or asked to stop.
///
/// # Errors
/// One line that says what is wrong.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<ExitCode> {
    let environment = Environment {
        visible: std::env::var_os("CUDA_VISIBLE_DEVICES"),
        job_end: std::env::var_os("SLURM_JOB_END_TIME"),
        now: deadline::wall_clock(),
    };
    match run_agent(arguments, connection, &environment).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ (AgentError::Address(_) | AgentError::Devices(_) | AgentError::Usage(_))) => {
            output::note(&format!("error: {error}"));
            Ok(ExitCode::from(2))
        }
        Err(error) => Err(error.into()),
    }
}

async fn run_agent(
    arguments: &Arguments,
    connection: &Connection,
    environment: &Environment,
) -> Result<(), AgentError> {
    logging::start(arguments.log_format).map_err(|error| AgentError::Usage(error.to_string()))?;
    let config = config(arguments, connection, environment)?;
    let stop = sortie_worker::stop_requests(arguments.stop_on_stdin_close)?;
    sortie_worker::run(config, stop).await
}

/// Settings of a worker that are no options.
#[derive(Debug, Default)]
struct Environment {
    /// CUDA_VISIBLE_DEVICES.
    visible: Option<OsString>,
    /// SLURM_JOB_END_TIME.
    job_end: Option<OsString>,
    /// The wall clock.
    now: Duration,
}

fn config(
    arguments: &Arguments,
    connection: &Connection,
    environment: &Environment,
) -> Result<AgentConfig, AgentError> {
    let Environment { visible, job_end, now } = environment;
    let time_left = deadline::time_left(arguments.until.as_deref(), job_end.as_deref(), *now);
    let Arguments { machine, data, allow_commands, .. } = arguments;
    let tags = tags(&arguments.tags)?;
    let time_left = time_left.map_err(AgentError::Usage)?;
    let plain = machine.agent(data.as_ref(), connection, *allow_commands, visible.as_deref())?;
    Ok(AgentConfig {
        sweep: arguments.sweep.clone(),
        exit_when_idle: arguments.exit_when_idle,
        tags,
        grace: Duration::from_secs(u64::from(arguments.grace)),
        time_left,
        ..plain
    })
}

impl Machine {
    /// An agent on this machine that takes any trial. `visible` is the value of CUDA_VISIBLE_DEVICES.
    ///
    /// # Errors
    /// One line that says what is wrong, or missing on this machine.
    pub fn agent(
        &self,
        data: Option<&PathBuf>,
        connection: &Connection,
        allow_commands: bool,
        visible: Option<&OsStr>,
    ) -> Result<AgentConfig, AgentError> {
        let usage = |error: anyhow::Error| AgentError::Usage(format!("{error:#}"));
        let coordinator = coordinator_uri(&connection.coordinator, connection.insecure)?.into();
        let cache = folders::cache(self.cache.as_ref()).map_err(usage)?;
        let data = folders::absolute(&data.cloned().unwrap_or_else(|| cache.join("data"))).map_err(usage)?;
        let launcher = self.libtorch.launcher(folders::trainer().map_err(usage)?, &cache);
        let (gpus, probe) = self.gpus(allow_commands, &launcher, visible)?;
        let slots = launcher::plan(&self.devices, &gpus, self.slots.map(usize::from));
        let slots = slots.map_err(AgentError::Devices)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.map_or_else(|| (processors / slots.len()).max(1), usize::from);
        Ok(AgentConfig {
            coordinator,
            data,
            cache,
            threads,
            gpu_memory_gib: probe.map_or(0.0, |probe| launcher::smallest_gpu_gib(&slots, &probe)),
            slots,
            sweep: None,
            exit_when_idle: false,
            launcher: Arc::new(launcher),
            observer: Arc::default(),
            command_guard: allow_commands.then(folders::own_program),
            tags: Vec::new(),
            grace: GRACE,
            time_left: None,
            time_for_unknown: TIME_FOR_UNKNOWN,
        })
    }

    /// The GPUs that trials may use. A worker that trains needs a working trainer at its start; one for the CPU that may run commands looks
    /// for it when the first trial needs it.
    fn gpus(
        &self,
        allow_commands: bool,
        launcher: &Launcher,
        visible: Option<&OsStr>,
    ) -> Result<(Vec<String>, Option<Probe>), AgentError> {
        let cpu_only = self.devices == DeviceSelection::Cpu;
        if cpu_only && allow_commands {
            return Ok((Vec::new(), None));
        }
        let trainer = match launcher.find() {
            Ok(trainer) => trainer,
            Err(error) if allow_commands => {
                tracing::warn!(%error, "this worker runs commands only");
                return Ok((launcher::gpus_without_libtorch(visible, Path::new("/dev")), None));
            }
            Err(error) => return Err(error.into()),
        };
        let (build, folder, source) =
            (&trainer.probe.trainer.libtorch, trainer.libraries.display(), &trainer.source);
        tracing::info!(%build, %folder, found_by = %source, "libtorch");
        if cpu_only {
            return Ok((Vec::new(), None));
        }
        let gpus = launcher::usable_gpus(&trainer.probe, visible);
        let gpus =
            gpus.map_err(|reason| AgentError::Machine(format!("{reason}; --devices cpu trains on the CPU")))?;
        Ok((gpus, Some(trainer.probe)))
    }
}

/// The tags, sorted, each once.
fn tags(tags: &[String]) -> Result<Vec<String>, AgentError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    for tag in tags {
        // An empty environment variable gives no tag.
        if tag.len() > 100 || !tag.chars().all(fits) || tag.starts_with(['.', '-']) {
            let allowed = "1 to 100 letters, digits, '.', '_' and '-', not starting with '.' or '-'";
            return Err(AgentError::Usage(format!("--tag {tag:?} is not a tag; allowed: {allowed}")));
        }
    }
    if tags.len() > TAGS_MAX {
        return Err(AgentError::Usage(format!(
            "--tag is given {} times; at most {TAGS_MAX} are allowed",
            tags.len()
        )));
    }
    let tags: BTreeSet<String> = tags.iter().filter(|tag| !tag.is_empty()).cloned().collect();
    Ok(tags.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        arguments: Arguments,
    }

    /// With --allow-commands, because there is no trainer beside the program that runs these tests.
    fn configured(words: &[&str], environment: &Environment) -> Result<AgentConfig, AgentError> {
        let words = ["sortie worker", "--allow-commands"].iter().chain(words);
        let Cli { connection, arguments } = Cli::try_parse_from(words).unwrap();
        config(&arguments, &connection, environment)
    }

    fn visible(gpus: &str) -> Environment {
        Environment { visible: Some(gpus.into()), ..Environment::default() }
    }

    #[test]
    fn data_lies_in_the_cache_unless_told() {
        let set = configured(&["--cache", "/c", "--devices", "cpu", "--slots", "3"], &Environment::default())
            .unwrap();
        assert_eq!((set.cache.as_path(), set.data.as_path()), (Path::new("/c"), Path::new("/c/data")));
        assert_eq!(set.slots.len(), 3);
        assert_eq!(
            configured(&["--cache", "/c", "--data", "/d"], &Environment::default()).unwrap().data,
            Path::new("/d")
        );
        let gpus = configured(&["--cache", "/c", "--threads", "5"], &visible("4,6")).unwrap();
        assert_eq!((gpus.slots.len(), gpus.slots[1].visible.as_str(), gpus.threads), (2, "6", 5));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for words in [
            &["--slots", "0"][..],
            &["--threads", "x"],
            &["--devices", "gpu"],
            &["--log-format", "xml"],
            &["extra"],
        ] {
            assert!(Cli::try_parse_from(["sortie worker"].iter().chain(words)).is_err(), "{words:?}");
        }
        let refused = |words: &[&str]| configured(words, &visible("")).unwrap_err().to_string();
        assert!(refused(&["--devices", "cuda:0"]).contains("cuda:0 is not there"));
        assert!(refused(&["--coordinator", "http://gpu7:7070"]).contains("--insecure"));
        assert!(refused(&["--tag", "a b"]).contains("--tag \"a b\" is not a tag"));
        let without = Cli::try_parse_from(["sortie worker"]).unwrap();
        let refusal = config(&without.arguments, &without.connection, &Environment::default()).unwrap_err();
        assert!(refusal.to_string().contains("sortie-trainer is missing"), "{refusal}");
        assert!(refused(&["--until", "soon"]).contains("--until \"soon\""));
    }

    #[test]
    fn tags_grace_and_the_end_of_time_are_passed_on() {
        let environment = Environment {
            job_end: Some("1000".into()),
            now: Duration::from_secs(400),
            ..Environment::default()
        };
        let words = ["--tag", "night,a100", "--tag", "night", "--grace", "9", "--until", "3h"];
        let set = configured(&words, &environment).unwrap();
        assert_eq!(set.tags, ["a100", "night"]);
        assert_eq!((set.grace, set.time_left), (Duration::from_secs(9), Some(Duration::from_secs(600))));
        let plain = configured(&[], &Environment::default()).unwrap();
        assert_eq!((plain.time_left, plain.grace), (None, Duration::from_secs(5)));
    }
}
