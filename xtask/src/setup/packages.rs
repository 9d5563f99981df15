//! Programs that only some commands need, from the system's own packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;
use sortie_testkit::programs::{find, find_server};

use crate::process;

/// What Debian's packages of PostgreSQL read before they make a server that starts with the machine.
const CLUSTER_SETTINGS: &str = "/etc/postgresql-common/createcluster.d";
/// Another installation, one of the system's nightly ones perhaps, may hold the package manager's lock for so long.
const LOCK_SECONDS_MAX: &str = "DPkg::Lock::Timeout=300";

/// A program, and the package of Debian that has it.
pub type Need = (&'static str, &'static str);

/// Makes sure that the programs are there. As root on a system with apt-get, it installs what is missing; else it fails with one line that
/// says what to install.
pub fn require(needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    if !geteuid().is_root() || find("apt-get").is_none() {
        bail!("{}", refusal(&missing));
    }
    install(&packages(&missing)).with_context(|| refusal(&missing))?;
    let missing = self::missing(needs);
    ensure!(
        missing.is_empty(),
        "{}, though apt-get has just installed what should have it",
        refusal(&missing)
    );
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<Need> {
    needs.iter().copied().filter(|(program, _)| find_server(program).is_none()).collect()
}

fn packages(needs: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn refusal(missing: &[Need]) -> String {
    let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let (verb, pronoun) = if missing.len() == 1 { ("is", "it") } else { ("are", "them") };
    format!(
        "{} {verb} missing; get {pronoun} with: apt-get install {}",
        programs.join(", "),
        packages(missing).join(" ")
    )
}

fn install(packages: &[&str]) -> Result<()> {
    println!("installing {} with apt-get", packages.join(" "));
    let _settings = packages
        .contains(&"postgresql")
        .then(|| NoCluster::start(Path::new(CLUSTER_SETTINGS)))
        .transpose()?;
    process::run(apt_get().args(["--quiet=2", "update"]))?;
    process::run(apt_get().args(["--quiet=2", "--yes", "--no-install-recommends", "install"]).args(packages))
}

/// apt-get, which asks nothing.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command.args(["--option", LOCK_SECONDS_MAX, "--option", "Dpkg::Use-Pty=0"]);
    command
}

/// While it exists, installing PostgreSQL starts no server: the tests start their own ones. Afterwards the settings are as they were.
struct NoCluster {
    file: PathBuf,
}

impl NoCluster {
    fn start(folder: &Path) -> Result<Self> {
        let file = folder.join("sortie.conf");
        let written =
            fs::create_dir_all(folder).and_then(|()| fs::write(&file, "create_main_cluster = false\n"));
        written.with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { file })
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        // A file that stays behind does no harm beyond the next server that somebody wants made at once.
        let _ = fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_needs_nothing() {
        require(&[("sh", "dash"), ("env", "coreutils")]).unwrap();
        require(&[]).unwrap();
    }

    #[test]
    fn what_is_missing_is_named_in_one_line() {
        let needs = [
            ("sh", "dash"),
            ("no-such-slurmd", "slurmd"),
            ("no-such-slurmctld", "slurmctld"),
            ("no-such-srun", "slurmd"),
        ];
        let missing = missing(&needs);
        assert_eq!(missing, needs[1..]);
        let line = "no-such-slurmd, no-such-slurmctld, no-such-srun are missing; get them with: apt-get install slurmctld slurmd";
        assert_eq!(refusal(&missing), line);
        assert_eq!(refusal(&missing[..1]), "no-such-slurmd is missing; get it with: apt-get install slurmd");
    }

    #[test]
    fn no_server_is_started_while_postgresql_is_installed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("createcluster.d");
        let settings = NoCluster::start(&folder).unwrap();
        assert_eq!(fs::read_to_string(&settings.file).unwrap(), "create_main_cluster = false\n");
        drop(settings);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
