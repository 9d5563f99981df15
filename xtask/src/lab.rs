//! `cargo xtask bench|chaos|acceptance`: build what `sortie-lab` needs, then run `sortie-lab` in place of this process.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::Args;

use crate::process;
use crate::setup::{self, packages, python_package};

/// Carries the schema of the compose specification: package and version.
const CHECKER: (&str, &str) = ("check-jsonschema", "0.39.0");
/// What a Slurm cluster of this machine's own needs.
const SLURM_PACKAGES: [packages::Need; 8] = [
    ("munged", "munge"),
    ("slurmctld", "slurm-wlm"),
    ("slurmd", "slurm-wlm"),
    ("sbatch", "slurm-wlm"),
    ("squeue", "slurm-wlm"),
    ("scontrol", "slurm-wlm"),
    ("scancel", "slurm-wlm"),
    ("setpriv", "util-linux"),
];
/// What hosts of this machine's own need, and what listens between them.
const NETWORK_PACKAGES: [packages::Need; 3] =
    [("ip", "iproute2"), ("tshark", "tshark"), ("setpriv", "util-linux")];
/// What checks the files in deploy/.
const DEPLOY_PACKAGES: [packages::Need; 3] =
    [("systemd-analyze", "systemd"), ("systemd-sysusers", "systemd"), ("bash", "bash")];

/// An option for the build, and those that are passed on.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// Use an unoptimised build, which is quicker to make
    #[arg(long)]
    dev: bool,
    /// Options of `sortie-lab`; --help lists them
    #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// A subcommand of `cargo xtask` that `sortie-lab` carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Benchmarks.
    Bench,
    /// Fault injection.
    Chaos,
    /// Deployments.
    Acceptance,
}

/// The command of `sortie-lab` that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// One that needs a coordinator.
    Coordinator,
    /// One that needs workers, too.
    Workers,
    Train,
    Slurm,
    Deploy,
    Network,
    /// Help, or a mistake: `sortie-lab` explains it.
    Explain,
}

/// Runs `sortie-lab` in place of this process; returns only if that fails.
pub fn run(area: Area, options: &Options) -> Result<()> {
    let arguments: Vec<&OsString> = passed_on(options).collect();
    let task = task(area, &arguments);
    match task {
        Task::Slurm => packages::require(&SLURM_PACKAGES)?,
        Task::Deploy => packages::require(&DEPLOY_PACKAGES)?,
        Task::Network => packages::require(&NETWORK_PACKAGES)?,
        Task::Coordinator | Task::Workers | Task::Train | Task::Explain => {}
    }
    let has_programs = arguments.iter().any(|argument| is_option(argument, "--programs"));
    let programs: &[&str] = match task {
        Task::Explain => &[],
        Task::Coordinator => &["sortie"],
        _ if has_programs => &[],
        _ => &["sortie", "sortie-trainer"],
    };
    if programs.contains(&"sortie-trainer") {
        setup::run(&setup::SetupOptions::default())?;
    }
    // The trials of a deployment compute nothing, and the tests have made most of a debug build already.
    let dev = area == Area::Acceptance || options.dev || options.arguments.iter().any(|word| word == "--dev");
    let mut lab = build(area, programs, dev)?;
    match task {
        Task::Coordinator => {
            let program = Path::new(lab.get_program()).with_file_name("sortie");
            lab.env("SORTIE_PROGRAM", program);
        }
        Task::Train | Task::Workers => {
            lab.env("SORTIE_LAB_CACHE", setup::cache_dir()?);
        }
        Task::Deploy => {
            lab.env("SORTIE_LAB_CHECKER", python_package::folder(CHECKER.0, CHECKER.1)?);
        }
        Task::Slurm | Task::Network | Task::Explain => {}
    }
    match area {
        Area::Bench => {}
        Area::Chaos => drop(lab.arg("chaos")),
        Area::Acceptance => drop(lab.arg("acceptance")),
    }
    // From here on the terminal's Ctrl-C reaches `sortie-lab` itself.
    let error = lab.args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", lab.get_program().display()))
}

