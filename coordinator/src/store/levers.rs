//! What users do: submit, pause, resume, cancel, retry. One transaction each, or one per page of trials.

use std::time::Duration;

use sortie_core::combine::PlannedTrial;
use sortie_core::filter::Filter;
use sortie_core::job::{Decision, Effect, Event, State, StateName, Timestamp, apply};
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Identifier;

use super::StoreError;
use super::backend::{
    AttemptState, Changes, Move, NewTrial, Progress, SweepRow, SweepState, Transaction, TrialRow,
};
use super::types::{Happening, SubmitOptions, Submitted, SweepAction, TrialAction};

/// Trials of one page of a lever.
const PAGE_TRIALS: u64 = 1_000;

/// Members of combinations that one transaction adds, or a little more: they are as many rows.
const EXPAND_MEMBERS: usize = 5_000;

/// Stores a sweep, or what is new in it; its trials are added later, from the first on: those that are there stay as they are.
pub(crate) async fn store_sweep(
    spec: &SweepSpec,
    options: SubmitOptions,
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<(i64, Submitted), StoreError> {
    let planned = |spec: &SweepSpec| spec.trials_planned().unwrap_or(u64::MAX);
    let row = match tx.sweep(&spec.name).await? {
        None => {
            let (priority, reuse) = (options.priority.unwrap_or(0), options.reuse);
            let (state, planned) = (SweepState::Open, planned(spec));
            let mut row = SweepRow {
                id: 0,
                spec: spec.clone(),
                revision: 1,
                state,
                priority,
                reuse,
                planned,
                expanded: 0,
                base: 0,
            };
            row.id = tx.insert_sweep(&row, now).await?;
            row
        }
        Some(mut row) if row.state == SweepState::Cancelled => {
            return Err(StoreError::Cancelled(std::mem::take(&mut row.spec.name)));
        }
        Some(mut row) => {
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
    pub(crate) sweep: i64,
    pub(crate) planned: u64,
    pub(crate) expanded: u64,
    pub(crate) added: u64,
    pub(crate) reused: u64,
}

/// Adds the next trials of some sweep that is not complete; none if all are. Where it stopped is in the sweep's row, in the same
/// transaction, so it goes on there after a crash.
pub(crate) async fn expand(count_max: u64, tx: &mut dyn Transaction) -> Result<Option<Chunk>, StoreError> {
    let Some(mut row) = tx.expanding().await? else { return Ok(None) };
    let identifier = Identifier::of(&row.spec.work, row.spec.protocol);
    let mut until = row.planned.min(row.expanded + count_max);
    let mut trials = Vec::with_capacity(usize::try_from(until - row.expanded).unwrap_or(0));
    let mut members = 0;
    for index in row.expanded..until {
        if members > EXPAND_MEMBERS {
            until = index;
            break;
        }
        let Some(PlannedTrial { point, combination }) = row.spec.planned_at(index, &identifier) else {
            break;
        };
        let position = row.base.saturating_add(i64::try_from(index).unwrap_or(i64::MAX));
        let trial_id = identifier.id(&point, combination.as_ref());
        let own = combination.map_or_else(Vec::new, |combination| combination.members);
        members += own.len();
        trials.push(NewTrial { trial_id, position, point, members: own });
    }
    let (added, reused) = tx.insert_trials(row.id, &trials, row.reuse.then(|| row.spec.needs())).await?;
    row.expanded = until;
    tx.update_sweep(&row).await?;
    Ok(Some(Chunk { sweep: row.id, planned: row.planned, expanded: row.expanded, added, reused }))
}

/// Changes a sweep. Said again it is a no-op.
pub(crate) async fn act(name: &str, action: SweepAction, tx: &mut dyn Transaction) -> Result<(), StoreError> {
    let mut row = known(name, tx).await?;
    match action {
        SweepAction::Pause if row.state == SweepState::Cancelled => {
            return Err(StoreError::Cancelled(name.to_owned()));
        }
        SweepAction::Pause => row.state = SweepState::Paused,
        SweepAction::Resume => row.state = SweepState::Open,
        SweepAction::Priority(priority) => row.priority = priority,
    }
    tx.update_sweep(&row).await
}

/// Some of a sweep's trials, and what is done to them.
#[derive(Clone, Debug)]
pub(crate) struct TrialsRequest {
    pub(crate) sweep: String,
    pub(crate) action: TrialAction,
    pub(crate) filter: Filter,
    /// Only trials in this state.
    pub(crate) state: Option<StateName>,
    /// Those from this position on.
    pub(crate) from: i64,
}

/// What was done to a page of trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrialsDone {
    pub(crate) changed: u64,
    /// Where the next page starts; none after the last.
    pub(crate) next: Option<i64>,
}

/// Cancels or retries the trials of one page.
pub(crate) async fn act_on_trials(
    request: &TrialsRequest,
    now: Timestamp,
    lease: Duration,
    tx: &mut dyn Transaction,
) -> Result<TrialsDone, StoreError> {
    let TrialsRequest { sweep, action, filter, state, from } = request;
    let mut row = known(sweep, tx).await?;
    if *from == 0 {
        if let Some(example) = row.spec.example() {
            filter.check(&example)?;
        }
        // A whole sweep that is cancelled adds no further trials either; one that is retried is open again.
        let whole = *filter == Filter::default() && state.is_none();
        refuse_to_miss_trials(&row, *action, whole)?;
        match action {
            TrialAction::Cancel if whole => row.state = SweepState::Cancelled,
            TrialAction::Retry if row.state == SweepState::Cancelled => row.state = SweepState::Open,
            _ => {}
        }
        tx.update_sweep(&row).await?;
    }
    let rows = tx.trial_rows(row.id, *from, PAGE_TRIALS).await?;
    let next = rows.last().filter(|_| rows.len() as u64 == PAGE_TRIALS).map(|last| last.position + 1);
    let meant = |trial: &&TrialRow| {
        filter.matches(&trial.point) && state.is_none_or(|state| trial.state.name() == state)
    };
    let mut trials: Vec<TrialRow> = rows.iter().filter(meant).cloned().collect();
    if *action == TrialAction::Retry {
        // A combination runs on its members: those without a result come first.
        let combinations =
            trials.iter().filter(|trial| row.spec.combines(&trial.point)).map(|trial| trial.id);
        let lost = tx.lost_members(&combinations.collect::<Vec<_>>()).await?;
        trials.extend(
            lost.into_iter().filter(|member| !rows.iter().any(|own| own.id == member.id && meant(&own))),
        );
    }
    let mut changes = Changes::default();
    for trial in &trials {
        let (event, what) = match action {
            TrialAction::Cancel => (Event::Cancel, "cancelled"),
            TrialAction::Retry => (Event::Retry { waits: row.spec.combines(&trial.point) }, "retried"),
        };
        let Decision::Move(to, effect) = apply(trial.state, &event, now, lease)? else { continue };
        let forgive = effect == Some(Effect::Forgive);
        changes.moves.insert(trial.id, Move { from: trial.state, to, forgive, reused: false });
        let token = if let State::Running { token, .. } = trial.state { Some(token) } else { None };
        let happening =
            Happening { at_ms: now.0, token, what: what.to_owned(), detail: "by a user".to_owned() };
        changes.happenings.push((trial.id, happening));
        if let (Some(Effect::End(..)), Some(token)) = (effect, token) {
            let Some(attempt) = tx.attempts(&[token]).await?.pop() else { continue };
            let ended = Progress { state: AttemptState::Cancelled, ended: now, ..attempt.progress.clone() };
            changes.progress.insert(token, (attempt.progress, ended));
        }
    }
    let changed = changes.moves.len() as u64;
    if !changes.is_empty() {
        tx.write(&changes).await?;
    }
    Ok(TrialsDone { changed, next })
}

/// Conditions cannot reach the trials of a sweep that are still to be added: what is to be cancelled would run, and with what is retried
/// the rest of a cancelled sweep would come to life.
fn refuse_to_miss_trials(row: &SweepRow, action: TrialAction, whole: bool) -> Result<(), StoreError> {
    let cancelled = row.state == SweepState::Cancelled;
    if whole || row.expanded >= row.planned || (action == TrialAction::Retry && !cancelled) {
        return Ok(());
    }
    let sweep = row.spec.name.clone();
    let advice = if cancelled {
        format!("it was cancelled meanwhile; `sortie resume {sweep}` stores the rest")
    } else {
        "say it again in a while".to_owned()
    };
    Err(StoreError::Incomplete { sweep, advice })
}

async fn known(name: &str, tx: &mut dyn Transaction) -> Result<SweepRow, StoreError> {
    // The store puts the names that there are into this error.
    tx.sweep(name)
        .await?
        .ok_or_else(|| StoreError::UnknownSweep { name: name.to_owned(), known: String::new() })
}
