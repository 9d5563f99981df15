//! A coordinator, a database and workers, each a process that can be killed, and a network between them that can be cut.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sortie_access::Link;
use sortie_proto::v1;
use sortie_proto::v1::sweep_service_client::SweepServiceClient;
use sortie_testkit::processes::{self, Process, Signal};
use sortie_testkit::proxy::{NetworkFault, Proxy};
use sortie_testkit::{ports, wait};

use crate::coordinator::{self, Coordinator, LaunchOptions, without_settings};
use crate::environment::{Environment, Store};

/// How long a worker may take to stop after SIGTERM: its grace period, two seconds, and what a busy machine adds.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How long one request to the coordinator may take.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How long processes may exist after the end of what started them. A trainer that is being loaded sees that its agent is gone only when it is:
/// on a machine that does much else, libtorch takes seconds.
const LEFT_MAX: Duration = Duration::from_secs(20);
/// How often the coordinator is started before its failure counts: another process may use its port for a moment.
const START_TRIES_MAX: u32 = 5;

/// The size of a cluster, and its programs.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// The folder that holds the programs.
    pub programs: PathBuf,
    /// The database.
    pub store: Store,
    /// The duration of the coordinator's leases.
    pub lease_seconds: u64,
    /// The number of workers.
    pub workers: usize,
    /// Trials that each worker runs at the same time.
    pub slots: usize,
    /// The duration of a synthetic training run.
    pub trial_seconds: f64,
    /// The folder that `cargo xtask setup` filled, for trials that train.
    pub setup: Option<PathBuf>,
}

/// A running cluster. Dropping it kills all of its processes.
#[derive(Debug)]
pub struct Cluster {
    workers: Vec<Process>,
    coordinator: Option<Coordinator>,
    /// The network of each worker.
    proxies: Vec<Proxy>,
    /// The address of the coordinator.
    target: SocketAddr,
    launch: LaunchOptions,
    settings: ClusterSettings,
    /// The number of worker processes started so far.
    started: usize,
    /// The number of databases made of backups so far.
    restored: usize,
    channel: Link,
    environment: Environment,
}

