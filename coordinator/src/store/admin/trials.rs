//! What users do with what is stored: pause, resume, cancel, retry, a priority, another name, archive. One transaction each, or one for each page of trials.

use std::collections::BTreeSet;
use std::time::Duration;

use sortie_core::filter::Filter;
use sortie_core::job::{Decision, Effect, Event, Finished, State, StateName, Timestamp, apply};
use sortie_core::keys::{SweepKey, TrialKey};
use sortie_core::trial::SpecHash;

use crate::store::StoreError;
use crate::store::backend::{
    AttemptState, Changes, Move, Progress, Release, StoredSweepState, SweepRow, Transaction, TrialRow,
};
use crate::store::types::{SweepAction, TrialAction, TrialEvent};

/// Trials of one page of a user's action.
const PAGE_TRIALS: u64 = 1_000;

/// Changes a sweep. Repeated, it changes nothing.
pub(crate) async fn act(
    name: &str,
    action: &SweepAction,
    tx: &mut dyn Transaction,
) -> Result<(), StoreError> {
    let mut row = stored_sweep(name, tx).await?;
    match action {
        SweepAction::Pause | SweepAction::Resume | SweepAction::Priority(_) if row.archived => {
            return Err(StoreError::Archived(name.to_owned()));
        }
        SweepAction::Pause if row.state == StoredSweepState::Cancelled => {
            return Err(StoreError::Cancelled(name.to_owned()));
        }
        SweepAction::Pause => row.state = StoredSweepState::Paused,
        SweepAction::Resume => row.state = StoredSweepState::Open,
        SweepAction::Priority(priority) => row.priority = *priority,
        SweepAction::Rename(new) => {
            if new != name && tx.sweep(new).await?.is_some() {
                return Err(StoreError::NameTaken(new.clone()));
            }
            row.spec = row.spec.renamed(new)?;
        }
        SweepAction::Archive => row.archived = true,
        SweepAction::Unarchive => row.archived = false,
    }
    tx.update_sweep(&row).await
}

/// Some of a sweep's trials, and what is done to them.
#[derive(Clone, Debug)]
pub(crate) struct TrialsRequest {
    pub(crate) sweep: String,
    pub(crate) action: TrialAction,
    pub(crate) which: WhichTrials,
}

/// The trials that a user means.
#[derive(Clone, Debug)]
pub(crate) enum WhichTrials {
    /// Those of a page.
    Page {
        filter: Filter,
        /// Only trials in this state.
        state: Option<StateName>,
        /// Those from this position on.
        from: i64,
    },
    /// Those with these ids, as many as a page has at most.
    Named(Vec<SpecHash>),
}

/// What was done to a page of trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrialsDone {
    pub(crate) changed: u64,
    /// Where the next page starts; none after the last.
    pub(crate) next: Option<i64>,
}

/// Cancels, retries or resumes the trials of one page, or those that are named.
pub(crate) async fn act_on_trials(
    request: &TrialsRequest,
    now: Timestamp,
    lease: Duration,
    tx: &mut dyn Transaction,
) -> Result<TrialsDone, StoreError> {
    let TrialsRequest { sweep, action, which } = request;
    let mut row = stored_sweep(sweep, tx).await?;
    if !matches!(which, WhichTrials::Page { from: 1.., .. }) {
        begin(&mut row, *action, which, now, tx).await?;
    }
    let (mut trials, next) = trials_of(row.id, which, tx).await?;
    if *action == TrialAction::Resume && next.is_none() && row.state == StoredSweepState::Cancelled {
        // Last, so that a resumption that was cut off can be repeated.
        row.state = StoredSweepState::Open;
        tx.update_sweep(&row).await?;
    }
    if *action == TrialAction::Retry {
        // A combination runs on its members: those without a result come first.
        let combinations =
            trials.iter().filter(|trial| row.spec.combines(&trial.point)).map(|trial| trial.id);
        let lost = tx.lost_members(&combinations.collect::<Vec<_>>()).await?;
        let meant: BTreeSet<TrialKey> = trials.iter().map(|trial| trial.id).collect();
        trials.extend(lost.into_iter().filter(|member| !meant.contains(&member.id)));
    }
    let mut changes = Changes::default();
    for trial in &trials {
        let (event, what) = match action {
            TrialAction::Cancel => (Event::Cancel, "cancelled"),
            TrialAction::Resume if trial.state != State::Finished(Finished::Cancelled) => continue,
            TrialAction::Retry | TrialAction::Resume => {
                (Event::Retry { combination: row.spec.combines(&trial.point) }, "retried")
            }
        };
        let Decision::Move(to, effect) = apply(trial.state, &event, now, lease)? else { continue };
        let forgive = effect == Some(Effect::ResetFailures);
        changes.moves.insert(trial.id, Move { from: trial.state, to, forgive });
        let token = if let State::Running { token, .. } = trial.state { Some(token) } else { None };
        let event = TrialEvent { at_ms: now.0, token, what: what.to_owned(), detail: "by a user".to_owned() };
        changes.events.push((trial.id, event));
        if let (Some(Effect::End(..)), Some(token)) = (effect, token) {
            let Some(attempt) = tx.attempts(&[token]).await?.pop() else { continue };
            let ended = Progress {
                state: AttemptState::Cancelled,
                ended: Some(now),
                preparation: None,
                ..attempt.progress.clone()
            };
            changes.progress.insert(token, (attempt.progress, ended));
        }
    }
    let changed = changes.moves.len() as u64;
    if !changes.is_empty() {
        tx.write(&changes).await?;
    }
    Ok(TrialsDone { changed, next })
}

