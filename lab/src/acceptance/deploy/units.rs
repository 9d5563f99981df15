//! The units of systemd.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::settings::{self, Known};
use crate::programs::Programs;

/// Where the units expect the programs.
const INSTALLED: &str = "/usr/local/bin/";
const UNITS: [(&str, &str); 2] = [
    ("sortie-coordinator.service", "coordinator.env.example"),
    ("sortie-worker.service", "worker.env.example"),
];
const USERS: &str = "sortie.sysusers.conf";

/// Checks the units, their example settings, and the user that they run as.
pub fn check(folder: &Path, programs: &Programs, known: &Known) -> Result<()> {
    for (name, example) in UNITS {
        let unit = read(&folder.join(name))?;
        let commands = check_unit(name, &unit, programs)?;
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let example = read(&folder.join(example))?;
        for setting in values(&unit, "Environment").chain(example.lines()) {
            // The examples show further settings behind a sign of comment, without a space.
            let setting = setting.strip_prefix('#').unwrap_or(setting);
            if let Some((variable, _)) =
                setting.split_once('=').filter(|(variable, _)| !variable.contains(' '))
            {
                known.check(variable, &commands).with_context(|| name.to_owned())?;
            }
        }
        println!("{name}: systemd accepts it, and the program its command line and settings");
    }
    check_users(&folder.join(USERS))
}

/// What `systemd-analyze verify` says of the unit with the programs in the place where they are; returns the unit's commands.
fn check_unit(name: &str, unit: &str, programs: &Programs) -> Result<Vec<String>> {
    ensure!(unit.contains(INSTALLED), "{name} starts nothing from {INSTALLED}");
    let bin = programs.sortie.parent().context("the programs are in no folder")?;
    let placed = unit.replace(INSTALLED, &format!("{}/", bin.display()));
    verify(name, &placed)?;
    // It must be able to refuse, too: a key that does not exist is only a warning to systemd.
    let broken = placed.replace("KillMode=", "KillModus=");
    ensure!(broken != placed && verify(name, &broken).is_err(), "systemd-analyze accepts a broken {name}");
    let commands: Vec<String> = values(unit, "ExecStart").map(str::to_owned).collect();
    for command in &commands {
        // A variable without braces becomes any number of words, or none.
        let words = command.split_whitespace().filter(|word| !word.starts_with('$')).map(str::to_owned);
        settings::check_command(programs, &words.collect::<Vec<_>>()).with_context(|| name.to_owned())?;
    }
    Ok(commands)
}

fn verify(name: &str, unit: &str) -> Result<()> {
    // A folder of its own: units that name each other are read together.
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = scratch.path().join(name);
    fs::write(&path, unit).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new("systemd-analyze");
    // No manual pages are looked for: units are deployed on machines that have none.
    command.args(["verify", "--man=no"]).arg(&path);
    let output = command.output().context("cannot start systemd-analyze")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    ensure!(
        output.status.success() && said.is_empty(),
        "systemd-analyze verify: {}",
        said.replace('\n', " | ")
    );
    Ok(())
}

/// The values of a key.
fn values<'a>(unit: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Lets systemd make the user in a root folder of its own.
fn check_users(path: &Path) -> Result<()> {
    let root = tempfile::tempdir().context("cannot make a temporary folder")?;
    let etc = root.path().join("etc");
    fs::create_dir(&etc).with_context(|| format!("cannot make {}", etc.display()))?;
    let mut command = Command::new("systemd-sysusers");
    let mut option = OsString::from("--root=");
    option.push(root.path());
    let output = command.arg(option).arg(path).output().context("cannot start systemd-sysusers")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "systemd-sysusers: {}", said.trim().replace('\n', " | "));
    let users = read(&etc.join("passwd"))?;
    ensure!(
        users.lines().any(|line| line.starts_with("sortie:")),
        "{} makes no user named sortie",
        path.display()
    );
    println!("{USERS}: makes the user that the units name");
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
