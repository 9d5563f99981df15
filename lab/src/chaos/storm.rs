//! Strikes at a fleet, and what heals again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sortie_testkit::processes::Signal;
use tokio::time::sleep;

use super::plan::{Counts, Strike};
use crate::crowd::now;
use crate::fleet::Fleet;

/// How long a network is cut or a worker stopped, in leases.
const LEASES: f64 = 1.5;

/// Strikes, and counts.
#[derive(Debug)]
pub struct Storm {
    lease: Duration,
    begun: Instant,
    /// When the network of a worker heals.
    cut: BTreeMap<usize, Instant>,
    /// When a worker goes on, and which process it is: it may be killed meanwhile.
    stopped: BTreeMap<usize, (Instant, u32)>,
    /// What was done so far.
    pub done: Counts,
}

impl Storm {
    /// Nothing has happened yet.
    pub fn new(lease: Duration) -> Self {
        let done = Counts { worker: 0, coordinator: 0, database: 0, network: 0, stopped: 0 };
        Self { lease, begun: now(), cut: BTreeMap::new(), stopped: BTreeMap::new(), done }
    }

    /// Does it. What is away for a while is back when this returns; what is cut or stopped heals later.
    ///
    /// # Errors
    /// When something does not die, or does not come back.
    pub async fn strike(&mut self, fleet: &mut Fleet, strike: &Strike) -> Result<()> {
        eprintln!("{:7.1} s  {strike}", self.begun.elapsed().as_secs_f64());
        let until = now() + self.lease.mul_f64(LEASES);
        match strike {
            Strike::KillWorker(index) => {
                self.stopped.remove(index);
                fleet.replace_worker(*index)?;
                self.done.worker += 1;
            }
            Strike::KillCoordinator(away) => {
                fleet.kill_coordinator()?;
                sleep(*away).await;
                fleet.start_coordinator()?;
                self.done.coordinator += 1;
            }
            Strike::Database { crash, away } => {
                let Some(server) = fleet.place().server() else { return Ok(()) };
                if *crash {
                    server.kill()?
                } else {
                    server.stop()?
                }
                sleep(*away).await;
                server.restart()?;
                self.done.database += 1;
            }
            Strike::CutNetwork(workers, cut) => {
                for index in workers {
                    fleet.network(*index, Some(*cut));
                    self.cut.insert(*index, until);
                }
                self.done.network += 1;
            }
            Strike::StopWorker(index) => {
                let worker = fleet.worker(*index);
                worker.signal(Signal::STOP)?;
                self.stopped.insert(*index, (until, worker.pid()));
                self.done.stopped += 1;
            }
        }
        Ok(())
    }

    /// Ends the cuts and stops whose time is over.
    ///
    /// # Errors
    /// When a worker cannot be told to go on.
    pub fn heal(&mut self, fleet: &Fleet) -> Result<()> {
        let now = now();
        let over: Vec<usize> =
            self.cut.iter().filter(|(_, until)| **until <= now).map(|(index, _)| *index).collect();
        for index in over {
            fleet.network(index, None);
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
            let worker = fleet.worker(index);
            ensure!(worker.pid() == pid, "worker {index} is another process than the one that was stopped");
            worker.signal(Signal::CONT)?;
        }
        Ok(())
    }

    /// Whether everything is healed.
    pub fn is_over(&self) -> bool {
        self.cut.is_empty() && self.stopped.is_empty()
    }
}
