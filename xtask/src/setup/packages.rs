//! Debian packages that a chore needs beyond what every build needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::tools;

/// Where daemons lie that an ordinary user's PATH leaves out.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Makes sure that each program is there. `packages` pairs a program with the Debian package that holds it; as root on Debian, what is
/// missing is installed.
///
/// # Errors
/// One line that names the missing programs and what to install.
pub fn require(packages: &[(&str, &str)]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let mut names: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    names.sort_unstable();
    names.dedup();
    let advice = || {
        let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        let (programs, names) = (programs.join(", "), names.join(" "));
        format!("missing: {programs}; get them as root with: apt-get install {names}")
    };
    ensure!(rustix::process::geteuid().is_root() && tools::find("apt-get").is_some(), "{}", advice());
    eprintln!("Installing {}", names.join(" "));
    // Lists that are older than the archive name files that are gone; the second try has new ones.
    let installed = install(&names).or_else(|_| apt_get(&["update", "-qq"]).and_then(|()| install(&names)));
    installed.with_context(advice)?;
    ensure!(self::missing(packages).is_empty(), "{} were installed, but still: {}", names.join(" "), advice());
    Ok(())
}

/// The program, also where only root looks for it.
fn find(program: &str) -> Option<PathBuf> {
    let system = || SYSTEM_FOLDERS.iter().find_map(|folder| tools::find(Path::new(folder).join(program)));
    tools::find(program).or_else(system)
}

fn missing<'a>(packages: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    packages.iter().filter(|(program, _)| find(program).is_none()).copied().collect()
}

fn install(names: &[&str]) -> Result<()> {
    let mut arguments = vec!["install", "-qq", "--yes", "--no-install-recommends"];
    arguments.extend(names);
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    // What it prints is for people at a terminal; what a chore prints on stdout may be read by a program.
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let output = command.output().context("cannot start apt-get")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "apt-get {}: {}", arguments.join(" "), text.lines().last().unwrap_or("no reason given"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_missing() {
        assert_eq!(missing(&[("sh", "dash"), ("no-such-program", "some-package")]), [("no-such-program", "some-package")]);
        assert!(require(&[("sh", "dash")]).is_ok());
    }
}
