//! One transaction's worth of requests: read the rows that they concern, decide in [`job`], write the changes down.
//!
//! A request that is refused changes nothing, so requests of many workers share a transaction and its flush to disk.

use std::collections::BTreeMap;

use sortie_core::job::{Blame, Timestamp};
use sortie_core::keys::AttemptToken;
use sortie_core::machine::WorkKind;
use tokio::time::Instant;

use crate::store::attempts::{MachineOutcome, SweepCache, Tokens, UnitOfWork};
use crate::store::backend::{Changes, Contradiction, Transaction};
use crate::store::claims::{self, ClaimContext, Fitness};
use crate::store::request::{PendingClaim, Request};
use crate::store::types::{Claim, TrialEvent};
use crate::store::{Settings, StoreError};

/// How many expired leases one transaction ends.
const REAPED_MAX: u64 = 1_000;

/// What follows from a transaction, besides the answers to its requests.
#[derive(Debug)]
pub(crate) struct Outcomes {
    /// When the first trial that was queued again becomes free; none if no trial was.
    pub(crate) free_at: Option<Timestamp>,
    /// Whether a trial ended: a sweep may be over now.
    pub(crate) ended: bool,
    /// Whether a trial ended that a combination may wait for.
    pub(crate) member_ended: bool,
    /// Whether a claim should look again at once.
    pub(crate) look_again: bool,
}

/// Executes a batch of requests in one transaction.
#[derive(Debug)]
pub(crate) struct BatchExecutor {
    pub(crate) settings: Settings,
    pub(crate) sweeps: SweepCache,
    pub(crate) tokens: Tokens,
}

impl BatchExecutor {
    /// Executes these requests in their order, leaves the answers in their replies and writes the changes; the caller commits. An error
    /// concerns all of them, and nothing is changed then.
    pub(crate) async fn serve(
        &mut self,
        requests: &mut [Request],
        now: Timestamp,
        tx: &mut dyn Transaction,
    ) -> Result<(Outcomes, bool), StoreError> {
        let mut unit = self.load(requests, now, tx).await?;
        let mut waiting = Vec::new();
        for request in requests {
            match request {
                // After all others: they may free trials.
                Request::Claim(PendingClaim { claim, reply, .. }) => waiting.push((&*claim, reply)),
                Request::Heartbeat { worker, attempts, reply } => {
                    reply.set(unit.on_heartbeat(worker, attempts));
                }
                Request::Report { secret, token, batch, reply } => {
                    reply.set(unit.on_report(secret, *token, batch));
                }
                Request::Complete { secret, completion, reply } => {
                    reply.set(unit.on_complete(secret, completion));
                }
                Request::Leave { worker, reply } => {
                    unit.on_leave(worker);
                    reply.set(Ok(()));
                }
                Request::Reap { by, reply } if is_late(*by) => reply.set(Ok(None)),
                Request::Reap { reply, .. } => reply.set(unit.on_reap().map(Some)),
            }
        }
        let mut context = ClaimContext {
            sweeps: &mut self.sweeps,
            tokens: &mut self.tokens,
            silent_after: self.settings.silent_after(),
            look_again: false,
        };
        let (claims, replies): (Vec<&Claim>, Vec<_>) = waiting.into_iter().unzip();
        let answers = claims::assign(&claims, &mut unit, &mut context, tx).await?;
        for (reply, answer) in replies.into_iter().zip(answers) {
            reply.set(answer);
        }
        let look_again = context.look_again || unit.resolved;
        let UnitOfWork { mut changes, free_at, ended, member_ended, machine_outcomes, to_compare, .. } =
            unit.into_changes();
        self.update_faults(machine_outcomes, now, &mut changes, tx).await?;
        let written = !changes.is_empty();
        if written {
            tx.write(&changes).await?;
            note_contradictions(&to_compare, now, tx).await?;
        }
        Ok((Outcomes { free_at, ended, member_ended, look_again }, written))
    }