impl Cluster {
    /// Starts all processes. The workers may not be ready yet when this returns.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub fn start(settings: ClusterSettings) -> Result<Self> {
        for name in ["sortie", "sortie-trainer"] {
            let program = settings.programs.join(name);
            ensure!(
                program.is_file(),
                "{} is missing; build it, or name the folder of the programs by --programs",
                program.display()
            );
        }
        let environment = Environment::make(settings.store)?;
        let port = ports::free()?;
        let launch = LaunchOptions {
            program: settings.programs.join("sortie"),
            database: environment.database("sortie")?,
            insecure: false,
            port,
            lease_seconds: Some(settings.lease_seconds),
            // The name of a temporary folder is unique.
            variable: Some(("SORTIE_LAB_RUN".to_owned(), environment.folder().display().to_string())),
            log: environment.folder().join("coordinator.log"),
        };
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Some(setup) = &settings.setup {
            // Weights are shared; what trials compute of images is the run's own.
            let cache = environment.folder().join("cache");
            std::fs::create_dir(&cache)?;
            std::os::unix::fs::symlink(setup.join("weights"), cache.join("weights"))?;
        }
        let channel = coordinator::target(&format!("https://{target}"))?.lazy(REQUEST_MAX);
        let (workers, proxies) = (Vec::new(), Vec::new());
        let mut cluster = Self {
            workers,
            coordinator: None,
            proxies,
            target,
            launch,
            settings,
            started: 0,
            restored: 0,
            channel,
            environment,
        };
        cluster.start_coordinator()?;
        for _ in 0..cluster.settings.workers {
            cluster.add_worker()?;
        }
        Ok(cluster)
    }

    /// Adds a worker, which may not be ready yet when this returns.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn add_worker(&mut self) -> Result<()> {
        self.proxies.push(Proxy::start(self.target)?);
        let worker = self.new_worker(self.workers.len())?;
        self.workers.push(worker);
        Ok(())
    }

    /// The folder of its database, logs and journals, and the database server.
    pub fn environment(&mut self) -> &mut Environment {
        &mut self.environment
    }

    /// The database's URL.
    pub fn database(&self) -> &str {
        &self.launch.database
    }

    /// A connection to the coordinator that is never cut.
    pub fn channel(&self) -> Link {
        self.channel.clone()
    }

    fn new_worker(&mut self, index: usize) -> Result<Process> {
        let ClusterSettings { programs, slots, trial_seconds, .. } = &self.settings;
        self.started += 1;
        let folder = self.environment.folder();
        let mut command = without_settings(&programs.join("sortie"));
        let url = format!("https://{}", self.proxies[index].address());
        command.args([
            "worker",
            "--allow-commands",
            "--stop-on-stdin-close",
            "--devices",
            "cpu",
            "--threads",
            "1",
            "--coordinator",
            &url,
        ]);
        command.args(["--slots", &slots.to_string()]).arg("--cache").arg(folder.join("cache"));
        if let Some(setup) = &self.settings.setup {
            command.arg("--data").arg(setup.join("data"));
        }
        command.env("SORTIE_JOURNAL", folder.join(format!("{:05}.journal", self.started)));
        // A sweep names the program without its folder, as users do.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs.clone()].into_iter().chain(std::env::split_paths(&path)))?;
        command.env("PATH", path).env("SORTIE_SYNTHETIC_SECONDS", trial_seconds.to_string());
        command.envs(self.launch.variable.iter().map(|(name, value)| (name, value)));
        Process::start("worker", &mut command, &folder.join(format!("worker-{index}.log")))
    }

    /// Sets the duration of synthetic training runs of workers that start from now on.
    pub fn set_trial_seconds(&mut self, seconds: f64) {
        self.settings.trial_seconds = seconds;
    }

    /// The worker of this index.
    pub fn worker(&self, index: usize) -> &Process {
        &self.workers[index]
    }

    /// Kills a worker with SIGKILL and starts another one of the same index.
    ///
    /// # Errors
    /// When it has ended before, or when a process of its outlives it.
    pub fn replace_worker(&mut self, index: usize) -> Result<()> {
        let processes = processes::children_of(self.workers[index].pid())?;
        self.workers[index].kill().with_context(|| format!("worker {index}"))?;
        let gone = || processes.iter().all(|pid| !processes::is_alive(*pid));
        ensure!(wait::until(LEFT_MAX, gone), "processes of worker {index} outlive it: {processes:?}");
        self.workers[index] = self.new_worker(index)?;
        Ok(())
    }

    /// Kills the coordinator with SIGKILL.
    ///
    /// # Errors
    /// When it has ended before.
    pub fn kill_coordinator(&mut self) -> Result<()> {
        self.coordinator.take().context("the coordinator is down already")?.kill()
    }

    /// Starts the coordinator on the same port and database.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_coordinator(&mut self) -> Result<()> {
        let mut tries = 1;
        self.coordinator = loop {
            match Coordinator::launch(&self.launch) {
                Ok(coordinator) => break Some(coordinator),
                Err(error) if tries == START_TRIES_MAX => return Err(error),
                Err(_) => tries += 1,
            }
            std::thread::sleep(REQUEST_MAX / 50);
        };
        Ok(())
    }

    /// Makes a backup of the database, and returns its path.
    ///
    /// # Errors
    /// When the coordinator does not make it.
    pub fn backup(&self) -> Result<PathBuf> {
        let path = self.environment.folder().join("chaos.backup");
        self.sortie(&[
            "backup",
            &path.display().to_string(),
            "--coordinator",
            &format!("https://{}", self.target),
        ])?;
        Ok(path)
    }

    /// Makes a new database of a backup. The coordinator is started on it from now on; it must not run meanwhile.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub fn restore(&mut self, backup: &Path) -> Result<()> {
        self.restored += 1;
        self.launch.database = self.environment.database(&format!("restored{}", self.restored))?;
        self.sortie(&["restore", &backup.display().to_string(), "--db", &self.launch.database])
    }

    fn sortie(&self, arguments: &[&str]) -> Result<()> {
        let mut command = without_settings(&self.launch.program);
        let output = command.args(arguments).output().context("cannot start sortie")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "sortie {}: {}", arguments.join(" "), said.trim());
        Ok(())
    }

    /// Cuts the network between a worker and the coordinator, or heals it.
    pub fn network(&self, index: usize, fault: Option<NetworkFault>) {
        match fault {
            Some(fault) => self.proxies[index].cut(fault),
            None => self.proxies[index].heal(),
        }
    }

    /// Fails if a process has ended by itself.
    ///
    /// # Errors
    /// With the last line that the process printed.
    pub fn check(&self) -> Result<()> {
        if let Some(coordinator) = self.coordinator.as_ref().filter(|coordinator| coordinator.has_ended()) {
            bail!("the coordinator ended by itself: {}", last_line(&coordinator.log()));
        }
        match self.workers.iter().enumerate().find(|(_, worker)| worker.has_ended()) {
            Some((index, worker)) => {
                bail!("worker {index} ended by itself: {}", last_line(&worker.written()))
            }
            None => Ok(()),
        }
    }

    /// Submits a new or a larger sweep, and waits until all of its trials are stored.
    ///
    /// # Errors
    /// When the coordinator refuses it, or does not answer.
    pub async fn submit(&self, text: &str) -> Result<()> {
        let request = v1::SubmitRequest { text: text.to_owned(), ..v1::SubmitRequest::default() };
        let mut progress = SweepServiceClient::new(self.channel()).submit(request).await?.into_inner();
        while let Some(message) = progress.message().await? {
            if message.done {
                return Ok(());
            }
        }
        bail!("the submission ended early")
    }

    /// Likewise, of a dataset of the set-up, as users do.
    ///
    /// # Errors
    /// When it is refused.
    pub fn submit_with_data(&self, text: &str) -> Result<()> {
        let file = self.environment.folder().join("sweep.toml");
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let data = self.settings.setup.as_ref().context("there is no set-up")?.join("data");
        let [file, data] = [&file, &data].map(|path| path.display().to_string());
        self.sortie(&["submit", &file, "--data", &data, "--coordinator", &format!("https://{}", self.target)])
    }

    /// The status of the only sweep; none if the coordinator does not answer.
    pub async fn status(&self) -> Option<v1::SweepStatus> {
        let mut client = SweepServiceClient::new(self.channel());
        let status = tokio::time::timeout(REQUEST_MAX, client.status(v1::StatusRequest::default())).await;
        status.ok()?.ok()?.into_inner().sweeps.into_iter().next()
    }

    /// Stops workers, then the coordinator, with SIGTERM. Returns the number of processes that are left five seconds later.
    ///
    /// # Errors
    /// When a process does not stop.
    pub fn stop(&mut self) -> Result<usize> {
        for worker in &self.workers {
            worker.signal(Signal::TERM)?;
        }
        for worker in &self.workers {
            worker.wait_for_end(STOP_MAX)?;
        }
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.stop()?;
        }
        self.processes_left()
    }

    fn processes_left(&self) -> Result<usize> {
        let Some((name, value)) = &self.launch.variable else { return Ok(0) };
        let entry = format!("{name}={value}");
        let mut left = BTreeSet::new();
        let gone = wait::until(LEFT_MAX, || {
            left = processes::with_variable(&entry).unwrap_or_default().into_iter().collect();
            left.is_empty()
        });
        if !gone {
            eprintln!("processes left: {left:?}");
        }
        Ok(left.len())
    }

    /// The journals of all workers started so far, in the order of their start.
    pub fn journals(&self) -> Vec<PathBuf> {
        (1..=self.started)
            .map(|number| self.environment.folder().join(format!("{number:05}.journal")))
            .collect()
    }
}

fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message")
}
