//! `sortie-worker run`: takes trials from a coordinator.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use sortie_proto::endpoint::{DEFAULT_COORDINATOR, coordinator_uri};
use sortie_worker::agent::{self, AgentConfig, AgentError, DeviceSelection};
use tracing_subscriber::EnvFilter;

use super::deadline;

/// The time that must be left before `--until` for a trial of which nobody knows how long it takes.
const TIME_FOR_UNKNOWN: Duration = Duration::from_secs(60);
/// Tags of one worker.
const TAGS_MAX: usize = 64;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Options of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Address of the coordinator
    #[arg(long, value_name = "URL", env = "SORTIE_COORDINATOR", default_value = DEFAULT_COORDINATOR)]
    pub coordinator: String,
    /// Allow a coordinator on another machine: nothing encrypts or authenticates the connection
    #[arg(long)]
    pub insecure: bool,
    /// Folder that holds the datasets' folders, such as ROOT/PACS [default: the cache folder's data/]
    #[arg(long, value_name = "ROOT", env = "SORTIE_DATA")]
    pub data: Option<PathBuf>,
    /// Folder of pretrained weights, datasets and logs of trials [default: sortie/ in the XDG cache folder]
    #[arg(long, value_name = "DIR", env = "SORTIE_CACHE")]
    pub cache: Option<PathBuf>,
    /// Where to train: all (every GPU that is visible, else the CPU), cpu, or cuda:0,1
    #[arg(long, value_name = "DEVICES", env = "SORTIE_DEVICES", default_value = "all")]
    pub devices: DeviceSelection,
    /// Trials at the same time, dealt out over the devices [default: one per device]
    #[arg(long, value_name = "N", env = "SORTIE_SLOTS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub slots: Option<u16>,
    /// CPU threads of each trial [default: the processors divided by the slots]
    #[arg(long, value_name = "N", env = "SORTIE_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Let sweeps run commands of their own on this machine, as the user that runs this worker (docs/commands.md)
    #[arg(long, env = "SORTIE_ALLOW_COMMANDS", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub allow_commands: bool,
    /// What to call this worker by: sweeps may require tags. May be repeated
    #[arg(long = "tag", value_name = "TAG", env = "SORTIE_TAGS", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Take only trials of this sweep
    #[arg(long, value_name = "NAME", env = "SORTIE_SWEEP")]
    pub sweep: Option<String>,
    /// End when no trial is left that this worker could get; also when no coordinator answers for 30 s
    #[arg(long)]
    pub exit_when_idle: bool,
    /// Work until then: a point in time such as 2026-01-31T18:00:00+01:00, or a duration such as 3h or 45m. Trials that would not finish
    /// are not started, and those that run are handed back shortly before. In a Slurm job its end counts too
    #[arg(long, value_name = "TIME", env = "SORTIE_UNTIL")]
    pub until: Option<String>,
    /// From the request to stop to the end of trials that do not stop by themselves
    #[arg(long, value_name = "SECONDS", env = "SORTIE_GRACE", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub grace: u32,
    /// Stop as by SIGTERM when standard input closes: for programs that start workers and must not leave any behind
    #[arg(long)]
    pub stop_on_stdin_close: bool,
    /// Note every call that the coordinator acknowledged in this file: tests compare it with what was kept
    #[arg(long, value_name = "FILE", env = "SORTIE_JOURNAL", hide = true)]
    pub journal: Option<PathBuf>,
    /// How the log on standard error is written
    #[arg(long, value_name = "FORMAT", env = "SORTIE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Runs the agent until it is done or asked to stop.
///
/// # Errors
/// One line that says what is wrong.
pub fn run(args: &RunArgs) -> Result<(), AgentError> {
    let surroundings = Surroundings {
        visible: std::env::var_os("CUDA_VISIBLE_DEVICES"),
        job_end: std::env::var_os("SLURM_JOB_END_TIME"),
        now: deadline::wall_clock(),
    };
    let mut config = config(args, &surroundings)?;
    config.gpu_memory_gib = agent::smallest_gpu_gib(&config.slots);
    start_log(args.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| AgentError::System("cannot start", error))?;
    let ended = runtime.block_on(async {
        let stop = agent::stop_requests(args.stop_on_stdin_close)?;
        agent::run(config, stop).await
    });
    // Nothing that is left may keep the program from ending; the trials' processes are gone.
    runtime.shutdown_background();
    ended
}

/// What the system tells a worker, besides its options.
#[derive(Debug, Default)]
struct Surroundings {
    /// CUDA_VISIBLE_DEVICES.
    visible: Option<OsString>,
    /// SLURM_JOB_END_TIME.
    job_end: Option<OsString>,
    /// The wall clock.
    now: Duration,
}

fn config(args: &RunArgs, surroundings: &Surroundings) -> Result<AgentConfig, AgentError> {
    let Surroundings { visible, job_end, now } = surroundings;
    let coordinator = coordinator_uri(&args.coordinator, args.insecure).map_err(AgentError::from)?.into();
    let cache = absolute(args.cache.clone().map_or_else(default_cache, Ok)?)?;
    let data = absolute(args.data.clone().unwrap_or_else(|| cache.join("data")))?;
    let gpus = agent::visible_gpus(visible.as_deref(), Path::new("/dev"));
    let slots = agent::plan(&args.devices, &gpus, args.slots.map(usize::from)).map_err(AgentError::Devices)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or_else(|| (processors / slots.len()).max(1), usize::from);
    Ok(AgentConfig {
        coordinator,
        data,
        cache,
        threads,
        slots,
        sweep: args.sweep.clone(),
        exit_when_idle: args.exit_when_idle,
        trial_program: trial_program()?,
        command_guard: if args.allow_commands { Some(command_guard()?) } else { None },
        tags: tags(&args.tags)?,
        gpu_memory_gib: 0.0,
        grace: Duration::from_secs(u64::from(args.grace)),
        time_left: deadline::time_left(args.until.as_deref(), job_end.as_deref(), *now).map_err(AgentError::Usage)?,
        time_for_unknown: TIME_FOR_UNKNOWN,
        journal: args.journal.clone(),
    })
}