    async fn load(
        &mut self,
        requests: &[Request],
        now: Timestamp,
        tx: &mut dyn Transaction,
    ) -> Result<UnitOfWork, StoreError> {
        let mut tokens: Vec<AttemptToken> = Vec::new();
        let mut expired = Vec::new();
        for request in requests {
            match request {
                Request::Heartbeat { attempts, .. } => {
                    tokens.extend(attempts.iter().map(|attempt| attempt.token))
                }
                Request::Report { token, .. } => tokens.push(*token),
                Request::Complete { completion, .. } => tokens.push(completion.token),
                Request::Reap { by, .. } if !is_late(*by) && expired.is_empty() => {
                    expired = tx.expired(now, REAPED_MAX).await?
                }
                Request::Claim(_) | Request::Leave { .. } | Request::Reap { .. } => {}
            }
        }
        tokens.extend(&expired);
        tokens.sort_unstable();
        tokens.dedup();
        let attempts = if tokens.is_empty() { Vec::new() } else { tx.attempts(&tokens).await? };
        let mut sweeps = BTreeMap::new();
        for row in &attempts {
            if let std::collections::btree_map::Entry::Vacant(entry) = sweeps.entry(row.sweep) {
                entry.insert(self.sweeps.get(row.sweep, 0, tx).await?);
            }
        }
        let mut unit = UnitOfWork::new(attempts, sweeps, expired, now, self.settings);
        let failing = unit.trials_that_may_fail(requests);
        if !failing.is_empty() {
            unit.note_failures(tx.failures(&failing).await?);
            unit.note_machines(tx.failed_on(&failing, Timestamp(0)).await?);
        }
        let inputs = unit.inputs_to_compare(requests);
        if !inputs.is_empty() {
            unit.note_pins(tx.pins_of(&inputs).await?);
        }
        Ok(unit)
    }

    /// Changes what is held against machines by what the ends of attempts say about them.
    async fn update_faults(
        &mut self,
        machine_outcomes: Vec<MachineOutcome>,
        now: Timestamp,
        changes: &mut Changes,
        tx: &mut dyn Transaction,
    ) -> Result<(), StoreError> {
        if machine_outcomes.is_empty() {
            return Ok(());
        }
        let mut fitness = Fitness::read(now, self.settings.silent_after(), tx).await?;
        for MachineOutcome { machine, sweep, kinds, failure } in machine_outcomes {
            let info = self.sweeps.get(sweep, 0, tx).await?;
            let Some((blame, message)) = failure else {
                for kind in &kinds {
                    if fitness.clear(&machine, kind) {
                        changes.faults.insert((machine.clone(), kind.clone()), None);
                    }
                }
                continue;
            };
            let device = kinds.contains(&WorkKind::Device) && blame == Blame::Device;
            let Some(kind) = (if device { Some(&WorkKind::Device) } else { kinds.first() }) else {
                continue;
            };
            let others = fitness.any_fits(|other| *other != *machine, &info.require, &info.kinds);
            let fault = fitness.fault(&machine, kind).after_failure(blame, others, now, &message);
            changes.faults.insert((machine, kind.clone()), Some(fault.clone()));
            fitness.note(fault);
        }
        Ok(())
    }
}

/// Whether the time is over by which something had to be done.
fn is_late(by: Option<Instant>) -> bool {
    by.is_some_and(|by| by < Instant::now())
}

/// Compares the reports of these attempts with those of earlier attempts at the same trials, and notes differences that should not be.
async fn note_contradictions(
    to_compare: &[AttemptToken],
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<(), StoreError> {
    if to_compare.is_empty() {
        return Ok(());
    }
    let mut changes = Changes::default();
    for Contradiction { trial, token, earlier_number, step, rows, .. } in
        tx.contradictions(to_compare).await?
    {
        let same = "on the same machine, device, threads, libtorch, data and weights";
        let detail = format!(
            "{rows} evaluations from step {step} on differ from those of attempt {earlier_number}, {same}"
        );
        let event =
            TrialEvent { at_ms: now.0, token: Some(token), what: "nondeterministic".to_owned(), detail };
        changes.events.push((trial, event));
    }
    if changes.is_empty() { Ok(()) } else { tx.write(&changes).await }
}
