//! The faults of a run and their order: a function of the seed.

use std::fmt;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sortie_core::random::uniform_below;
use sortie_testkit::proxy::NetworkFault;

use crate::environment::Store;

/// A fault of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL for a worker; another one is started.
    KillWorker(usize),
    /// SIGKILL for the coordinator, which is started again after a while.
    KillCoordinator(Duration),
    /// The database server crashes or stops in good order, and is started again after a while.
    Database {
        /// SIGKILL for all of its processes.
        crash: bool,
        /// How long it is unavailable.
        away: Duration,
    },
    /// Workers lose the network for longer than a lease.
    CutNetwork(Vec<usize>, NetworkFault),
    /// SIGSTOP for a worker, and SIGCONT after its leases have ended.
    StopWorker(usize),
    /// A backup, and after a while SIGKILL for the coordinator, which is started again on a database made of the backup. The workers know
    /// nothing of it.
    Restore(Duration),
}

/// The number of faults of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultCounts {
    /// Kills of workers.
    pub worker: u64,
    /// Kills of the coordinator.
    pub coordinator: u64,
    /// Crashes and restarts of the database server.
    pub database: u64,
    /// Cuts of the network.
    pub network: u64,
    /// Stops of workers.
    pub stopped: u64,
    /// Backups that take the database's place.
    pub restored: u64,
}

impl FaultCounts {
    /// The counts for a number of kills of workers. To 60 of them belong 10 of the coordinator, 5 of the database server if there is one,
    /// 3 cuts, 3 stops and 2 restored backups.
    pub fn of(kills: u64, store: Store) -> Self {
        let database = if store == Store::Postgres { kills.div_ceil(12) } else { 0 };
        Self {
            worker: kills,
            coordinator: kills.div_ceil(6),
            database,
            network: kills.div_ceil(20),
            stopped: kills.div_ceil(20),
            restored: kills.div_ceil(30),
        }
    }
}

/// The faults of one round, in their order.
pub fn plan_round(
    seed: u64,
    number: u64,
    counts: &FaultCounts,
    workers: usize,
    lease: Duration,
) -> Vec<Fault> {
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    let mut faults = Vec::new();
    for _ in 0..counts.worker {
        faults.push(Fault::KillWorker(below(&mut rng, workers)));
    }
    for _ in 0..counts.coordinator {
        faults.push(Fault::KillCoordinator(part_of(lease, &mut rng)));
    }
    for index in 0..counts.database {
        // Both kinds in every round of two or more.
        faults.push(Fault::Database { crash: index % 2 == 0, away: part_of(lease, &mut rng) });
    }
    for index in 0..counts.network {
        let first = below(&mut rng, workers);
        let count = 1 + below(&mut rng, workers);
        let fault = if index % 2 == 0 { NetworkFault::Silence } else { NetworkFault::Reset };
        faults.push(Fault::CutNetwork((first..first + count).map(|index| index % workers).collect(), fault));
    }
    for _ in 0..counts.stopped {
        faults.push(Fault::StopWorker(below(&mut rng, workers)));
    }
    for _ in 0..counts.restored {
        faults.push(Fault::Restore(part_of(lease, &mut rng)));
    }
    for last in (1..faults.len()).rev() {
        let other = below(&mut rng, last + 1);
        faults.swap(last, other);
    }
    faults
}

fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    usize::try_from(uniform_below(rng, bound as u64)).unwrap_or_default()
}

/// A random duration, at most `whole`.
fn part_of(whole: Duration, rng: &mut ChaCha8Rng) -> Duration {
    whole.mul_f64(uniform_below(rng, 1_001) as f64 / 1_000.0)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillWorker(index) => write!(f, "kill worker {index}"),
            Self::KillCoordinator(away) => write!(f, "kill the coordinator, away for {away:.1?}"),
            Self::Database { crash: true, away } => write!(f, "crash the database, away for {away:.1?}"),
            Self::Database { crash: false, away } => write!(f, "restart the database, away for {away:.1?}"),
            Self::CutNetwork(workers, fault) => {
                write!(f, "cut the network of workers {workers:?} ({fault:?})")
            }
            Self::StopWorker(index) => write!(f, "stop worker {index}"),
            Self::Restore(after) => write!(f, "make a backup, and restore it after {after:.1?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    #[test]
    fn a_round_has_the_counts_of_the_acceptance_and_depends_on_seed_and_number_only() {
        let counts = FaultCounts::of(60, Store::Postgres);
        let expected =
            FaultCounts { worker: 60, coordinator: 10, database: 5, network: 3, stopped: 3, restored: 2 };
        assert_eq!(counts, expected);
        assert_eq!(FaultCounts::of(60, Store::Sqlite).database, 0);
        let faults = plan_round(1, 0, &counts, 4, LEASE);
        let count = |of: fn(&Fault) -> bool| faults.iter().filter(|fault| of(fault)).count();
        assert_eq!((faults.len(), count(|fault| matches!(fault, Fault::KillWorker(_)))), (83, 60));
        assert_eq!(count(|fault| matches!(fault, Fault::Database { crash: true, .. })), 3);
        assert_eq!(faults, plan_round(1, 0, &counts, 4, LEASE));
        assert_ne!(faults, plan_round(2, 0, &counts, 4, LEASE));
        assert_ne!(faults, plan_round(1, 1, &counts, 4, LEASE));
    }

    #[test]
    fn faults_stay_within_the_cluster() {
        for fault in
            (0..50).flat_map(|number| plan_round(3, number, &FaultCounts::of(20, Store::Postgres), 3, LEASE))
        {
            match fault {
                Fault::KillWorker(index) | Fault::StopWorker(index) => assert!(index < 3),
                Fault::KillCoordinator(away) | Fault::Database { away, .. } | Fault::Restore(away) => {
                    assert!(away <= LEASE);
                }
                Fault::CutNetwork(workers, _) => {
                    assert!(
                        (1..=3).contains(&workers.len()) && workers.iter().all(|index| *index < 3),
                        "{workers:?}"
                    );
                }
            }
        }
    }
}
