//! Allocates trials to workers: priorities first, then fair shares.

use std::cmp::Reverse;

use crate::keys::SweepKey;
use crate::requirements::{Abilities, Requirements};

/// A sweep that may have trials to assign.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Names the sweep.
    pub sweep: SweepKey,
    /// Higher ones are served first.
    pub priority: i64,
    /// What its trials need.
    pub require: Requirements,
    /// How many of its trials run now.
    pub running: u64,
    /// How many of its trials wait and may be assigned, as far as they were counted.
    pub waiting: u64,
}

/// One request for trials.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// At most this many.
    pub count_max: u32,
    /// Of which sweeps.
    pub wanted: Wanted,
    /// What the worker can do.
    pub abilities: Abilities,
    /// The worker's id.
    pub worker: String,
}

/// Which sweeps' trials a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Those of any sweep.
    Any,
    /// Those of one sweep; none if no open sweep has the name that was asked for.
    Named(Option<SweepKey>),
}

impl Request {
    /// Whether trials of this sweep are asked for.
    pub fn wants(&self, sweep: SweepKey) -> bool {
        match self.wanted {
            Wanted::Any => true,
            Wanted::Named(named) => named == Some(sweep),
        }
    }

    /// Whether trials of this sweep may be assigned to this worker.
    pub fn fits(&self, candidate: &Candidate) -> bool {
        let named = candidate.require.worker.as_ref().is_none_or(|worker| *worker == self.worker);
        named && self.wants(candidate.sweep) && self.abilities.meet(&candidate.require)
    }
}

/// Allocates waiting trials to requests, in the order of the requests: each trial comes from a sweep of the highest priority that has one
/// waiting for this worker, and among those from the sweep that has the fewest trials running. Equal sweeps take turns in the order of
/// their submission. Gives the sweeps of each request's trials.
pub fn allocate(candidates: &mut [Candidate], requests: &[Request]) -> Vec<Vec<SweepKey>> {
    let mut allocated = Vec::with_capacity(requests.len());
    for request in requests {
        let mut sweeps = Vec::new();
        for _ in 0..request.count_max {
            let eligible =
                candidates.iter_mut().filter(|candidate| candidate.waiting > 0 && request.fits(candidate));
            let Some(next) = eligible
                .min_by_key(|candidate| (Reverse(candidate.priority), candidate.running, candidate.sweep))
            else {
                break;
            };
            next.waiting -= 1;
            next.running += 1;
            sweeps.push(next.sweep);
        }
        allocated.push(sweeps);
    }
    allocated
}

/// How many attempts in a row may fail on a worker, for reasons that may be its own, before it is quarantined.
pub const FAILURES_IN_ROW_MAX: u32 = 5;

/// Whether a worker is quarantined after this many failures in a row. The last worker that is not quarantined never is: if all trials fail
/// on all workers, the fault is theirs, and their retry policies end them.
pub fn is_quarantined(failures_in_row: u32, other_fit_workers: u64) -> bool {
    failures_in_row >= FAILURES_IN_ROW_MAX && other_fit_workers > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(sweep: i64, priority: i64, running: u64, waiting: u64) -> Candidate {
        Candidate { sweep: SweepKey(sweep), priority, running, waiting, require: Requirements::default() }
    }

    fn request(count_max: u32) -> Request {
        Request { count_max, wanted: Wanted::Any, abilities: Abilities::default(), worker: "w1".into() }
    }

    /// The keys of the sweeps that each request gets trials of.
    fn allocated(candidates: &mut [Candidate], requests: &[Request]) -> Vec<Vec<i64>> {
        let sweeps = allocate(candidates, requests);
        sweeps.into_iter().map(|sweeps| sweeps.into_iter().map(|sweep| sweep.0).collect()).collect()
    }

    #[test]
    fn sweeps_of_one_priority_share_fairly_and_higher_ones_go_first() {
        let mut candidates = [
            candidate(1, 0, 4, 100),
            candidate(2, 0, 0, 100),
            candidate(3, 5, 7, 2),
            candidate(4, i64::MIN, 0, 1),
        ];
        let allocated = allocated(&mut candidates, &[request(2), request(6), request(2)]);
        assert_eq!(allocated, [vec![3, 3], vec![2, 2, 2, 2, 1, 2], vec![1, 2]]);
    }

    #[test]
    fn nobody_gets_what_does_not_fit_and_nothing_is_allocated_twice() {
        let mut tagged = candidate(1, 9, 0, 10);
        tagged.require.tags = vec!["a100".into()];
        let mut candidates = [tagged, candidate(2, 0, 0, 1)];
        let only = Request { wanted: Wanted::Named(Some(SweepKey(2))), ..request(5) };
        assert_eq!(allocated(&mut candidates, &[request(5), only]), [vec![2], vec![]]);
        let able = Request {
            abilities: Abilities { tags: vec!["a100".into()], ..Abilities::default() },
            ..request(3)
        };
        assert_eq!(allocated(&mut candidates, &[able]), [vec![1, 1, 1]]);
    }

    #[test]
    fn what_is_meant_for_one_worker_goes_to_that_one() {
        let mut meant = candidate(1, 0, 0, 2);
        meant.require.worker = Some("w2".into());
        let other = Request { worker: "w2".into(), ..request(1) };
        assert_eq!(allocated(&mut [meant], &[request(5), other]), [vec![], vec![1]]);
    }

    #[test]
    fn the_last_fit_worker_is_never_quarantined() {
        assert!(!is_quarantined(FAILURES_IN_ROW_MAX - 1, 9));
        assert!(is_quarantined(FAILURES_IN_ROW_MAX, 1));
        assert!(!is_quarantined(1_000, 0));
    }
}
