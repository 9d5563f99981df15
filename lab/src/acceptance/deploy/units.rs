//! Checks of the systemd units.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::settings::{self, KnownVariables};
use crate::programs::Programs;

/// The folder of the programs in the units.
const INSTALLED: &str = "/usr/local/bin/";
const UNITS: [(&str, &str); 2] = [
    ("sortie-coordinator.service", "coordinator.env.example"),
    ("sortie-worker.service", "worker.env.example"),
];
const USERS: &str = "sortie.sysusers.conf";

/// Checks the units, their example settings, and the user that they run under.
pub fn check(folder: &Path, programs: &Programs, known: &KnownVariables) -> Result<()> {
    for (name, example) in UNITS {
        let unit = read(&folder.join(name))?;
        let commands = check_unit(name, &unit, programs)?;
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let example = read(&folder.join(example))?;
        for setting in values(&unit, "Environment").chain(example.lines()) {
            // In the examples, optional settings are comments without a space after the sign.
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

/// Runs `systemd-analyze verify` on the unit, with the folder of the programs replaced by the real one. Returns the unit's commands.
fn check_unit(name: &str, unit: &str, programs: &Programs) -> Result<Vec<String>> {
    ensure!(unit.contains(INSTALLED), "{name} starts nothing from {INSTALLED}");
    let bin = programs.sortie.parent().context("the programs are in no folder")?;
    let placed = unit.replace(INSTALLED, &format!("{}/", bin.display()));
    verify(name, &placed)?;
    // The check itself is checked: an unknown key is only a warning to systemd, but must be refused here.
    let broken = placed.replace("KillMode=", "KillModus=");
    ensure!(broken != placed && verify(name, &broken).is_err(), "systemd-analyze accepts a broken {name}");
    let commands: Vec<String> = values(unit, "ExecStart").map(str::to_owned).collect();
    for command in &commands {
        // systemd replaces a variable without braces by any number of words.
        let words = command.split_whitespace().filter(|word| !word.starts_with('$')).map(str::to_owned);
        settings::check_command(programs, &words.collect::<Vec<_>>()).with_context(|| name.to_owned())?;
    }
    Ok(commands)
}

fn verify(name: &str, unit: &str) -> Result<()> {
    // Each unit has its own folder, because systemd reads units that name each other together.
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = scratch.path().join(name);
    fs::write(&path, unit).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new("systemd-analyze");
    // The machines of a deployment may have no manual pages.
    command.args(["verify", "--man=no"]).arg(&path);
    let output = command.output().context("cannot start systemd-analyze")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stderr = stderr.trim();
    ensure!(
        output.status.success() && stderr.is_empty(),
        "systemd-analyze verify: {}",
        stderr.replace('\n', " | ")
    );
    Ok(())
}

/// The values of a key in a unit.
fn values<'a>(unit: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Runs systemd-sysusers with a temporary root folder, and looks for the user.
fn check_users(path: &Path) -> Result<()> {
    let root = tempfile::tempdir().context("cannot make a temporary folder")?;
    let etc = root.path().join("etc");
    fs::create_dir(&etc).with_context(|| format!("cannot make {}", etc.display()))?;
    let mut command = Command::new("systemd-sysusers");
    let mut option = OsString::from("--root=");
    option.push(root.path());
    let output = command.arg(option).arg(path).output().context("cannot start systemd-sysusers")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "systemd-sysusers: {}", stderr.trim().replace('\n', " | "));
    let users = read(&etc.join("passwd"))?;
    ensure!(
        users.lines().any(|line| line.starts_with("sortie:")),
        "{} does not create a user named sortie",
        path.display()
    );
    println!("{USERS}: creates the user that the units name");
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
