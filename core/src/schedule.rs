//! Allocates trials to workers: priorities first, then fair shares.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::keys::SweepKey;
use crate::machine::WorkKind;
use crate::prerequisite::{Findings, Prerequisite};
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
    /// The kinds of work that its trials are.
    pub kinds: Vec<WorkKind>,
    /// What its trials need that a worker can look for.
    pub prerequisite: Option<Prerequisite>,
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
    /// The worker's machine.
    pub machine: String,
    /// Kinds of work for which the machine is quarantined.
    pub quarantined: Vec<WorkKind>,
    /// Kinds of work of which the machine gets one trial, to see whether it is fit again.
    pub on_trial: Vec<WorkKind>,
    /// What the worker found of what it was asked to look for; none if it needs nothing for the trials that it takes.
    pub findings: Option<Findings>,
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
        self.may_run(candidate) && !self.quarantined.iter().any(|kind| candidate.kinds.contains(kind))
    }

    /// Whether trials of this sweep might be assigned to this worker if its machine were not quarantined.
    pub fn may_run(&self, candidate: &Candidate) -> bool {
        let named = candidate.require.worker.as_ref().is_none_or(|worker| *worker == self.worker);
        named && self.wants(candidate.sweep) && self.abilities.meet(&candidate.require)
    }

    /// What the worker must look for before trials of this sweep may be assigned to it.
    pub fn must_look_for<'a>(&self, candidate: &'a Candidate) -> Option<&'a Prerequisite> {
        let findings = self.findings.as_ref()?;
        candidate.prerequisite.as_ref().filter(|prerequisite| !findings.know(prerequisite))
    }

    /// Why the worker's machine cannot run trials of this sweep, as the worker says.
    pub fn lack(&self, candidate: &Candidate) -> Option<&str> {
        self.findings.as_ref()?.lack(candidate.prerequisite.as_ref()?)
    }

    /// Whether trials of this sweep may be assigned now.
    fn gets(&self, candidate: &Candidate) -> bool {
        self.fits(candidate) && self.must_look_for(candidate).is_none() && self.lack(candidate).is_none()
    }
}

/// Allocates waiting trials to requests, in the order of the requests: each trial comes from a sweep of the highest priority that has one
/// waiting for this worker, and among those from the sweep that has the fewest trials running. Equal sweeps take turns in the order of
/// their submission. A machine gets one trial of a kind that it is on trial for. Gives the sweeps of each request's trials.
pub fn allocate(candidates: &mut [Candidate], requests: &[Request]) -> Vec<Vec<SweepKey>> {
    let mut allocated = Vec::with_capacity(requests.len());
    let mut tried: BTreeSet<(&str, &WorkKind)> = BTreeSet::new();
    for request in requests {
        let mut sweeps = Vec::new();
        for _ in 0..request.count_max {
            let has_its_one = |candidate: &Candidate| {
                request.on_trial.iter().any(|kind| {
                    candidate.kinds.contains(kind) && tried.contains(&(request.machine.as_str(), kind))
                })
            };
            let eligible = candidates.iter_mut().filter(|candidate| {
                candidate.waiting > 0 && request.gets(candidate) && !has_its_one(candidate)
            });
            let Some(next) = eligible
                .min_by_key(|candidate| (Reverse(candidate.priority), candidate.running, candidate.sweep))
            else {
                break;
            };
            next.waiting -= 1;
            next.running += 1;
            sweeps.push(next.sweep);
            let on_trial = request.on_trial.iter().filter(|kind| next.kinds.contains(kind));
            tried.extend(on_trial.map(|kind| (request.machine.as_str(), kind)));
        }
        allocated.push(sweeps);
    }
    allocated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prerequisite::Missing;

    fn candidate(sweep: i64, priority: i64, running: u64, waiting: u64) -> Candidate {
        Candidate {
            sweep: SweepKey(sweep),
            priority,
            running,
            waiting,
            require: Requirements::default(),
            kinds: vec![WorkKind::Commands],
            prerequisite: Some(Prerequisite::Program("python3".into())),
        }
    }

    fn request(count_max: u32) -> Request {
        Request {
            count_max,
            wanted: Wanted::Any,
            abilities: Abilities::default(),
            worker: "w1".into(),
            machine: "m1".into(),
            quarantined: Vec::new(),
            on_trial: Vec::new(),
            findings: None,
        }
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
    fn a_quarantined_machine_gets_other_kinds_and_one_on_trial_gets_one() {
        let mut data = candidate(2, 0, 0, 9);
        data.kinds = vec![WorkKind::Dataset("PACS".into()), WorkKind::Device];
        let quarantined = Request { quarantined: vec![WorkKind::Commands], ..request(2) };
        let on_trial = Request { on_trial: vec![WorkKind::Commands], ..request(3) };
        let same_machine = Request { worker: "w2".into(), ..on_trial.clone() };
        let mut candidates = [candidate(1, 5, 0, 9), data];
        assert_eq!(
            allocated(&mut candidates, &[quarantined, on_trial, same_machine]),
            [vec![2, 2], vec![1, 2, 2], vec![2, 2, 2]]
        );
    }

    #[test]
    fn a_worker_gets_trials_once_it_found_what_they_need() {
        let program = Prerequisite::Program("python3".into());
        let looked = |findings| Request { findings: Some(findings), ..request(1) };
        let found = Findings { has: vec![program.clone()], ..Findings::default() };
        let missing = Missing { prerequisite: program.clone(), reason: "it is in no folder of PATH".into() };
        let lacking = Findings { lacks: vec![missing], ..Findings::default() };
        for (request, gets, asked, lack) in [
            (request(1), true, None, None),
            (looked(Findings::default()), false, Some(&program), None),
            (looked(found), true, None, None),
            (looked(lacking), false, None, Some("it is in no folder of PATH")),
        ] {
            let candidate = candidate(1, 0, 0, 1);
            assert_eq!(
                allocated(&mut [candidate.clone()], std::slice::from_ref(&request))[0].len(),
                usize::from(gets)
            );
            assert_eq!((request.must_look_for(&candidate), request.lack(&candidate)), (asked, lack));
        }
    }
}
