//! Handing out trials.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_core::combine::{Combination, Combine, Member};
use sortie_core::job::{Decision, Event, Timestamp, Token, apply};
use sortie_core::schedule::{self, Candidate, Request};
use sortie_core::trial::TrialSpec;

use super::StoreError;
use super::backend::{Move, NewAttempt, OpenSweep, Transaction, WaitingTrial, WorkerRow};
use super::known::{SweepCache, SweepInfo, Tokens};
use super::ledger::Ledger;
use super::types::{Claim, Claimed, Happening, Lease};

/// How many checkpoints an attempt is offered: one may be damaged, or on a disk that it does not reach.
const CHECKPOINTS_MAX: usize = 4;
/// A waiting worker's sign of life is noted this often.
const SEEN_INTERVAL: Duration = Duration::from_secs(10);

/// What handing out needs besides the ledger.
pub(crate) struct Shelf<'a> {
    pub(crate) sweeps: &'a mut SweepCache,
    pub(crate) tokens: &'a mut Tokens,
    /// A trial turned out to have a result already: whoever would have got it should look again.
    pub(crate) look_again: bool,
}

type Answers = Vec<(usize, Result<Claimed, StoreError>)>;

/// Answers all claims of a transaction together: one look at the sweeps, one at each sweep's queue.
pub(crate) async fn hand_out(
    claims: &[(usize, &Claim)],
    ledger: &mut Ledger,
    shelf: &mut Shelf<'_>,
    tx: &mut dyn Transaction,
) -> Result<Answers, StoreError> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let now = ledger.now;
    let mut names: Vec<&str> = claims.iter().map(|(_, claim)| claim.worker_id.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let workers = tx.workers(&names).await?;
    let wanted = claims.iter().map(|(_, claim)| u64::from(claim.count_max)).sum();
    let open = tx.open_sweeps(wanted, now).await?;
    let mut candidates = Vec::with_capacity(open.len());
    let mut outdated = Vec::new();
    for sweep in &open {
        let info = shelf.sweeps.get(sweep.id, sweep.revision, tx).await?;
        // Its trials bear the names of other numbers than those that workers of this build would make.
        if let Some(reason) = &info.outdated {
            outdated.push((sweep.id, reason.clone()));
            continue;
        }
        let require = info.require.clone();
        let OpenSweep { id, priority, running, waiting, .. } = *sweep;
        candidates.push(Candidate { sweep: id, priority, require, running, waiting });
    }
    let asked: Vec<Asked<'_>> =
        claims.iter().map(|(index, claim)| Asked::new(*index, claim, &workers, &open, now)).collect();
    let requests: Vec<Request> = asked.iter().map(|asked| asked.request.clone()).collect();
    let dealt = schedule::deal(&mut candidates, &requests);
    let mut queues = queues(&open, &dealt, now, shelf, tx).await?;
    let members = members(&queues, tx).await?;
    let mut tried = BTreeMap::new();
    let mut answers = Vec::with_capacity(asked.len());
    for (asked, sweeps) in asked.into_iter().zip(dealt) {
        let Some(worker) = asked.worker else {
            answers.push((asked.index, Err(StoreError::UnknownWorker(asked.claim.worker_id.clone()))));
            continue;
        };
        // Not at every claim, for a claim that gets nothing should cost no flush.
        if worker.seen.plus(SEEN_INTERVAL) <= now {
            ledger.changes.seen.insert(asked.claim.worker_id.clone(), now);
        }
        let mut leases = Vec::with_capacity(sweeps.len());
        for sweep in sweeps {
            let info = shelf.sweeps.get(sweep, 0, tx).await?;
            // Fewer than were counted if another coordinator takes trials at the same time.
            let Some(trial) =
                queues.iter_mut().find(|queue| queue.sweep == sweep).and_then(|queue| queue.trials.pop())
            else {
                continue;
            };
            let members = members.get(&trial.id).cloned().unwrap_or_default();
            if let Some(lease) = lease(&trial, members, &info, worker.id, ledger, shelf)? {
                if trial.tried {
                    tried.insert(lease.token, trial.id);
                }
                leases.push(lease);
            }
        }
        let idle = leases.is_empty() && !shelf.look_again && asked.is_idle(&open, &candidates);
        let unfit =
            if leases.is_empty() { asked.unfit(&open, &candidates, &outdated) } else { String::new() };
        answers.push((asked.index, Ok(Claimed { leases, idle, set_aside: asked.set_aside(), unfit })));
    }
    offer_checkpoints(&mut answers, &tried, tx).await?;
    Ok(answers)
}

