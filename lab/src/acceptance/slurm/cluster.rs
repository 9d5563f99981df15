//! A Slurm cluster of one node in one folder: its own munge, slurmctld and slurmd, on free ports of the loopback interface.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sortie_testkit::{ports, programs};

use super::super::daemon::Daemon;

const STATE: &str = "state";
const SPOOL: &str = "spool";
/// The length of a key of `mungekey`.
const KEY_BYTES: usize = 128;
const START_POLLS_MAX: u32 = 120;
const POLL: Duration = Duration::from_millis(250);

/// A cluster that accepts jobs. Dropping it stops its daemons; running jobs must be cancelled before.
#[derive(Debug)]
pub struct SlurmCluster {
    config: PathBuf,
    /// In the order in which they stop: the node, its controller, and munge, which authenticates them.
    daemons: Vec<Daemon>,
}

impl SlurmCluster {
    /// Starts it in an empty folder and waits until its node is idle. It runs up to `tasks` tasks at the same time.
    pub fn start(folder: &Path, tasks: u32) -> Result<Self> {
        let munge = folder.join("munge");
        make_munge(&munge)?;
        for name in [STATE, SPOOL] {
            fs::create_dir(folder.join(name))
                .with_context(|| format!("cannot make {name} in {}", folder.display()))?;
        }
        let socket = munge.join("socket");
        let config = folder.join("slurm.conf");
        let host = host()?;
        fs::write(&config, configuration(folder, &socket, &host, [ports::free()?, ports::free()?], tasks))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let mut cluster = Self { config, daemons: Vec::new() };

        let option = |name: &str, file: &str| format!("--{name}={}", munge.join(file).display());
        let files = [
            option("socket", "socket"),
            option("key-file", "key"),
            option("pid-file", "pid"),
            option("seed-file", "seed"),
        ];
        let mut arguments = vec!["--foreground"];
        arguments.extend(files.iter().map(String::as_str));
        cluster.add("munged", &arguments, folder)?;
        cluster.wait("munge's socket", |_| Ok(socket.exists()))?;
        let config = cluster.config.display().to_string();
        cluster.add("slurmctld", &["-D", "-f", &config], folder)?;
        cluster.add("slurmd", &["-D", "-f", &config], folder)?;
        // The controller does not answer before it is ready.
        cluster.wait("an idle node", |cluster| {
            let states = cluster.output("sinfo", &["--noheader", "--format=%T"]);
            Ok(states.is_ok_and(|states| states.trim() == "idle"))
        })?;
        Ok(cluster)
    }

    /// A command of Slurm for this cluster.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        // Jobs inherit both. The workers among them find the coordinator's access files.
        command.env("SLURM_CONF", &self.config).env("XDG_STATE_HOME", programs::state_home());
        // Options that a user has set for another cluster must not apply to this one.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name != "SLURM_CONF"
                && ["SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_"].iter().any(|prefix| name.starts_with(prefix))
            {
                command.env_remove(&*name);
            }
        }
        command
    }

    /// Runs a command of Slurm and returns its output.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self
            .command(program)
            .args(arguments)
            .output()
            .with_context(|| format!("cannot start {program}"))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`{program} {}` failed: {}",
            arguments.join(" "),
            stderr.lines().last().unwrap_or("no reason given")
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Fails if one of the daemons has ended.
    pub fn check(&self) -> Result<()> {
        self.daemons.iter().try_for_each(Daemon::check)
    }

    fn add(&mut self, name: &'static str, arguments: &[&str], folder: &Path) -> Result<()> {
        self.daemons.insert(0, Daemon::start(name, arguments, &folder.join(format!("{name}.log")))?);
        Ok(())
    }

    fn wait(&self, what: &str, is_there: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        for _ in 0..START_POLLS_MAX {
            self.check()?;
            if is_there(self)? {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        bail!("{what} did not appear in time")
    }
}

/// Makes a folder and a key with the permissions that munge requires: only the owner may write the folder or read the key.
fn make_munge(folder: &Path) -> Result<()> {
    let context = || format!("cannot make {}", folder.display());
    fs::create_dir(folder).with_context(context)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).with_context(context)?;
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .context("cannot read random bytes")?;
    let path = folder.join("key");
    fs::write(&path, key).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot set the permissions of {}", path.display()))
}

/// The name of this machine in Slurm: its host name up to the first dot.
fn host() -> Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("cannot tell this machine's name")?;
    Ok(name.trim().split('.').next().unwrap_or_default().to_owned())
}

fn configuration(
    folder: &Path,
    socket: &Path,
    host: &str,
    [controller, node]: [u16; 2],
    tasks: u32,
) -> String {
    let user = rustix::process::geteuid().as_raw();
    let mut text = String::new();
    let mut set = |key: &str, value: &dyn std::fmt::Display| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}={value}");
    };
    set("ClusterName", &"sortie");
    set("SlurmctldHost", &format!("{host}(127.0.0.1)"));
    set("SlurmUser", &user);
    set("SlurmdUser", &user);
    set("SlurmctldPort", &controller);
    set("SlurmdPort", &node);
    set("CommunicationParameters", &"NoInAddrAny,NoCtldInAddrAny");
    set("AuthType", &"auth/munge");
    // A requeued job waits until the credentials of its last run have expired, two minutes by default.
    set("AuthInfo", &format!("socket={},cred_expire=5", socket.display()));
    set("CredType", &"cred/munge");
    for (key, file) in [
        ("StateSaveLocation", STATE),
        ("SlurmdSpoolDir", SPOOL),
        ("SlurmctldPidFile", "slurmctld.pid"),
        ("SlurmdPidFile", "slurmd.pid"),
    ] {
        set(key, &folder.join(file).display());
    }
    // There are no control groups and no accounting, so that this also runs in a container.
    set("ProctrackType", &"proctrack/linuxproc");
    set("TaskPlugin", &"task/none");
    set("JobAcctGatherType", &"jobacct_gather/none");
    set("AccountingStorageType", &"accounting_storage/none");
    set("MpiDefault", &"none");
    set("SelectType", &"select/cons_tres");
    set("SelectTypeParameters", &"CR_Core");
    set("ReturnToService", &2);
    set("JobRequeue", &1);
    // Slurm keeps ended jobs, so that their exit codes can be read.
    set("MinJobAge", &3600);
    set("SchedulerParameters", &"batch_sched_delay=1,sched_interval=2");
    // A node may have more processors in its configuration than in reality: the trials only sleep.
    set("SlurmdParameters", &"config_overrides");
    set("NodeName", &format!("{host} NodeAddr=127.0.0.1 CPUs={tasks} State=UNKNOWN"));
    set("PartitionName", &"sweeps Nodes=ALL Default=YES MaxTime=INFINITE State=UP");
    text
}
