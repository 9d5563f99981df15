//! The command line of `sortie-worker`.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use sortie_proto::endpoint::{DEFAULT_COORDINATOR, coordinator_uri};
use sortie_worker::agent::{self, AgentConfig, AgentError, DeviceSelection};
use sortie_worker::data::default_budget_bytes;
use tracing_subscriber::EnvFilter;

/// Runs trials of Sortie sweeps on this machine: asks a coordinator for trials, fine-tunes and evaluates each one in a process of its
/// own, and reports the results.
#[derive(Debug, Parser)]
#[command(
    name = "sortie-worker",
    version,
    after_help = "Every option but the switches can be set by the variable named with it; the option wins. SORTIE_LOG chooses what is logged, such as debug or sortie_worker=trace.\nExit codes: 0 done, 1 stopped with one line that says why, 2 wrong usage."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take trials from a coordinator and run them until stopped
    ///
    /// Takes one trial per GPU, or one on the CPU where there is no GPU. SIGTERM or Ctrl-C hands the running trials back and ends
    /// within a few seconds; a second one ends at once. While the coordinator cannot be reached, running trials train on and their
    /// results are delivered later.
    Run(RunArgs),
    /// Run the one trial that is assigned on standard input
    #[command(hide = true)]
    Trial,
}

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
    /// Take only trials of this sweep
    #[arg(long, value_name = "NAME", env = "SORTIE_SWEEP")]
    pub sweep: Option<String>,
    /// End when no trial is left that this worker could get; also when no coordinator answers for 30 s
    #[arg(long)]
    pub exit_when_idle: bool,
    /// Stop as by SIGTERM when standard input closes: for programs that start workers and must not leave any behind
    #[arg(long)]
    pub stop_on_stdin_close: bool,
    /// How the log on standard error is written
    #[arg(long, value_name = "FORMAT", env = "SORTIE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Runs the agent until it is done or asked to stop.
///
/// # Errors
/// One line that says what is wrong.
pub fn run(args: &RunArgs) -> Result<(), AgentError> {
    let config = config(args, std::env::var_os("CUDA_VISIBLE_DEVICES"))?;
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

fn config(args: &RunArgs, visible: Option<OsString>) -> Result<AgentConfig, AgentError> {
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
        // Shared by the trials that run at the same time.
        image_budget_bytes: default_budget_bytes() / slots.len() as u64,
        slots,
        sweep: args.sweep.clone(),
        exit_when_idle: args.exit_when_idle,
        trial_program: trial_program()?,
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

fn default_cache() -> Result<PathBuf, AgentError> {
    let folders = directories::BaseDirs::new().ok_or_else(|| std::io::Error::other("there is no home folder; name one by --cache DIR"));
    folders.map(|folders| folders.cache_dir().join("sortie")).map_err(|error| AgentError::System("cannot tell the cache folder", error))
}

fn absolute(path: PathBuf) -> Result<PathBuf, AgentError> {
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
    use super::*;
    use clap::CommandFactory as _;

    fn args(words: &[&str]) -> RunArgs {
        let cli = Cli::try_parse_from(["sortie-worker", "run"].iter().chain(words)).unwrap();
        match cli.command {
            Command::Run(args) => args,
            Command::Trial => panic!("that was run"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn data_lies_in_the_cache_unless_told() {
        let set = config(&args(&["--cache", "/c", "--devices", "cpu", "--slots", "3"]), None).unwrap();
        assert_eq!((set.cache.as_path(), set.data.as_path()), (Path::new("/c"), Path::new("/c/data")));
        assert_eq!(set.slots.len(), 3);
        assert_eq!(config(&args(&["--cache", "/c", "--data", "/d"]), None).unwrap().data, Path::new("/d"));
        let gpus = config(&args(&["--cache", "/c", "--threads", "5"]), Some("4,6".into())).unwrap();
        assert_eq!((gpus.slots.len(), gpus.slots[1].visible.as_str(), gpus.threads), (2, "6", 5));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for words in [&["--slots", "0"][..], &["--threads", "x"], &["--devices", "gpu"], &["--log-format", "xml"], &["extra"]] {
            assert!(Cli::try_parse_from(["sortie-worker", "run"].iter().chain(words)).is_err(), "{words:?}");
        }
        let refused = |words: &[&str]| config(&args(words), Some("".into())).unwrap_err().to_string();
        assert!(refused(&["--devices", "cuda:0"]).contains("cuda:0 is not there"));
        assert!(refused(&["--coordinator", "http://gpu7:7070"]).contains("--insecure"));
    }
}
