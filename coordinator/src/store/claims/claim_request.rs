//! A claim, the facts that decide which trials it gets, and the reasons why it gets none.

use std::collections::BTreeSet;

use sortie_core::job::Timestamp;
use sortie_core::keys::SweepKey;
use sortie_core::machine::{Fault, Standing, WorkKind};
use sortie_core::prerequisite::{PREREQUISITES_MAX, Prerequisite};
use sortie_core::schedule::{Candidate, Request, Wanted};

use super::fitness::Fitness;
use crate::store::StoreError;
use crate::store::backend::{OpenSweep, WorkerRow};
use crate::store::types::Claim;

/// A claim, and the facts that decide which trials it gets.
pub(super) struct ClaimRequest<'a> {
    pub(super) claim: &'a Claim,
    worker: Option<&'a WorkerRow>,
    pub(super) request: Request,
    /// What is held against the worker's machine, and keeps some trials from it.
    faults: Vec<Fault>,
    now: Timestamp,
}

impl<'a> ClaimRequest<'a> {
    pub(super) fn new(
        claim: &'a Claim,
        workers: &'a [WorkerRow],
        open: &[OpenSweep],
        fitness: Option<&Fitness>,
        now: Timestamp,
    ) -> Self {
        let worker = workers.iter().find(|worker| worker.name == claim.worker_id);
        let wanted = claim.sweep.as_ref().map_or(Wanted::Any, |name| {
            Wanted::Named(open.iter().find(|sweep| sweep.name == *name).map(|sweep| sweep.id))
        });
        let count_max =
            if worker.is_some_and(|worker| worker.secret == claim.secret) { claim.count_max } else { 0 };
        let (abilities, machine) =
            worker.map(|worker| (worker.abilities.clone(), worker.machine.clone())).unwrap_or_default();
        let held = |standing| {
            let faults = fitness.into_iter().flat_map(|fitness| fitness.faults_of(&machine, standing));
            faults.cloned().collect::<Vec<Fault>>()
        };
        let (quarantines, trials) = (held(Standing::Quarantined), held(Standing::OnTrial));
        let kinds = |faults: &[Fault]| faults.iter().map(|fault| fault.kind.clone()).collect();
        let (quarantined, on_trial) = (kinds(&quarantines), kinds(&trials));
        let (worker_id, findings) = (claim.worker_id.clone(), claim.findings.clone());
        let request = Request {
            count_max,
            wanted,
            abilities,
            worker: worker_id,
            machine,
            quarantined,
            on_trial,
            findings,
        };
        Self { claim, worker, request, faults: [quarantines, trials].concat(), now }
    }

    /// The worker that asks.
    ///
    /// # Errors
    /// It is not registered, or whoever asks is another process.
    pub(super) fn known_worker(&self) -> Result<&'a WorkerRow, StoreError> {
        let name = || self.claim.worker_id.clone();
        let worker = self.worker.ok_or_else(|| StoreError::UnknownWorker(name()))?;
        if worker.secret == self.claim.secret { Ok(worker) } else { Err(StoreError::OtherWorker(name())) }
    }

    /// What the machine is on trial for, among these kinds of work.
    pub(super) fn on_trial(&self, kinds: &[WorkKind]) -> impl Iterator<Item = &Fault> {
        let on_trial =
            |fault: &&Fault| fault.standing(self.now) == Standing::OnTrial && kinds.contains(&fault.kind);
        self.faults.iter().filter(on_trial)
    }

    /// What the worker must look for before it gets trials that wait.
    pub(super) fn look_for(&self, candidates: &[Candidate]) -> Vec<Prerequisite> {
        let waiting = |candidate: &&Candidate| candidate.waiting > 0 && self.request.fits(candidate);
        let wanted = candidates.iter().filter(waiting);
        let wanted: BTreeSet<_> =
            wanted.filter_map(|candidate| self.request.must_look_for(candidate)).collect();
        wanted.into_iter().take(PREREQUISITES_MAX).cloned().collect()
    }

    pub(super) fn is_idle(&self, open: &[OpenSweep], candidates: &[Candidate]) -> bool {
        let fits = |sweep: &OpenSweep| {
            candidates.iter().any(|candidate| candidate.sweep == sweep.id && self.request.fits(candidate))
        };
        !open.iter().any(|sweep| (sweep.unfinished || sweep.running > 0) && fits(sweep))
    }

    /// A worker that waits beside trials that it may not run would otherwise look as if there were none.
    pub(super) fn unfit(
        &self,
        open: &[OpenSweep],
        candidates: &[Candidate],
        closed: &[(SweepKey, String)],
    ) -> String {
        match &self.claim.sweep {
            Some(name) if !open.iter().any(|sweep| sweep.name == *name) => {
                return format!("there is no open sweep {name:?}");
            }
            _ => {}
        }
        let wanted = open.iter().filter(|sweep| sweep.unfinished && self.request.wants(sweep.id));
        let mut lacking = wanted.filter_map(|sweep| {
            if let Some((_, reason)) = closed.iter().find(|(id, _)| *id == sweep.id) {
                return Some(reason.clone());
            }
            let candidate = candidates.iter().find(|candidate| candidate.sweep == sweep.id)?;
            let lack = self.request.abilities.lack(&candidate.require)?;
            Some(format!("trials of sweep {} wait for workers with {lack}", sweep.name))
        });
        lacking.next().unwrap_or_default()
    }

    /// Why the worker gets none of the trials that wait: the first quarantine that keeps one from it.
    pub(super) fn quarantined(&self, open: &[OpenSweep], candidates: &[Candidate]) -> String {
        let waiting = |candidate: &&Candidate| {
            let unfinished = open.iter().any(|sweep| sweep.id == candidate.sweep && sweep.unfinished);
            unfinished && self.request.may_run(candidate)
        };
        let mut kinds = candidates.iter().filter(waiting).flat_map(|candidate| &candidate.kinds);
        let quarantine = kinds.find_map(|kind| {
            let of =
                |fault: &&Fault| fault.kind == *kind && fault.standing(self.now) == Standing::Quarantined;
            self.faults.iter().find(of)
        });
        quarantine.map(|fault| fault.quarantine(self.now)).unwrap_or_default()
    }
}
