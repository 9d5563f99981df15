//! Leasing one trial.

use std::time::Duration;

use sortie_core::combine::{Combination, Combine, Member};
use sortie_core::finetune::Methods;
use sortie_core::job::{Decision, Event, apply};
use sortie_core::keys::WorkerKey;
use sortie_core::lease::Lease;
use sortie_core::trial::TrialSpec;

#[cfg(doc)]
use crate::store::Settings;
use crate::store::StoreError;
use crate::store::attempts::{SweepCache, SweepInfo, Tokens, UnitOfWork};
use crate::store::backend::{Move, NewAttempt, WaitingTrial};
use crate::store::types::{Reuse, TrialEvent};

/// Mutable state that assigning needs besides the unit of work.
pub(crate) struct ClaimContext<'a> {
    pub(crate) sweeps: &'a mut SweepCache,
    pub(crate) tokens: &'a mut Tokens,
    /// See [`Settings::silent_after`].
    pub(crate) silent_after: Duration,
    /// A trial turned out to have an existing result: the claim that would have got it should look again.
    pub(crate) look_again: bool,
}

/// Leases a trial, or takes over the result that it has elsewhere.
pub(super) fn lease(
    trial: &WaitingTrial,
    mut members: Vec<Member>,
    info: &SweepInfo,
    worker: WorkerKey,
    unit: &mut UnitOfWork,
    context: &mut ClaimContext<'_>,
) -> Result<Option<Lease>, StoreError> {
    // Its own attempt may have come back to life in this very transaction.
    if unit.moved(trial.id).is_some() {
        context.look_again = true;
        return Ok(None);
    }
    let existing = trial.existing.filter(|_| info.reuse != Reuse::Never);
    let token = existing.unwrap_or_else(|| context.tokens.issue());
    let event = if existing.is_some() { Event::Reuse(token) } else { Event::Claim(token) };
    let Decision::Move(to, _) = apply(trial.state, &event, unit.now, unit.lease)? else {
        return Ok(None);
    };
    unit.changes.moves.insert(trial.id, Move { from: trial.state, to, forgive: false });
    if existing.is_some() {
        let detail = "the same trial has succeeded in another sweep".to_owned();
        let event = TrialEvent { at_ms: unit.now.0, token: Some(token), what: "reused".to_owned(), detail };
        unit.changes.events.push((trial.id, event));
        unit.note_end(!info.combine.is_empty());
        context.look_again = true;
        return Ok(None);
    }
    let combine =
        trial.point.combine().and_then(|name| info.combine.iter().find(|combine| combine.name == name));
    let combination = combine.map(|Combine { kind, choice, method, .. }| {
        let ids = members.iter().map(|member| member.spec_hash).collect();
        Combination { kind: *kind, choice: *choice, method: *method, members: ids }
    });
    let hash = info.hasher.hash(&trial.point, combination.as_ref());
    if hash != trial.spec_hash {
        let reason = format!("trial {} is {hash} by its specification", trial.spec_hash);
        return Err(StoreError::Corrupt { table: "trials", column: "trial_id", reason });
    }
    // A combination evaluates one network.
    let methods = if combination.is_some() { Methods::default() } else { info.needs.methods };
    let started = unit.now;
    unit.changes.new_attempts.push(NewAttempt { token, trial: trial.id, worker, started, methods });
    let method = combination.as_ref().map(|combination| combination.method);
    members.iter_mut().for_each(|member| member.files.retain(|file| Some(file.method) == method));
    let work = info.work.at(&trial.point.parameters).into_owned();
    let spec = TrialSpec { work, point: trial.point.clone(), combination };
    let (sweep, keep, kill_at) = (info.name.clone(), info.keep, info.kill_at);
    let attempt = trial.attempts.saturating_add(1);
    Ok(Some(Lease {
        token,
        attempt,
        first: trial.first.unwrap_or(token),
        spec_hash: hash,
        sweep,
        spec,
        checkpoints: Vec::new(),
        keep,
        limits: info.limits,
        kill_at,
        members,
    }))
}
