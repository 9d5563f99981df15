//! What workers found when they looked for what trials need.

use sortie_core::job::Blame;
use sortie_core::machine::Standing;
use sortie_core::schedule::Candidate;

use super::fitness::Fitness;
use crate::store::attempts::{UnitOfWork, one_line};
use crate::store::backend::{OpenSweep, WorkerRow};
use crate::store::types::Claim;

/// Whether a worker says that it lacks something.
pub(super) fn any_lacks(claims: &[&Claim]) -> bool {
    claims.iter().any(|claim| claim.findings.as_ref().is_some_and(|findings| !findings.lacks.is_empty()))
}

/// Quarantines the machines of workers that lack what waiting trials need, so that no attempt is spent on finding it out. What no trial
/// needs any more is passed over.
pub(super) fn quarantine_lacking(
    claims: &[&Claim],
    workers: &[WorkerRow],
    open: &[OpenSweep],
    candidates: &[Candidate],
    fitness: &mut Fitness,
    unit: &mut UnitOfWork,
) {
    let now = unit.now;
    let waiting = || candidates.iter().filter(|candidate| candidate.waiting > 0);
    for claim in claims {
        let Some(worker) = workers.iter().find(|worker| worker.name == claim.worker_id) else { continue };
        // Only for trials that it asks for and could get: what others need is not held against it.
        let asks_for = |candidate: &Candidate| {
            let is_named =
                |name: &String| open.iter().any(|sweep| sweep.id == candidate.sweep && sweep.name == *name);
            claim.sweep.as_ref().is_none_or(is_named)
        };
        let may_run = |candidate: &&Candidate| {
            let require = &candidate.require;
            let is_meant = require.worker.as_ref().is_none_or(|named| *named == claim.worker_id);
            asks_for(candidate) && is_meant && worker.abilities.meet(require)
        };
        let lacks = claim.findings.iter().flat_map(|findings| &findings.lacks);
        for missing in lacks {
            let needs =
                |candidate: &&Candidate| candidate.prerequisite.as_ref() == Some(&missing.prerequisite);
            let Some(kind) =
                waiting().filter(may_run).find(needs).and_then(|candidate| candidate.kinds.first())
            else {
                continue;
            };
            let fault = fitness.fault(&worker.machine, kind);
            if fault.standing(now) != Standing::Quarantined {
                // It is certainly the machine's fault, whether or not others are fit.
                let fault = fault.after_failure(Blame::Machine, true, now, &one_line(&missing.reason));
                unit.changes.faults.insert((worker.machine.clone(), kind.clone()), Some(fault.clone()));
                fitness.note(fault);
            }
        }
    }
}
