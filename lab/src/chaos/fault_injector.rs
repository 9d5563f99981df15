//! Injects faults into a cluster and repairs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sortie_testkit::processes::Signal;
use tokio::time::sleep;

use super::fault_plan::{Fault, FaultCounts};
use super::journal;
use crate::clock::now;
use crate::cluster::Cluster;

/// How long a network is cut or a worker is stopped, in leases.
const LEASES: f64 = 1.5;

/// How long a worker may take to note an answer that has arrived.
const DRAIN: Duration = Duration::from_millis(500);

/// Injects faults and counts them.
#[derive(Debug)]
pub struct FaultInjector {
    lease: Duration,
    begun: Instant,
    /// The time at which the network of a worker is repaired.
    cut: BTreeMap<usize, Instant>,
    /// The time at which a worker continues, and its process id: it may be killed before.
    stopped: BTreeMap<usize, (Instant, u32)>,
    /// The faults injected so far.
    pub injected: FaultCounts,
    /// What the workers' journals held when a backup was begun, and when nobody served the database that it replaced any more.
    undone: Vec<(JournalLengths, JournalLengths)>,
}

/// The number of calls in each worker's journal.
type JournalLengths = BTreeMap<PathBuf, usize>;

impl FaultInjector {
    /// An injector that has injected nothing yet.
    pub fn new(lease: Duration) -> Self {
        let injected =
            FaultCounts { worker: 0, coordinator: 0, database: 0, network: 0, stopped: 0, restored: 0 };
        let (cut, stopped, undone) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { lease, begun: now(), cut, stopped, injected, undone }
    }

    /// Injects a fault. The coordinator and the database run again when this returns; cuts and stops are repaired later.
    ///
    /// # Errors
    /// When a process does not end, or does not start again.
    pub async fn inject(&mut self, cluster: &mut Cluster, fault: &Fault) -> Result<()> {
        eprintln!("{:7.1} s  {fault}", self.begun.elapsed().as_secs_f64());
        let until = now() + self.lease.mul_f64(LEASES);
        match fault {
            Fault::KillWorker(index) => {
                self.stopped.remove(index);
                cluster.replace_worker(*index)?;
                self.injected.worker += 1;
            }
            Fault::KillCoordinator(away) => {
                cluster.kill_coordinator()?;
                sleep(*away).await;
                cluster.start_coordinator()?;
                self.injected.coordinator += 1;
            }
            Fault::Database { crash, away } => {
                let Some(server) = cluster.environment().server() else { return Ok(()) };
                if *crash {
                    server.kill()?
                } else {
                    server.stop()?
                }
                sleep(*away).await;
                server.restart()?;
                self.injected.database += 1;
            }
            Fault::CutNetwork(workers, fault) => {
                for index in workers {
                    cluster.network(*index, Some(*fault));
                    self.cut.insert(*index, until);
                }
                self.injected.network += 1;
            }
            Fault::StopWorker(index) => {
                let worker = cluster.worker(*index);
                worker.signal(Signal::STOP)?;
                self.stopped.insert(*index, (until, worker.pid()));
                self.injected.stopped += 1;
            }
            Fault::Restore(after) => {
                // A worker that is stopped, or behind a cut, would note later what it was told before.
                self.repair_all(cluster)?;
                let before = journal_lengths(cluster)?;
                let backup = cluster.backup()?;
                sleep(*after).await;
                cluster.kill_coordinator()?;
                cluster.restore(&backup)?;
                sleep(DRAIN).await;
                self.undone.push((before, journal_lengths(cluster)?));
                cluster.start_coordinator()?;
                self.injected.restored += 1;
            }
        }
        Ok(())
    }

    /// Whether a call, by its place in a journal, was acknowledged after a backup was begun that took the database's place later: it may be
    /// gone.
    pub fn is_undone(&self, journal: &Path, index: usize) -> bool {
        let length = |lengths: &JournalLengths| lengths.get(journal).copied().unwrap_or_default();
        self.undone.iter().any(|(before, after)| (length(before)..length(after)).contains(&index))
    }

    /// Ends all cuts and stops.
    fn repair_all(&mut self, cluster: &Cluster) -> Result<()> {
        let longest = self.lease.mul_f64(LEASES);
        self.repair_until(cluster, now() + longest)
    }

    /// Ends the cuts and stops whose time has come.
    ///
    /// # Errors
    /// When a worker cannot be continued.
    pub fn repair(&mut self, cluster: &Cluster) -> Result<()> {
        self.repair_until(cluster, now())
    }

    fn repair_until(&mut self, cluster: &Cluster, now: Instant) -> Result<()> {
        let over: Vec<usize> =
            self.cut.iter().filter(|(_, until)| **until <= now).map(|(index, _)| *index).collect();
        for index in over {
            cluster.network(index, None);
            self.cut.remove(&index);
        }
        let over: Vec<_> = self
            .stopped
            .iter()
            .filter(|(_, (until, _))| *until <= now)
            .map(|(index, (_, pid))| (*index, *pid))
            .collect();
        for (index, pid) in over {
            self.stopped.remove(&index);
            let worker = cluster.worker(index);
            ensure!(worker.pid() == pid, "worker {index} is another process than the one that was stopped");
            worker.signal(Signal::CONT)?;
        }
        Ok(())
    }

    /// Whether all faults are repaired.
    pub fn is_repaired(&self) -> bool {
        self.cut.is_empty() && self.stopped.is_empty()
    }
}

fn journal_lengths(cluster: &Cluster) -> Result<JournalLengths> {
    let length = |path: PathBuf| journal::read(&path).map(|calls| (path, calls.len()));
    cluster.journals().into_iter().map(length).collect()
}
