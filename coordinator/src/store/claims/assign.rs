//! Assigning trials to claims.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sortie_core::combine::Member;
use sortie_core::inputs::{Input, Pins, dispute};
use sortie_core::job::Timestamp;
use sortie_core::keep::Needs;
use sortie_core::keys::{AttemptToken, SweepKey, TrialKey};
use sortie_core::machine::{Fault, QUARANTINE};
use sortie_core::schedule::{self, Candidate, Request};

use super::claim_request::ClaimRequest;
use super::findings;
use super::fitness::Fitness;
use super::lease::{ClaimContext, lease};
use crate::store::StoreError;
use crate::store::attempts::{SweepInfo, UnitOfWork};
use crate::store::backend::{OpenSweep, Transaction, WaitingTrial, WorkerRow};
use crate::store::request::Answer;
use crate::store::types::{Claim, Claimed};

/// How many checkpoints an attempt is offered: one may be damaged, or on a disk that it does not reach.
const CHECKPOINTS_MAX: usize = 4;
/// How far into a queue a claim looks for trials that did not fail on its machine.
const QUEUE_MAX: u64 = 4_096;
/// For how long after an attempt only the machine whose disk has its checkpoints, or the most of a combination's members, gets the trial, if
/// that machine is there and fit. Short: a
/// slot elsewhere that is allocated to such a trial gets nothing meanwhile.
const KEPT_FOR: Duration = Duration::from_secs(120);
/// A waiting worker's sign of life is noted this often.
const SEEN_INTERVAL: Duration = Duration::from_secs(10);

type Answers = Vec<Answer<Claimed>>;

/// Answers all claims of a transaction together, in their order: one look at the sweeps, one at each sweep's queue.
pub(crate) async fn assign(
    claims: &[&Claim],
    unit: &mut UnitOfWork,
    context: &mut ClaimContext<'_>,
    tx: &mut dyn Transaction,
) -> Result<Answers, StoreError> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let now = unit.now;
    let mut names: Vec<&str> = claims.iter().map(|claim| claim.worker_id.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let workers = tx.workers(&names).await?;
    let wanted = claims.iter().map(|claim| u64::from(claim.count_max)).sum();
    let open = tx.open_sweeps(wanted, now).await?;
    let disputes = if open.iter().any(|sweep| sweep.disputes) { tx.pins().await? } else { Vec::new() };
    let (mut candidates, closed) = candidates(&open, &disputes, context, tx).await?;
    let suspect = workers.iter().any(|worker| worker.suspect) || findings::any_lacks(claims);
    let mut fitness = if suspect { Some(Fitness::read(now, context.silent_after, tx).await?) } else { None };
    if let Some(fitness) = &mut fitness {
        for claim in claims {
            let asked = ClaimRequest::new(claim, &workers, &open, Some(fitness), now);
            findings::quarantine_lacking(&asked, &candidates, fitness, unit);
        }
    }
    let asked: Vec<ClaimRequest<'_>> =
        claims.iter().map(|claim| ClaimRequest::new(claim, &workers, &open, fitness.as_ref(), now)).collect();
    let requests: Vec<Request> = asked.iter().map(|asked| asked.request.clone()).collect();
    let look_for: Vec<_> = asked.iter().map(|asked| asked.look_for(&candidates)).collect();
    let allocated = schedule::allocate(&mut candidates, &requests);
    let mut queues = queues(&open, &allocated, now, context, tx).await?;
    if fitness.is_none() && queues.iter().any(Queue::prefers_machines) {
        fitness = Some(Fitness::read(now, context.silent_after, tx).await?);
    }
    let members = members(&queues, tx).await?;
    let mut tried = BTreeMap::new();
    let mut answers = Vec::with_capacity(asked.len());
    for ((asked, sweeps), look_for) in asked.into_iter().zip(allocated).zip(look_for) {
        let Ok(worker) = asked.known_worker().map_err(|error| answers.push(Err(error))) else { continue };
        note_sign_of_life(worker, now, unit);
        let mut leases = Vec::with_capacity(sweeps.len());
        for sweep in sweeps {
            let info = context.sweeps.get(sweep, 0, tx).await?;
            // Fewer than were counted if another coordinator takes trials at the same time, or if some are for other machines.
            let queue = queues.iter_mut().find(|queue| queue.sweep == sweep);
            let Some(trial) = queue.and_then(|queue| queue.next(&worker.machine, &info, fitness.as_ref()))
            else {
                continue;
            };
            let members = members.get(&trial.id).cloned().unwrap_or_default();
            if let Some(lease) = lease(&trial, members, &info, worker.id, unit, context)? {
                if trial.attempts > 0 {
                    tried.insert(lease.token, (trial.id, trial.state.earlier()));
                }
                leases.push(lease);
                // A machine on trial gets no other trial of the kind for a while, whatever becomes of this one.
                for fault in asked.on_trial(&info.kinds) {
                    let fault = Fault { until: Some(now.plus(QUARANTINE)), ..fault.clone() };
                    unit.changes.faults.insert((fault.machine.clone(), fault.kind.clone()), Some(fault));
                }
            }
        }
        let idle = leases.is_empty() && !context.look_again && asked.is_idle(&open, &candidates);
        let unfit = if leases.is_empty() { asked.unfit(&open, &candidates, &closed) } else { String::new() };
        let quarantined =
            if leases.is_empty() { asked.quarantined(&open, &candidates) } else { String::new() };
        answers.push(Ok(Claimed { leases, idle, quarantined, unfit, look_for }));
    }
    offer_checkpoints(&mut answers, &tried, tx).await?;
    Ok(answers)
}

