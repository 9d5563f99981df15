//! Submitting: a sweep is stored at once, its trials a few hundred at a time.

use sortie_core::job::Timestamp;
use sortie_core::keys::SweepKey;
use sortie_core::plan::PlannedTrial;
use sortie_core::plan::SpecHasher;
use sortie_core::spec::SweepSpec;

use crate::store::StoreError;
use crate::store::backend::{NewTrial, StoredSweepState, SweepRow, Transaction};
use crate::store::types::{SubmitOptions, Submitted};

/// Members of combinations that one transaction adds, or a little more: they are as many rows.
const EXPAND_MEMBERS: usize = 5_000;

/// Stores a sweep, or what is new in it; its trials are added later, from the first on: those that are there stay as they are.
pub(crate) async fn store_sweep(
    spec: &SweepSpec,
    options: SubmitOptions,
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<(SweepKey, Submitted), StoreError> {
    let planned = |spec: &SweepSpec| spec.trials_planned().unwrap_or(u64::MAX);
    let row = match tx.sweep(&spec.name).await? {
        None => {
            let (priority, reuse) = (options.priority.unwrap_or(0), options.reuse);
            let (state, planned) = (StoredSweepState::Open, planned(spec));
            let mut row = SweepRow {
                id: SweepKey(0),
                spec: spec.clone(),
                revision: 1,
                state,
                archived: false,
                priority,
                reuse,
                planned,
                expanded: 0,
                base: 0,
            };
            row.id = tx.insert_sweep(&row, now).await?;
            row
        }
        Some(mut row) => {
            row.check_open()?;
            row.spec = row.spec.grown_by(spec)?;
            (row.planned, row.expanded) = (planned(&row.spec), 0);
            row.base = tx.next_position(row.id).await?;
            row.priority = options.priority.unwrap_or(row.priority);
            row.reuse = options.reuse;
            tx.update_sweep(&row).await?;
            row
        }
    };
    Ok((row.id, Submitted { sweep: spec.name.clone(), planned: row.planned, ..Submitted::default() }))
}

/// What adding some trials did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) sweep: SweepKey,
    pub(crate) planned: u64,
    pub(crate) expanded: u64,
    pub(crate) added: u64,
    pub(crate) reused: u64,
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
    let (added, reused) = tx.insert_trials(row.id, &trials, row.reuse.then(|| row.spec.needs())).await?;
    row.expanded = until;
    tx.update_sweep(&row).await?;
    Ok(Some(Chunk { sweep: row.id, planned: row.planned, expanded: row.expanded, added, reused }))
}
