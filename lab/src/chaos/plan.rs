//! What is done to a fleet, and in which order: a function of the seed.

use std::fmt;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sortie_core::random::uniform_below;
use sortie_testkit::proxy::Cut;

use crate::place::Kind;

/// One strike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strike {
    /// SIGKILL for a worker's agent; another one is started.
    KillWorker(usize),
    /// SIGKILL for the coordinator, which stays away for a while.
    KillCoordinator(Duration),
    /// The database's server crashes or is restarted in good order, and stays away for a while.
    Database {
        /// SIGKILL for all of its processes.
        crash: bool,
        /// For how long.
        away: Duration,
    },
    /// Workers lose the network for longer than a lease.
    CutNetwork(Vec<usize>, Cut),
    /// SIGSTOP for a worker's agent, and SIGCONT when its leases are over.
    StopWorker(usize),
}

/// How often what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Kills of workers.
    pub worker: u64,
    /// Kills of the coordinator.
    pub coordinator: u64,
    /// Crashes and restarts of the database's server.
    pub database: u64,
    /// Cuts of the network.
    pub network: u64,
    /// Stops of workers.
    pub stopped: u64,
}

impl Counts {
    /// What belongs to so many kills of workers: 10 of the coordinator to 60, 5 of the database where it has a server, 3 cuts, 3 stops.
    pub fn of(kills: u64, store: Kind) -> Self {
        let database = if store == Kind::Postgres { kills.div_ceil(12) } else { 0 };
        Self {
            worker: kills,
            coordinator: kills.div_ceil(6),
            database,
            network: kills.div_ceil(20),
            stopped: kills.div_ceil(20),
        }
    }
}

/// The strikes of one round, in their order.
pub fn round(seed: u64, number: u64, counts: &Counts, workers: usize, lease: Duration) -> Vec<Strike> {
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    let mut strikes = Vec::new();
    for _ in 0..counts.worker {
        strikes.push(Strike::KillWorker(below(&mut rng, workers)));
    }
    for _ in 0..counts.coordinator {
        strikes.push(Strike::KillCoordinator(part_of(lease, &mut rng)));
    }
    for index in 0..counts.database {
        // Both kinds in every round of two or more.
        strikes.push(Strike::Database { crash: index % 2 == 0, away: part_of(lease, &mut rng) });
    }
    for index in 0..counts.network {
        let first = below(&mut rng, workers);
        let count = 1 + below(&mut rng, workers);
        let cut = if index % 2 == 0 { Cut::Silence } else { Cut::Reset };
        strikes.push(Strike::CutNetwork((first..first + count).map(|index| index % workers).collect(), cut));
    }
    for _ in 0..counts.stopped {
        strikes.push(Strike::StopWorker(below(&mut rng, workers)));
    }
    for last in (1..strikes.len()).rev() {
        let other = below(&mut rng, last + 1);
        strikes.swap(last, other);
    }
    strikes
}

fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    usize::try_from(uniform_below(rng, bound as u64)).unwrap_or_default()
}

/// Some time, at most so long.
fn part_of(whole: Duration, rng: &mut ChaCha8Rng) -> Duration {
    whole.mul_f64(uniform_below(rng, 1_001) as f64 / 1_000.0)
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillWorker(index) => write!(f, "kill worker {index}"),
            Self::KillCoordinator(away) => write!(f, "kill the coordinator, away for {away:.1?}"),
            Self::Database { crash: true, away } => write!(f, "crash the database, away for {away:.1?}"),
            Self::Database { crash: false, away } => write!(f, "restart the database, away for {away:.1?}"),
            Self::CutNetwork(workers, cut) => write!(f, "cut the network of workers {workers:?} ({cut:?})"),
            Self::StopWorker(index) => write!(f, "stop worker {index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    #[test]
    fn a_round_has_the_counts_of_the_acceptance_and_depends_on_seed_and_number_only() {
        let counts = Counts::of(60, Kind::Postgres);
        assert_eq!(counts, Counts { worker: 60, coordinator: 10, database: 5, network: 3, stopped: 3 });
        assert_eq!(Counts::of(60, Kind::Sqlite).database, 0);
        let strikes = round(1, 0, &counts, 4, LEASE);
        let count = |of: fn(&Strike) -> bool| strikes.iter().filter(|strike| of(strike)).count();
        assert_eq!((strikes.len(), count(|strike| matches!(strike, Strike::KillWorker(_)))), (81, 60));
        assert_eq!(count(|strike| matches!(strike, Strike::Database { crash: true, .. })), 3);
        assert_eq!(strikes, round(1, 0, &counts, 4, LEASE));
        assert_ne!(strikes, round(2, 0, &counts, 4, LEASE));
        assert_ne!(strikes, round(1, 1, &counts, 4, LEASE));
    }

    #[test]
    fn strikes_stay_within_the_fleet() {
        for strike in (0..50).flat_map(|number| round(3, number, &Counts::of(20, Kind::Postgres), 3, LEASE)) {
            match strike {
                Strike::KillWorker(index) | Strike::StopWorker(index) => assert!(index < 3),
                Strike::KillCoordinator(away) | Strike::Database { away, .. } => assert!(away <= LEASE),
                Strike::CutNetwork(workers, _) => {
                    assert!(
                        (1..=3).contains(&workers.len()) && workers.iter().all(|index| *index < 3),
                        "{workers:?}"
                    );
                }
            }
        }
    }
}