/// The sweeps whose trials may be assigned, and why those of the others may not.
async fn candidates(
    open: &[OpenSweep],
    pins: &[(Input, Pins)],
    context: &mut ClaimContext<'_>,
    tx: &mut dyn Transaction,
) -> Result<(Vec<Candidate>, Vec<(SweepKey, String)>), StoreError> {
    let mut candidates = Vec::with_capacity(open.len());
    let mut closed = Vec::new();
    for sweep in open {
        let info = context.sweeps.get(sweep.id, sweep.revision, tx).await?;
        // Its trials bear the names of other numbers than those that workers of this build would make, or nobody knows what they should read.
        if let Some(reason) = info.outdated.clone().or_else(|| dispute(&info.inputs, pins)) {
            closed.push((sweep.id, reason));
            continue;
        }
        let (require, kinds, prerequisite) =
            (info.require.clone(), info.kinds.clone(), info.prerequisite.clone());
        let OpenSweep { id, priority, running, waiting, .. } = *sweep;
        candidates.push(Candidate { sweep: id, priority, require, kinds, prerequisite, running, waiting });
    }
    Ok((candidates, closed))
}

struct Queue {
    sweep: SweepKey,
    trials: VecDeque<WaitingTrial>,
    /// The machines on which trials failed lately.
    failed_on: Machines,
    /// The machines whose own disks have their checkpoints, or the most of their members.
    kept_on: Machines,
}

type Machines = BTreeMap<TrialKey, BTreeSet<String>>;

impl Queue {
    fn prefers_machines(&self) -> bool {
        !(self.failed_on.is_empty() && self.kept_on.is_empty())
    }

    /// The next trial for a machine: one that failed there goes to another, if there is one that is fit. One that did not fail on the machine
    /// whose disk has its checkpoints, or the most of its members, goes there.
    fn next(&mut self, machine: &str, info: &SweepInfo, fitness: Option<&Fitness>) -> Option<WaitingTrial> {
        let any_fits = |like_this: &dyn Fn(&str) -> bool| {
            fitness.is_some_and(|fitness| fitness.any_fits(like_this, &info.require, &info.kinds))
        };
        let is_for_others = |trial: &WaitingTrial| {
            let failed_on = self.failed_on.get(&trial.id);
            if failed_on.is_some_and(|machines| machines.contains(machine)) {
                return any_fits(&|other| failed_on.is_some_and(|machines| !machines.contains(other)));
            }
            let kept = |other: &str| {
                self.kept_on.get(&trial.id).is_some_and(|machines| machines.contains(other))
                    && !failed_on.is_some_and(|machines| machines.contains(other))
            };
            !kept(machine) && any_fits(&kept)
        };
        let index = self.trials.iter().position(|trial| !is_for_others(trial))?;
        self.trials.remove(index)
    }
}

