//! Submitting: a sweep is stored at once, its trials a few hundred at a time.

use std::time::Duration;

use sortie_core::job::{Decision, Event, Finished, State, Timestamp, apply};
use sortie_core::keep::{LackingTrials, Needs};
use sortie_core::keys::SweepKey;
use sortie_core::plan::PlannedTrial;
use sortie_core::plan::SpecHasher;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::SpecHash;

use crate::store::backend::{
    Changes, FilesQuestion, LackingTrial, Move, NewTrial, Sizes, StoredSweepState, SweepRow, Transaction,
};
use crate::store::types::{Reuse, SubmitOptions, Submitted, TrialEvent};
use crate::store::{Limits, StoreError};

/// Members of combinations that one transaction adds, or a little more: they are as many rows.
const EXPAND_MEMBERS: usize = 5_000;

/// Stores a sweep, or what is new in it; its trials are added later, from the first on: those that are there stay as they are.
pub(crate) async fn store_sweep(
    spec: &SweepSpec,
    options: SubmitOptions,
    limits: Limits,
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<(SweepKey, Submitted), StoreError> {
    let row = match tx.sweep(&spec.name).await? {
        None => {
            let mut row = new_row(spec, options);
            check_room(&row, None, tx.sizes().await?, limits)?;
            row.id = tx.insert_sweep(&row, now).await?;
            row
        }
        Some(row) => {
            let planned = row.planned;
            let mut row = grown_row(row, spec, options)?;
            check_room(&row, Some(planned), tx.sizes().await?, limits)?;
            row.base = tx.next_position(row.id).await?;
            tx.update_sweep(&row).await?;
            row
        }
    };
    Ok((row.id, Submitted { sweep: spec.name.clone(), planned: row.planned, ..Submitted::default() }))
}

/// Refuses a sweep for which the database has no room; `planned` are the trials of a stored one, as they were. One that does not grow is
/// taken whatever there is.
pub(crate) fn check_room(
    row: &SweepRow,
    planned: Option<u64>,
    sizes: Sizes,
    limits: Limits,
) -> Result<(), StoreError> {
    let full = |what, count, max| Err(StoreError::Full { sweep: row.spec.name.clone(), what, count, max });
    let before = planned.unwrap_or(0);
    let sweeps = sizes.sweeps + u64::from(planned.is_none());
    let trials = sizes.trials.saturating_sub(before).saturating_add(row.planned);
    if planned.is_none() && sweeps > limits.sweeps {
        return full("sweeps", sweeps, limits.sweeps);
    }
    if row.planned > before && trials > limits.trials {
        return full("trials", trials, limits.trials);
    }
    Ok(())
}

/// A sweep that is not stored yet, as it will be.
pub(crate) fn new_row(spec: &SweepSpec, options: SubmitOptions) -> SweepRow {
    SweepRow {
        id: SweepKey(0),
        spec: spec.clone(),
        revision: 1,
        state: StoredSweepState::Open,
        archived: false,
        priority: options.priority.unwrap_or(0),
        reuse: options.reuse,
        planned: spec.trials_planned().unwrap_or(u64::MAX),
        expanded: 0,
        base: 0,
    }
}

/// A stored sweep with what a submission adds to it, all of whose trials are to be looked at.
pub(crate) fn grown_row(
    row: SweepRow,
    spec: &SweepSpec,
    options: SubmitOptions,
) -> Result<SweepRow, StoreError> {
    row.check_open()?;
    let spec = row.spec.grown_by(spec)?;
    let (planned, priority) =
        (spec.trials_planned().unwrap_or(u64::MAX), options.priority.unwrap_or(row.priority));
    Ok(SweepRow { spec, planned, expanded: 0, priority, reuse: options.reuse, ..row })
}

/// What adding some trials did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) sweep: SweepKey,
    pub(crate) planned: u64,
    pub(crate) expanded: u64,
    pub(crate) added: u64,
    pub(crate) reused: u64,
    /// Trials whose results lack files.
    pub(crate) lacking: LackingTrials,
}

/// Adds the next trials of one sweep that is not complete; none if all sweeps are. The same transaction stores in the sweep's row how far
/// it came, so it goes on there after a crash.
pub(crate) async fn expand(count_max: u64, tx: &mut dyn Transaction) -> Result<Option<Chunk>, StoreError> {
    let Some(mut row) = tx.expanding().await? else { return Ok(None) };
    let hasher = SpecHasher::of(&row.spec.work, row.spec.protocol);
    let mut until = row.planned.min(row.expanded + count_max);
    let mut trials = Vec::with_capacity(usize::try_from(until - row.expanded).unwrap_or(0));
    let mut members = 0;
    for index in row.expanded..until {
        if members > EXPAND_MEMBERS {
            until = index;
            break;
        }
        let Some(PlannedTrial { point, combination }) = row.spec.planned_at(index, &hasher) else {
            break;
        };
        let position = row.base.saturating_add_unsigned(index);
        let spec_hash = hasher.hash(&point, combination.as_ref());
        let own = combination.map_or_else(Vec::new, |combination| combination.members);
        members += own.len();
        trials.push(NewTrial { spec_hash, position, point, members: own });
    }
    let reuse = (row.reuse != Reuse::Never).then(|| row.needs());
    let (added, reused) = tx.insert_trials(row.id, &trials, reuse).await?;
    let lacking = run_again(&row, &trials, tx).await?;
    row.expanded = until;
    tx.update_sweep(&row).await?;
    Ok(Some(Chunk { sweep: row.id, planned: row.planned, expanded: row.expanded, added, reused, lacking }))
}

/// Lets those of these trials run again whose results lack files that their sweep keeps. Their results count until they have others.
async fn run_again(
    row: &SweepRow,
    trials: &[NewTrial],
    tx: &mut dyn Transaction,
) -> Result<LackingTrials, StoreError> {
    let mut lacking = LackingTrials::default();
    // Combinations are made of their members' files, and leave what they leave.
    let trials: Vec<SpecHash> =
        trials.iter().filter(|trial| trial.members.is_empty()).map(|trial| trial.spec_hash).collect();
    let Some(asked) = question(row, &trials) else { return Ok(lacking) };
    let mut changes = Changes::default();
    let now = tx.now().await?;
    for LackingTrial { own, lacks } in tx.lacking(asked).await? {
        lacking.count(lacks);
        let Some((id, token)) = own else { continue };
        let from = State::Finished(Finished::Succeeded(token));
        let Decision::Move(to, _) = apply(from, &Event::Again, now, Duration::ZERO)? else { continue };
        changes.moves.insert(id, Move { from, to, forgive: true });
        let detail = format!("for its {lacks}; its result counts until it has another");
        let event = TrialEvent { at_ms: now.0, token: Some(token), what: "again".to_owned(), detail };
        changes.events.push((id, event));
    }
    if !changes.is_empty() {
        tx.write(&changes).await?;
    }
    Ok(lacking)
}

/// What is asked about trials of a sweep, stored or not; nothing where no result can lack anything.
pub(crate) fn question<'a>(row: &SweepRow, trials: &'a [SpecHash]) -> Option<FilesQuestion<'a>> {
    let needs = row.needs();
    // Sweeps that are not stored have no id.
    let sweep = Some(row.id).filter(|id| id.0 != 0);
    let asks = needs != Needs::default() && !trials.is_empty();
    asks.then_some(FilesQuestion { sweep, trials, needs, elsewhere: row.reuse != Reuse::Never })
}
