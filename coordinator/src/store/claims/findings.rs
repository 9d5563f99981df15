//! What workers found when they looked for what trials need.

use sortie_core::job::Blame;
use sortie_core::machine::Standing;
use sortie_core::schedule::Candidate;

use super::claim_request::ClaimRequest;
use super::fitness::Fitness;
use crate::store::attempts::{UnitOfWork, one_line};
use crate::store::types::Claim;

/// Whether a worker says that it lacks something.
pub(super) fn any_lacks(claims: &[&Claim]) -> bool {
    claims.iter().any(|claim| claim.findings.as_ref().is_some_and(|findings| !findings.lacks.is_empty()))
}

/// Quarantines the machine of a worker that lacks what waiting trials need, so that no attempt is spent on finding it out. Only trials
/// that it asks for and could get count: what others need is not held against it.
pub(super) fn quarantine_lacking(
    asked: &ClaimRequest<'_>,
    candidates: &[Candidate],
    fitness: &mut Fitness,
    unit: &mut UnitOfWork,
) {
    let Ok(worker) = asked.known_worker() else { return };
    let may_get = |candidate: &&Candidate| candidate.waiting > 0 && asked.request.may_run(candidate);
    for candidate in candidates.iter().filter(may_get) {
        let (Some(reason), Some(kind)) = (asked.request.lack(candidate), candidate.kinds.first()) else {
            continue;
        };
        let fault = fitness.fault(&worker.machine, kind);
        if fault.standing(unit.now) != Standing::Quarantined {
            // It is certainly the machine's fault, whether or not others are fit.
            let fault = fault.after_failure(Blame::Machine, true, unit.now, &one_line(reason));
            unit.changes.faults.insert((worker.machine.clone(), kind.clone()), Some(fault.clone()));
            fitness.note(fault);
        }
    }
}
