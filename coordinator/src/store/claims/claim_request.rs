//! A claim, the facts that decide which trials it gets, and the reasons why it gets none.

use sortie_core::job::Timestamp;
use sortie_core::keys::SweepKey;
use sortie_core::schedule::{Candidate, Request, Wanted};

use crate::store::backend::{OpenSweep, WorkerRow};
use crate::store::types::{Claim, Quarantine};

/// A claim, and the facts that decide which trials it gets.
pub(super) struct ClaimRequest<'a> {
    pub(super) claim: &'a Claim,
    pub(super) worker: Option<&'a WorkerRow>,
    pub(super) request: Request,
    now: Timestamp,
}

impl<'a> ClaimRequest<'a> {
    pub(super) fn new(
        claim: &'a Claim,
        workers: &'a [WorkerRow],
        open: &[OpenSweep],
        now: Timestamp,
    ) -> Self {
        let worker = workers.iter().find(|worker| worker.name == claim.worker_id);
        let wanted = claim.sweep.as_ref().map_or(Wanted::Any, |name| {
            Wanted::Named(open.iter().find(|sweep| sweep.name == *name).map(|sweep| sweep.id))
        });
        let fit = worker.is_some_and(|worker| quarantine(worker, now).is_none());
        let count_max = if fit { claim.count_max } else { 0 };
        let abilities = worker.map(|worker| worker.abilities.clone()).unwrap_or_default();
        let request = Request { count_max, wanted, abilities, worker: claim.worker_id.clone() };
        Self { claim, worker, request, now }
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
        outdated: &[(SweepKey, String)],
    ) -> String {
        match &self.claim.sweep {
            Some(name) if !open.iter().any(|sweep| sweep.name == *name) => {
                return format!("there is no open sweep {name:?}");
            }
            _ => {}
        }
        let wanted = open.iter().filter(|sweep| sweep.unfinished && self.request.wants(sweep.id));
        let mut lacking = wanted.filter_map(|sweep| {
            if let Some((_, reason)) = outdated.iter().find(|(id, _)| *id == sweep.id) {
                return Some(reason.clone());
            }
            let candidate = candidates.iter().find(|candidate| candidate.sweep == sweep.id)?;
            let lack = self.request.abilities.lack(&candidate.require)?;
            Some(format!("trials of sweep {} wait for workers with {lack}", sweep.name))
        });
        lacking.next().unwrap_or_default()
    }

    pub(super) fn quarantined(&self) -> String {
        let quarantine = self.worker.and_then(|worker| quarantine(worker, self.now));
        quarantine.map(|quarantine| quarantine.reason.clone()).unwrap_or_default()
    }
}

/// The worker's quarantine, unless it is over.
fn quarantine(worker: &WorkerRow, now: Timestamp) -> Option<&Quarantine> {
    worker.quarantine.as_ref().filter(|quarantine| quarantine.until > now)
}
