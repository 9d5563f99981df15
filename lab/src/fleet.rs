//! A coordinator, a database and some workers, each of them a process that can be killed, and a network between them that can be cut.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sortie_proto::v1;
use sortie_proto::v1::sweep_service_client::SweepServiceClient;
use sortie_testkit::processes::{self, Process, Signal};
use sortie_testkit::proxy::{Cut, Proxy};
use sortie_testkit::{ports, wait};
use tonic::transport::{Channel, Endpoint};

use crate::place::{Coordinator, Kind, Launch, Place, clean};

/// How long a worker may take to stop when it is asked to: its grace and two seconds, and what a busy machine adds.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How long one question to the coordinator may take.
const ASK_MAX: Duration = Duration::from_secs(10);
/// How long processes may be seen after the death of what started them.
const LEFT_MAX: Duration = Duration::from_secs(5);
/// How often a coordinator that does not start is started again: another process may have its port for a moment.
const START_TRIES_MAX: u32 = 5;

/// What a fleet consists of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder that holds the programs.
    pub programs: PathBuf,
    /// The database.
    pub store: Kind,
    /// The coordinator's lease.
    pub lease_seconds: u64,
    /// Workers.
    pub workers: usize,
    /// Trials that each of them runs at the same time.
    pub slots: usize,
    /// How long a made-up training run takes.
    pub trial_seconds: f64,
}

/// See the module. Dropping it kills all of it.
#[derive(Debug)]
pub struct Fleet {
    workers: Vec<Process>,
    coordinator: Option<Coordinator>,
    /// One for each worker.
    proxies: Vec<Proxy>,
    /// Where the coordinator listens.
    target: SocketAddr,
    launch: Launch,
    settings: Settings,
    /// How many workers were ever started.
    started: usize,
    channel: Channel,
    place: Place,
}

impl Fleet {
    /// Starts everything; the workers may not be up yet when this returns.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub fn start(settings: Settings) -> Result<Self> {
        for name in ["sortie", "sortie-trainer"] {
            let program = settings.programs.join(name);
            ensure!(
                program.is_file(),
                "{} is not there; build it, or name the folder of the programs by --programs",
                program.display()
            );
        }
        let place = Place::make(settings.store)?;
        let port = ports::free()?;
        let launch = Launch {
            program: settings.programs.join("sortie"),
            database: place.database("sortie")?,
            port,
            lease_seconds: Some(settings.lease_seconds),
            // The name of a temporary folder is nobody else's.
            mark: Some(("SORTIE_RIG_RUN".to_owned(), place.folder().display().to_string())),
            log: place.folder().join("coordinator.log"),
        };
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let endpoint =
            Endpoint::from_shared(format!("http://{target}"))?.connect_timeout(ASK_MAX).timeout(ASK_MAX);
        let (workers, proxies, channel) = (Vec::new(), Vec::new(), endpoint.connect_lazy());
        let mut fleet = Self {
            workers,
            coordinator: None,
            proxies,
            target,
            launch,
            settings,
            started: 0,
            channel,
            place,
        };
        fleet.start_coordinator()?;
        for _ in 0..fleet.settings.workers {
            fleet.add_worker()?;
        }
        Ok(fleet)
    }

    /// One more worker, which may not be up yet when this returns.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn add_worker(&mut self) -> Result<()> {
        self.proxies.push(Proxy::start(self.target)?);
        let worker = self.new_worker(self.workers.len())?;
        self.workers.push(worker);
        Ok(())
    }

    /// Where its database, logs and journals lie.
    pub fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    /// The database's URL.
    pub fn database(&self) -> &str {
        &self.launch.database
    }

    /// A way to the coordinator that is never cut.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn new_worker(&mut self, index: usize) -> Result<Process> {
        let Settings { programs, slots, trial_seconds, .. } = &self.settings;
        self.started += 1;
        let folder = self.place.folder();
        let mut command = clean(&programs.join("sortie"));
        let url = format!("http://{}", self.proxies[index].address());
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
        command.arg("--journal").arg(folder.join(format!("{:05}.journal", self.started)));
        // Sweeps name the program as users do.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs.clone()].into_iter().chain(std::env::split_paths(&path)))?;
        command.env("PATH", path).env("SORTIE_SYNTHETIC_SECONDS", trial_seconds.to_string());
        command.envs(self.launch.mark.iter().map(|(name, value)| (name, value)));
        Process::start("worker", &mut command, &folder.join(format!("worker-{index}.log")))
    }

    /// How long the made-up training runs of workers take that are started from now on.
    pub fn set_trial_seconds(&mut self, seconds: f64) {
        self.settings.trial_seconds = seconds;
    }

    /// The agent of this index.
    pub fn worker(&self, index: usize) -> &Process {
        &self.workers[index]
    }

    /// SIGKILL, and another in its place.
    ///
    /// # Errors
    /// When it has ended before.
    pub fn replace_worker(&mut self, index: usize) -> Result<()> {
        self.workers[index].kill().with_context(|| format!("worker {index}"))?;
        self.workers[index] = self.new_worker(index)?;
        Ok(())
    }

    /// SIGKILL for the coordinator.
    ///
    /// # Errors
    /// When it has ended before.
    pub fn kill_coordinator(&mut self) -> Result<()> {
        self.coordinator.take().context("the coordinator is down already")?.kill()
    }

    /// Starts the coordinator, on the same port and database.
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
            std::thread::sleep(ASK_MAX / 50);
        };
        Ok(())
    }

    /// Cuts the network between a worker and the coordinator, or heals it.
    pub fn network(&self, index: usize, cut: Option<Cut>) {
        match cut {
            Some(cut) => self.proxies[index].cut(cut),
            None => self.proxies[index].heal(),
        }
    }

    /// Fails if a process has ended that nobody killed.
    ///
    /// # Errors
    /// What it said last.
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

    /// Submits a sweep, or more of it; waits until all of its trials are stored.
    ///
    /// # Errors
    /// When the coordinator refuses, or is away.
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

    /// How far the only sweep is; none if the coordinator does not answer.
    pub async fn status(&self) -> Option<v1::SweepStatus> {
        let asked = SweepServiceClient::new(self.channel()).status(v1::StatusRequest::default()).await;
        asked.ok()?.into_inner().sweeps.into_iter().next()
    }

    /// Asks everything to stop: workers, then the coordinator. Gives how many processes were left five seconds later.
    ///
    /// # Errors
    /// When something does not stop.
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
        self.left_behind()
    }

    fn left_behind(&self) -> Result<usize> {
        let Some((name, value)) = &self.launch.mark else { return Ok(0) };
        let entry = format!("{name}={value}");
        let mut left = BTreeSet::new();
        let gone = wait::until(LEFT_MAX, || {
            left = processes::with_variable(&entry).unwrap_or_default().into_iter().collect();
            left.is_empty()
        });
        if !gone {
            eprintln!("left behind: {left:?}");
        }
        Ok(left.len())
    }

    /// The journals of all workers that ever were, in the order of their start.
    pub fn journals(&self) -> Vec<PathBuf> {
        (1..=self.started).map(|number| self.place.folder().join(format!("{number:05}.journal"))).collect()
    }
}

fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing")
}
