//! `sortie worker`: takes trials from a coordinator.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use sortie_worker::{AgentConfig, AgentError};

use crate::connection::Connection;
use crate::logging::{self, LogFormat};
use crate::machine::Machine;
use crate::{deadline, output};

/// Tags of one worker.
const TAGS_MAX: usize = 64;

/// Take trials from a coordinator and run them until stopped
///
/// Takes as many trials per GPU as fit, or one on the CPU where there is no GPU. SIGTERM or Ctrl-C hands the running trials back and ends within the
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
    #[arg(long, env = "SORTIE_ALLOW_COMMANDS")]
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
    use std::path::Path;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        arguments: Arguments,
    }

    /// With --allow-commands, because there is no trainer beside the program that runs these tests.
    fn configured(words: &[&str], environment: &Environment) -> Result<AgentConfig, AgentError> {
        let words = ["sortie worker", "--allow-commands", "--insecure"].iter().chain(words);
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
        assert_eq!((gpus.slots[1].visible.as_str(), gpus.threads, gpus.by_memory), ("6", 5, true));
        let fixed = configured(&["--cache", "/c", "--slots", "2"], &visible("4,6")).unwrap();
        assert_eq!((fixed.slots.len(), fixed.by_memory), (2, false));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for words in [
            &["--slots", "0"][..],
            &["--slots", "many"],
            &["--threads", "x"],
            &["--devices", "gpu"],
            &["--log-format", "xml"],
            &["extra"],
        ] {
            assert!(Cli::try_parse_from(["sortie worker"].iter().chain(words)).is_err(), "{words:?}");
        }
        let refused = |words: &[&str]| configured(words, &visible("")).unwrap_err().to_string();
        assert!(refused(&["--devices", "cuda:0"]).contains("cuda:0 is not there"));
        assert!(refused(&["--coordinator", "https://gpu7:7070"]).contains("--insecure"));
        assert!(refused(&["--tag", "a b"]).contains("--tag \"a b\" is not a tag"));
        let without = Cli::try_parse_from(["sortie worker", "--insecure"]).unwrap();
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