/// Checks the request, and does what concerns the sweep as a whole.
async fn begin(
    row: &mut SweepRow,
    action: TrialAction,
    which: &WhichTrials,
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<(), StoreError> {
    let whole = match which {
        WhichTrials::Named(_) => false,
        WhichTrials::Page { filter, state, .. } => {
            if let Some(example) = row.spec.example() {
                filter.check(&example)?;
            }
            *filter == Filter::default() && state.is_none()
        }
    };
    if row.archived && action != TrialAction::Cancel {
        return Err(StoreError::Archived(row.spec.name.clone()));
    }
    refuse_to_miss_trials(row, action, which, whole)?;
    match action {
        // A whole sweep that is cancelled adds no further trials either; one that is retried is open again.
        TrialAction::Cancel if whole => row.state = StoredSweepState::Cancelled,
        TrialAction::Retry if row.state == StoredSweepState::Cancelled => row.state = StoredSweepState::Open,
        _ => {}
    }
    tx.update_sweep(row).await?;
    row.revision += 1;
    if action != TrialAction::Cancel {
        // The user has mended something, perhaps on a machine.
        for kind in row.spec.kinds() {
            tx.release(&Release::Kind(kind), now).await?;
        }
    }
    Ok(())
}

/// The trials that are meant, and where the next page starts.
async fn trials_of(
    sweep: SweepKey,
    which: &WhichTrials,
    tx: &mut dyn Transaction,
) -> Result<(Vec<TrialRow>, Option<i64>), StoreError> {
    let (filter, state, from) = match which {
        WhichTrials::Named(ids) => return Ok((tx.trials_named(sweep, ids).await?, None)),
        WhichTrials::Page { filter, state, from } => (filter, state, *from),
    };
    let mut rows = tx.trial_rows(sweep, from, PAGE_TRIALS).await?;
    let next = rows.last().filter(|_| rows.len() as u64 == PAGE_TRIALS).map(|last| last.position + 1);
    rows.retain(|trial| {
        filter.matches(&trial.point) && state.is_none_or(|state| trial.state.name() == state)
    });
    Ok((rows, next))
}

/// Conditions cannot reach the trials of a sweep that are still to be added: what is to be cancelled would run, and with what is retried
/// the rest of a cancelled sweep would come to life. Trials that are named are stored.
fn refuse_to_miss_trials(
    row: &SweepRow,
    action: TrialAction,
    which: &WhichTrials,
    whole: bool,
) -> Result<(), StoreError> {
    let cancelled = row.state == StoredSweepState::Cancelled;
    let named = matches!(which, WhichTrials::Named(_));
    let misses_none = match action {
        TrialAction::Cancel => named,
        TrialAction::Retry => !cancelled,
        TrialAction::Resume => true,
    };
    if whole || row.expanded >= row.planned || misses_none {
        return Ok(());
    }
    let sweep = row.spec.name.clone();
    let advice = if cancelled {
        format!("it was cancelled meanwhile; `sortie resume {sweep}` stores the rest")
    } else {
        "repeat it in a while".to_owned()
    };
    Err(StoreError::Incomplete { sweep, advice })
}

pub(super) async fn stored_sweep(name: &str, tx: &mut dyn Transaction) -> Result<SweepRow, StoreError> {
    // The store puts the names that there are into this error.
    tx.sweep(name)
        .await?
        .ok_or_else(|| StoreError::UnknownSweep { name: name.to_owned(), known: String::new() })
}
