//! `cargo xtask fuzz`: feeds made-up input to whatever reads the input of others, by libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::process;
use crate::setup;

/// Builds and runs the targets.
const CARGO_FUZZ: &str = "cargo-fuzz";
const CARGO_FUZZ_VERSION: &str = "0.13.2";
/// An input that takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 20;
/// A target that takes more memory is one, too.
const MEMORY_MIB_MAX: u32 = 2_048;

/// A target in fuzz/fuzz_targets, and what it needs beside its own inputs in fuzz/corpus.
struct Target {
    name: &'static str,
    /// Folders of the repository whose files are inputs, too.
    inputs: &'static [&'static str],
    needs_libtorch: bool,
    bytes_max: u32,
}

const TARGETS: [Target; 9] = [
    target("sweep", 4_096).with(&["examples"]),
    target("filter", 512),
    target("sql", 2_048),
    target("requests", 4_096),
    target("access", 8_192),
    target("pipe", 4_096),
    target("images", 16_384),
    target("domainbed", 8_192),
    Target { needs_libtorch: true, ..target("weights", 16_384) },
];

/// Options of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// The targets, such as `sweep` and `sql`; all of them if none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Runs targets one after the other, and fails when one finds something.
pub fn run(options: &Options) -> Result<()> {
    let targets = chosen(&options.targets)?;
    if targets.iter().any(|target| target.needs_libtorch) {
        setup::run(&setup::SetupOptions::default())?;
    }
    let (repository, program) = (setup::repository()?, cargo_fuzz()?);
    let mut found = Vec::new();
    for target in targets {
        println!("{}: {} minutes", target.name, options.minutes);
        let mut fuzz = command(&program, &repository, target, options.minutes * 60)?;
        let status = fuzz.status().with_context(|| format!("cannot start {}", program.display()))?;
        if !status.success() {
            found.push(target.name);
        }
    }
    ensure!(
        found.is_empty(),
        "failed: {}; the inputs are in fuzz/artifacts, and `cargo fuzz run TARGET INPUT` repeats one",
        found.join(", ")
    );
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let find = |name: &String| match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => Ok(target),
        None => {
            let allowed: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            bail!("there is no target {name:?}; allowed: {}", allowed.join(", "))
        }
    };
    names.iter().map(find).collect()
}

/// The program `cargo-fuzz` of our version, built if it is not there.
fn cargo_fuzz() -> Result<PathBuf> {
    let root = setup::cache_dir()?.join("tools").join(format!("{CARGO_FUZZ}-{CARGO_FUZZ_VERSION}"));
    let program = root.join("bin").join(CARGO_FUZZ);
    if !program.is_file() {
        let mut install = process::cargo();
        install.args(["install", CARGO_FUZZ, "--version", CARGO_FUZZ_VERSION, "--locked", "--root"]);
        process::run(install.arg(&root))?;
    }
    Ok(program)
}

/// Runs a target. New inputs that reach new code are kept in the target folder, not in the repository.
fn command(program: &Path, repository: &Path, target: &Target, seconds: u64) -> Result<Command> {
    let build = process::target(repository).join("fuzz");
    let kept = build.join("corpus").join(target.name);
    fs::create_dir_all(&kept).with_context(|| format!("cannot create {}", kept.display()))?;
    let mut fuzz = Command::new(program);
    // Our code has no `unsafe` but around libtorch, so an address sanitizer would need a nightly compiler and find little.
    fuzz.current_dir(repository).stdin(Stdio::null()).args([
        "run",
        "--fuzz-dir",
        "fuzz",
        "--sanitizer",
        "none",
    ]);
    fuzz.arg("--target-dir").arg(&build);
    if target.needs_libtorch {
        fuzz.args(["--features", "libtorch"]);
    }
    fuzz.arg(target.name).arg(kept).arg(repository.join("fuzz/corpus").join(target.name));
    fuzz.args(target.inputs.iter().map(|folder| repository.join(folder)));
    fuzz.arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={}", target.bytes_max),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        "-print_final_stats=1".to_owned(),
    ]);
    Ok(fuzz)
}

const fn target(name: &'static str, bytes_max: u32) -> Target {
    Target { name, inputs: &[], needs_libtorch: false, bytes_max }
}

impl Target {
    const fn with(self, inputs: &'static [&'static str]) -> Self {
        Self { inputs, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_package_and_have_inputs() {
        let repository = setup::repository().unwrap();
        let names = |folder: &str| {
            let entries = fs::read_dir(repository.join(folder)).unwrap().flatten();
            let mut names: Vec<String> =
                entries.map(|entry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        let mut expected: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        expected.sort_unstable();
        assert_eq!(names("fuzz/fuzz_targets"), expected);
        assert_eq!(names("fuzz/corpus"), expected);
    }

    #[test]
    fn an_unknown_target_is_named_with_those_that_exist() {
        let error = chosen(&["sweeps".to_owned()]).err().unwrap().to_string();
        assert!(error.starts_with("there is no target \"sweeps\"; allowed: sweep, filter, "), "{error}");
        assert_eq!(chosen(&[]).unwrap().len(), TARGETS.len());
    }
}