/// A claim with all that decides what it gets.
struct Asked<'a> {
    index: usize,
    claim: &'a Claim,
    worker: Option<&'a WorkerRow>,
    request: Request,
    now: Timestamp,
}

impl<'a> Asked<'a> {
    fn new(
        index: usize,
        claim: &'a Claim,
        workers: &'a [WorkerRow],
        open: &[OpenSweep],
        now: Timestamp,
    ) -> Self {
        let worker = workers.iter().find(|worker| worker.name == claim.worker_id);
        // A sweep that is not there, or not open, has no trials; no sweep has this id.
        let sweep = claim
            .sweep
            .as_ref()
            .map(|name| open.iter().find(|sweep| sweep.name == *name).map_or(-1, |sweep| sweep.id));
        let fit = worker.is_some_and(|worker| worker.aside_until <= now);
        let count_max = if fit { claim.count_max } else { 0 };
        let abilities = worker.map(|worker| worker.abilities.clone()).unwrap_or_default();
        let request = Request { count_max, sweep, abilities, worker: claim.worker_id.clone() };
        Self { index, claim, worker, request, now }
    }

    fn is_idle(&self, open: &[OpenSweep], candidates: &[Candidate]) -> bool {
        let fits = |sweep: &OpenSweep| {
            candidates.iter().any(|candidate| candidate.sweep == sweep.id && self.request.fits(candidate))
        };
        !open.iter().any(|sweep| (sweep.unfinished || sweep.running > 0) && fits(sweep))
    }

