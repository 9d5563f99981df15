//! One transaction's worth of what workers say: read what it concerns, decide in [`job`], write it down.
//!
//! A request that is refused changes nothing, so requests of many workers share a transaction and its flush to disk.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_core::job::{ErrorClass, Timestamp, Token};
use sortie_core::schedule::is_set_aside;
use tokio::time::Instant;

use super::backend::{Changes, Contradiction, Transaction, WorkerChange};
use super::claims::{self, Shelf};
use super::known::{SweepCache, Tokens};
use super::ledger::Ledger;
use super::request::{Answer, Op, Reply};
use super::types::{Claim, Happening};
use super::{Settings, StoreError};

/// How many expired leases one transaction ends.
const REAPED_MAX: u64 = 1_000;
/// How long a worker that was set aside gets no trials.
const ASIDE: Duration = Duration::from_secs(600);
/// A worker that was not seen for this many leases is not counted on.
const UNSEEN_LEASES: u32 = 4;

/// What a transaction gave: an answer for each request, and what the caller has to know besides.
#[derive(Debug)]
pub(crate) struct Outcomes {
    pub(crate) answers: Vec<Answer>,
    /// When the next trial that was put back becomes free; none if none was.
    pub(crate) free_at: Option<Timestamp>,
    /// Whether a trial ended: a sweep may be over now.
    pub(crate) ended: bool,
    /// Whether a claim should look again at once.
    pub(crate) look_again: bool,
}

/// Carries requests out.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) settings: Settings,
    pub(crate) sweeps: SweepCache,
    pub(crate) tokens: Tokens,
}

impl Desk {
    /// Does what these requests ask for, in their order, and writes it down; the caller commits. An error concerns all of them, and
    /// nothing is changed then.
    pub(crate) async fn serve(
        &mut self,
        ops: &[Op],
        now: Timestamp,
        tx: &mut dyn Transaction,
    ) -> Result<(Outcomes, bool), StoreError> {
        let mut ledger = self.load(ops, now, tx).await?;
        let mut answers = Vec::with_capacity(ops.len());
        let mut requests: Vec<(usize, &Claim)> = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            answers.push(match op {
                Op::Claim(claim) => {
                    requests.push((index, claim));
                    Ok(Reply::Done)
                }
                Op::Heartbeat { worker, attempts } => Ok(Reply::Lost(ledger.heartbeat(worker, attempts))),
                Op::Report { token, batch } => ledger.report(*token, batch).map(|()| Reply::Done),
                Op::Complete(completion) => ledger.complete(completion).map(|()| Reply::Done),
                Op::Leave(worker) => {
                    ledger.changes.left.insert(worker.clone(), now);
                    Ok(Reply::Done)
                }
                Op::Reap(by) if is_late(*by) => Ok(Reply::Late),
                Op::Reap(_) => ledger.reap().map(Reply::Reaped),
            });
        }
        let mut shelf = Shelf { sweeps: &mut self.sweeps, tokens: &mut self.tokens, look_again: false };
        for (index, claimed) in claims::hand_out(&requests, &mut ledger, &mut shelf, tx).await? {
            answers[index] = claimed.map(Reply::Claimed);
        }
        let look_again = shelf.look_again;
        let Ledger { mut changes, free_at, ended, failing, told, .. } = ledger.into_changes();
        set_aside(failing, now, self.settings.lease, &mut changes, tx).await?;
        let written = !changes.is_empty();
        if written {
            tx.write(&changes).await?;
            note_contradictions(&told, now, tx).await?;
        }
        Ok((Outcomes { answers, free_at, ended, look_again }, written))
    }

    async fn load(
        &mut self,
        ops: &[Op],
        now: Timestamp,
        tx: &mut dyn Transaction,
    ) -> Result<Ledger, StoreError> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut expired = Vec::new();
        for op in ops {
            match op {
                Op::Heartbeat { attempts, .. } => tokens.extend(attempts.iter().map(|(token, _)| *token)),
                Op::Report { token, .. } => tokens.push(*token),
                Op::Complete(completion) => tokens.push(completion.token),
                Op::Reap(by) if !is_late(*by) && expired.is_empty() => {
                    expired = tx.expired(now, REAPED_MAX).await?
                }
                Op::Claim(_) | Op::Leave(_) | Op::Reap(_) => {}
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
        let mut ledger = Ledger::new(attempts, sweeps, expired, now, self.settings.lease);
        let failing = ledger.trials_that_may_fail(ops);
        if !failing.is_empty() {
            ledger.note_failures(tx.failures(&failing).await?);
        }
        for (kind, name) in ledger.names_to_compare(ops) {
            let digest = tx.pinned(kind, &name).await?;
            ledger.note_pin(kind, name, digest);
        }
        Ok(ledger)
    }
}

/// Whether the time is over by which something had to be done.
fn is_late(by: Option<Instant>) -> bool {
    by.is_some_and(|by| by < Instant::now())
}

/// Compares what these attempts told with what earlier ones at the same trials had told, and notes what should not differ and does.
async fn note_contradictions(
    told: &[Token],
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<(), StoreError> {
    if told.is_empty() {
        return Ok(());
    }
    let mut changes = Changes::default();
    for Contradiction { trial, token, earlier, step, rows } in tx.contradictions(told).await? {
        let same = "on the same machine, device, threads, libtorch, data and weights";
        let detail =
            format!("{rows} evaluations from step {step} on differ from those of attempt {earlier}, {same}");
        let happening =
            Happening { at_ms: now.0, token: Some(token), what: "nondeterministic".to_owned(), detail };
        changes.happenings.push((trial, happening));
    }
    if changes.is_empty() { Ok(()) } else { tx.write(&changes).await }
}

/// Sets workers aside whose attempts keep failing while others' do not.
async fn set_aside(
    failing: BTreeMap<i64, (u32, ErrorClass)>,
    now: Timestamp,
    lease: Duration,
    changes: &mut Changes,
    tx: &mut dyn Transaction,
) -> Result<(), StoreError> {
    let suspicious = failing.values().any(|(failures_in_row, _)| is_set_aside(*failures_in_row, 1));
    let mut fit =
        if suspicious { tx.fit_workers(now.minus(lease * UNSEEN_LEASES), now).await? } else { Vec::new() };
    for (worker, (failures_in_row, class)) in failing {
        let others = fit.iter().filter(|other| **other != worker).count() as u64;
        let aside = is_set_aside(failures_in_row, others);
        if aside {
            // Several may fail in one transaction; the last one that is fit stays.
            fit.retain(|other| *other != worker);
        }
        let aside_until = if aside { now.plus(ASIDE) } else { Timestamp(0) };
        let reason = format!("its last {failures_in_row} attempts failed, the last one as {class}");
        let aside_reason = if aside { reason } else { String::new() };
        changes.workers.insert(worker, WorkerChange { failures_in_row, aside_until, aside_reason });
    }
    Ok(())
}