/// This very program, even if its file was replaced or removed since it was started: trials must run the build that took them.
fn trial_program() -> Result<PathBuf, AgentError> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        return Ok(running.to_path_buf());
    }
    std::env::current_exe().map_err(|error| AgentError::System("cannot tell where this program lies", error))
}

/// The program beside this one that runs commands.
fn command_guard() -> Result<PathBuf, AgentError> {
    let own = std::env::current_exe().map_err(|error| AgentError::System("cannot tell where this program lies", error))?;
    let guard = own.with_file_name("sortie-guard");
    if guard.is_file() {
        return Ok(guard);
    }
    let why = format!("{} is missing, and --allow-commands needs it: it is built and installed with sortie-worker", guard.display());
    Err(AgentError::Usage(why))
}

/// Sorted, each once; as sweep files may require them.
fn tags(tags: &[String]) -> Result<Vec<String>, AgentError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    for tag in tags {
        // An empty variable names none.
        if tag.len() > 100 || !tag.chars().all(fits) || tag.starts_with(['.', '-']) {
            let allowed = "1 to 100 letters, digits, '.', '_' and '-', not starting with '.' or '-'";
            return Err(AgentError::Usage(format!("--tag {tag:?} is not a tag; allowed: {allowed}")));
        }
    }
    if tags.len() > TAGS_MAX {
        return Err(AgentError::Usage(format!("--tag is given {} times; at most {TAGS_MAX} are allowed", tags.len())));
    }
    let tags: BTreeSet<String> = tags.iter().filter(|tag| !tag.is_empty()).cloned().collect();
    Ok(tags.into_iter().collect())
}

/// Where weights, datasets and caches lie unless told.
pub(crate) fn default_cache() -> Result<PathBuf, AgentError> {
    let folders = directories::BaseDirs::new().ok_or_else(|| std::io::Error::other("there is no home folder; name one by --cache DIR"));
    folders.map(|folders| folders.cache_dir().join("sortie")).map_err(|error| AgentError::System("cannot tell the cache folder", error))
}

/// The same path, whatever the working directory becomes.
pub(crate) fn absolute(path: PathBuf) -> Result<PathBuf, AgentError> {
    std::path::absolute(path).map_err(|error| AgentError::System("cannot tell the working directory", error))
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("SORTIE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::{CommandFactory as _, Parser as _};

    fn args(words: &[&str]) -> RunArgs {
        let cli = Cli::try_parse_from(["sortie-worker", "run"].iter().chain(words)).unwrap();
        match cli.command {
            Command::Run(args) => *args,
            other => panic!("that was {other:?}"),
        }
    }

    fn visible(gpus: &str) -> Surroundings {
        Surroundings { visible: Some(gpus.into()), ..Surroundings::default() }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn data_lies_in_the_cache_unless_told() {
        let set = config(&args(&["--cache", "/c", "--devices", "cpu", "--slots", "3"]), &Surroundings::default()).unwrap();
        assert_eq!((set.cache.as_path(), set.data.as_path()), (Path::new("/c"), Path::new("/c/data")));
        assert_eq!(set.slots.len(), 3);
        assert_eq!(config(&args(&["--cache", "/c", "--data", "/d"]), &Surroundings::default()).unwrap().data, Path::new("/d"));
        let gpus = config(&args(&["--cache", "/c", "--threads", "5"]), &visible("4,6")).unwrap();
        assert_eq!((gpus.slots.len(), gpus.slots[1].visible.as_str(), gpus.threads), (2, "6", 5));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for words in [&["--slots", "0"][..], &["--threads", "x"], &["--devices", "gpu"], &["--log-format", "xml"], &["extra"]] {
            assert!(Cli::try_parse_from(["sortie-worker", "run"].iter().chain(words)).is_err(), "{words:?}");
        }
        let refused = |words: &[&str]| config(&args(words), &visible("")).unwrap_err().to_string();
        assert!(refused(&["--devices", "cuda:0"]).contains("cuda:0 is not there"));
        assert!(refused(&["--coordinator", "http://gpu7:7070"]).contains("--insecure"));
        assert!(refused(&["--tag", "a b"]).contains("--tag \"a b\" is not a tag"));
        assert!(refused(&["--until", "soon"]).contains("--until \"soon\""));
        // There is no guard beside the program that runs unit tests.
        assert!(refused(&["--allow-commands"]).contains("sortie-guard is missing"));
    }

    #[test]
    fn tags_grace_and_the_end_of_time_are_passed_on() {
        let surroundings = Surroundings { job_end: Some("1000".into()), now: Duration::from_secs(400), ..Surroundings::default() };
        let words = ["--tag", "night,a100", "--tag", "night", "--grace", "9", "--until", "3h"];
        let set = config(&args(&words), &surroundings).unwrap();
        assert_eq!(set.tags, ["a100", "night"]);
        assert_eq!((set.grace, set.time_left), (Duration::from_secs(9), Some(Duration::from_secs(600))));
        let plain = config(&args(&[]), &Surroundings::default()).unwrap();
        assert_eq!((plain.time_left, plain.grace, plain.command_guard), (None, Duration::from_secs(5), None));
    }
}