    /// A worker that waits beside trials that it may not run would otherwise look as if there were none.
    fn unfit(&self, open: &[OpenSweep], candidates: &[Candidate], outdated: &[(i64, String)]) -> String {
        match &self.claim.sweep {
            Some(name) if !open.iter().any(|sweep| sweep.name == *name) => {
                return format!("there is no open sweep {name:?}");
            }
            _ => {}
        }
        let wanted = open
            .iter()
            .filter(|sweep| sweep.unfinished && self.request.sweep.is_none_or(|id| id == sweep.id));
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

    fn set_aside(&self) -> String {
        self.worker
            .filter(|worker| worker.aside_until > self.now)
            .map(|worker| worker.aside_reason.clone())
            .unwrap_or_default()
    }
}

struct Queue {
    sweep: i64,
    /// The next one last.
    trials: Vec<WaitingTrial>,
}

async fn queues(
    open: &[OpenSweep],
    dealt: &[Vec<i64>],
    now: Timestamp,
    shelf: &mut Shelf<'_>,
    tx: &mut dyn Transaction,
) -> Result<Vec<Queue>, StoreError> {
    let mut queues = Vec::new();
    for OpenSweep { id, .. } in open {
        let count = dealt.iter().flatten().filter(|sweep| *sweep == id).count() as u64;
        if count > 0 {
            let needs = shelf.sweeps.get(*id, 0, tx).await?.needs;
            let mut trials = tx.waiting(*id, count, now, needs).await?;
            trials.reverse();
            queues.push(Queue { sweep: *id, trials });
        }
    }
    Ok(queues)
}

/// What the combinations among these trials are made of: one look for all of them, and none where there are none.
async fn members(
    queues: &[Queue],
    tx: &mut dyn Transaction,
) -> Result<BTreeMap<i64, Vec<Member>>, StoreError> {
    let trials =
        queues.iter().flat_map(|queue| &queue.trials).filter(|trial| trial.point.combine().is_some());
    let trials: Vec<i64> = trials.map(|trial| trial.id).collect();
    let mut members: BTreeMap<i64, Vec<Member>> = BTreeMap::new();
    if !trials.is_empty() {
        for (trial, member) in tx.members(&trials).await? {
            members.entry(trial).or_default().push(member);
        }
    }
    Ok(members)
}

/// Leases a trial, or takes over the result that it has elsewhere.
fn lease(
    trial: &WaitingTrial,
    mut members: Vec<Member>,
    info: &SweepInfo,
    worker: i64,
    ledger: &mut Ledger,
    shelf: &mut Shelf<'_>,
) -> Result<Option<Lease>, StoreError> {
    // Its own attempt may have come back to life in this very transaction.
    if ledger.moved(trial.id).is_some() {
        shelf.look_again = true;
        return Ok(None);
    }
    let existing = trial.existing.filter(|_| info.reuse);
    let token = existing.unwrap_or_else(|| shelf.tokens.issue());
    let event = if existing.is_some() { Event::Reuse(token) } else { Event::Claim(token) };
    let Decision::Move(to, _) = apply(trial.state, &event, ledger.now, ledger.lease)? else {
        return Ok(None);
    };
    ledger
        .changes
        .moves
        .insert(trial.id, Move { from: trial.state, to, forgive: false, reused: existing.is_some() });
    if existing.is_some() {
        let detail = "the same trial has succeeded in another sweep".to_owned();
        let happening =
            Happening { at_ms: ledger.now.0, token: Some(token), what: "reused".to_owned(), detail };
        ledger.changes.happenings.push((trial.id, happening));
        (ledger.ended, shelf.look_again) = (true, true);
        return Ok(None);
    }
    let combine =
        trial.point.combine().and_then(|name| info.combine.iter().find(|combine| combine.name == name));
    let combination = combine.map(|Combine { kind, choice, method, .. }| {
        let ids = members.iter().map(|member| member.trial_id).collect();
        Combination { kind: *kind, choice: *choice, method: *method, members: ids }
    });
    let id = info.identifier.id(&trial.point, combination.as_ref());
    if id != trial.trial_id {
        let reason = format!("trial {} is {id} by its specification", trial.trial_id);
        return Err(StoreError::Corrupt { table: "trials", column: "trial_id", reason });
    }
    ledger.changes.new_attempts.push(NewAttempt { token, trial: trial.id, worker, started: ledger.now });
    let method = combination.as_ref().map(|combination| combination.method);
    members.iter_mut().for_each(|member| member.files.retain(|file| Some(file.method) == method));
    let spec = TrialSpec { work: info.work.clone(), point: trial.point.clone(), combination };
    let (sweep, keep, kill_at) = (info.name.clone(), info.keep, info.kill_at);
    Ok(Some(Lease { token, trial_id: id, sweep, spec, checkpoints: Vec::new(), keep, kill_at, members }))
}

/// Tells leases, by token, what earlier attempts at their trials left: one look for all of them, and none where there was no attempt.
async fn offer_checkpoints(
    answers: &mut Answers,
    tried: &BTreeMap<Token, i64>,
    tx: &mut dyn Transaction,
) -> Result<(), StoreError> {
    if tried.is_empty() {
        return Ok(());
    }
    let trials: Vec<i64> = tried.values().copied().collect();
    let found = tx.checkpoints(&trials).await?;
    let leases = answers
        .iter_mut()
        .filter_map(|(_, answer)| answer.as_mut().ok())
        .flat_map(|claimed| &mut claimed.leases);
    for lease in leases {
        let Some(trial) = tried.get(&lease.token) else { continue };
        let own = found.iter().filter(|(of, _)| of == trial).map(|(_, checkpoint)| checkpoint.clone());
        lease.checkpoints = own.take(CHECKPOINTS_MAX).collect();
    }
    Ok(())
}