async fn queues(
    open: &[OpenSweep],
    allocated: &[Vec<SweepKey>],
    now: Timestamp,
    context: &mut ClaimContext<'_>,
    tx: &mut dyn Transaction,
) -> Result<Vec<Queue>, StoreError> {
    let mut queues = Vec::new();
    for OpenSweep { id, .. } in open {
        let count = allocated.iter().flatten().filter(|sweep| *sweep == id).count() as u64;
        if count > 0 {
            let needs = context.sweeps.get(*id, 0, tx).await?.needs;
            queues.push(queue(*id, count, now, needs, tx).await?);
        }
    }
    Ok(queues)
}

/// At least this many trials that any machine may get, if there are so many, among others that failed on some machine lately.
async fn queue(
    sweep: SweepKey,
    count: u64,
    now: Timestamp,
    needs: Needs,
    tx: &mut dyn Transaction,
) -> Result<Queue, StoreError> {
    let mut asked = count;
    loop {
        let trials = tx.waiting(sweep, asked, now, needs).await?;
        let tried: Vec<TrialKey> =
            trials.iter().filter(|trial| trial.attempts > 0).map(|trial| trial.id).collect();
        let (mut failed_on, mut kept_on) = (Machines::new(), Machines::new());
        if !tried.is_empty() {
            for (trial, machine) in tx.failed_on(&tried, now.minus(QUARANTINE)).await? {
                failed_on.entry(trial).or_default().insert(machine);
            }
        }
        let goes_on = |trial: &&WaitingTrial| trial.attempts > 0 || trial.point.combine().is_some();
        let going_on: Vec<TrialKey> = trials.iter().filter(goes_on).map(|trial| trial.id).collect();
        if !going_on.is_empty() {
            for (trial, machine) in tx.kept_on(&going_on, now.minus(KEPT_FOR)).await? {
                kept_on.entry(trial).or_default().insert(machine);
            }
        }
        let held = failed_on.keys().chain(kept_on.keys()).collect::<BTreeSet<_>>().len() as u64;
        let found = trials.len() as u64;
        if held == 0 || found < asked || found - held >= count || asked >= QUEUE_MAX {
            return Ok(Queue { sweep, trials: trials.into(), failed_on, kept_on });
        }
        asked = (2 * (count + held)).min(QUEUE_MAX);
    }
}

/// What the combinations among these trials are made of: one look for all of them, and none where there are none.
async fn members(
    queues: &[Queue],
    tx: &mut dyn Transaction,
) -> Result<BTreeMap<TrialKey, Vec<Member>>, StoreError> {
    let trials =
        queues.iter().flat_map(|queue| &queue.trials).filter(|trial| trial.point.combine().is_some());
    let trials: Vec<TrialKey> = trials.map(|trial| trial.id).collect();
    let mut members: BTreeMap<TrialKey, Vec<Member>> = BTreeMap::new();
    if !trials.is_empty() {
        for (trial, member) in tx.members(&trials).await? {
            members.entry(trial).or_default().push(member);
        }
    }
    Ok(members)
}

/// Tells leases, by token, what earlier attempts at their trials left, after the result that stands if there is one: one look for all of them, and none where there was no attempt.
async fn offer_checkpoints(
    answers: &mut [Answer<Claimed>],
    tried: &BTreeMap<AttemptToken, (TrialKey, Option<AttemptToken>)>,
    tx: &mut dyn Transaction,
) -> Result<(), StoreError> {
    if tried.is_empty() {
        return Ok(());
    }
    let trials: Vec<TrialKey> = tried.values().map(|(trial, _)| *trial).collect();
    let found = tx.checkpoints(&trials).await?;
    let leases =
        answers.iter_mut().filter_map(|answer| answer.as_mut().ok()).flat_map(|claimed| &mut claimed.leases);
    for lease in leases {
        let Some((trial, earlier)) = tried.get(&lease.token) else { continue };
        // Of a trial that runs again for its files, those before its result may lack what is wanted now.
        let is_new = |token| earlier.is_none_or(|earlier| token > earlier);
        let own = found.iter().filter(|(of, checkpoint)| of == trial && is_new(checkpoint.token));
        let own = own.map(|(_, checkpoint)| checkpoint.clone());
        lease.checkpoints = own.take(CHECKPOINTS_MAX).collect();
    }
    Ok(())
}

/// Notes that a worker asked. Not at every claim: one that gets nothing should not write.
fn note_sign_of_life(worker: &WorkerRow, now: Timestamp, unit: &mut UnitOfWork) {
    if worker.seen.plus(SEEN_INTERVAL) <= now {
        unit.changes.seen.insert((worker.name.clone(), worker.secret), now);
    }
}