fn task(area: Area, arguments: &[&OsString]) -> Task {
    if arguments.iter().any(|argument| *argument == "--help" || *argument == "-h") {
        return Task::Explain;
    }
    let name = arguments.first().and_then(|name| name.to_str()).unwrap_or_default();
    match (area, name) {
        (Area::Chaos, _) => Task::Workers,
        (Area::Bench, "dispatch" | "cycle-cost" | "idle" | "results") => Task::Coordinator,
        (Area::Bench, "train") => Task::Train,
        (Area::Bench, "turnaround") => Task::Workers,
        (Area::Acceptance, "slurm") => Task::Slurm,
        (Area::Acceptance, "deploy") => Task::Deploy,
        (Area::Acceptance, "day") => Task::Workers,
        (Area::Acceptance, "network") => Task::Network,
        (Area::Bench | Area::Acceptance, _) => Task::Explain,
    }
}

/// `--dev` may follow what is passed on, too.
fn passed_on(options: &Options) -> impl Iterator<Item = &OsString> {
    options.arguments.iter().filter(|argument| *argument != "--dev")
}

fn is_option(argument: &OsString, name: &str) -> bool {
    let argument = argument.to_string_lossy();
    argument.split('=').next() == Some(name)
}

fn build(area: Area, programs: &[&str], dev: bool) -> Result<Command> {
    let repository = setup::repository()?;
    let mut cargo = process::cargo();
    cargo.args(["build", "--locked", "--package", "sortie-lab"]).current_dir(&repository);
    for program in programs {
        cargo.args(["--package", program]);
    }
    if area == Area::Chaos {
        // The workers note what the coordinator acknowledged.
        cargo.args(["--package", "sortie-worker", "--features", "sortie-worker/test-hooks"]);
    }
    if !dev {
        cargo.arg("--release");
    }
    // Standard output belongs to the results.
    process::run(cargo.stdout(Stdio::null()))?;
    let folder = process::target(&repository).join(if dev { "debug" } else { "release" });
    Ok(Command::new(folder.join("sortie-lab")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &str) -> Options {
        Program::try_parse_from(["chaos"].into_iter().chain(words.split(' '))).unwrap().options
    }

    #[test]
    fn everything_but_our_own_option_is_passed_on() {
        for words in
            ["--dev --store sqlite --json", "--store sqlite --json --dev", "--store sqlite --dev --json"]
        {
            let options = parse(words);
            assert_eq!(passed_on(&options).collect::<Vec<_>>(), ["--store", "sqlite", "--json"], "{words}");
        }
        assert_eq!(passed_on(&parse("--help")).collect::<Vec<_>>(), ["--help"]);
    }

    #[test]
    fn a_mistake_builds_nothing_but_the_lab() {
        for (area, words, expected) in [
            (Area::Chaos, "--store sqlite", Task::Workers),
            (Area::Bench, "dispatch --trials 1000", Task::Coordinator),
            (Area::Bench, "train --data data", Task::Train),
            (Area::Bench, "turnaround --turns 3", Task::Workers),
            (Area::Bench, "trian --data data", Task::Explain),
            (Area::Acceptance, "slurm --programs p", Task::Slurm),
            (Area::Acceptance, "network", Task::Network),
            (Area::Acceptance, "deploy --help", Task::Explain),
            (Area::Acceptance, "--programs p", Task::Explain),
        ] {
            let options = parse(words);
            assert_eq!(task(area, &passed_on(&options).collect::<Vec<_>>()), expected, "{words}");
        }
    }

    #[test]
    fn an_option_is_found_with_its_value_beside_or_inside() {
        for (word, found) in [("--programs", true), ("--programs=p", true), ("--program", false)] {
            assert_eq!(is_option(&word.into(), "--programs"), found, "{word}");
        }
    }
}
