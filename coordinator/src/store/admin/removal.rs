//! Deleting: a sweep is marked at once, and then removed a few trials at a time.

use sortie_core::keys::SweepKey;

use super::trials::stored_sweep;
use crate::store::StoreError;
use crate::store::backend::{ReusingSweep, StoredSweepState, Transaction};

/// Sweeps that a refusal names.
const USERS_SHOWN: usize = 5;

/// Marks a sweep as deleted, or only looks whether that may be. Nobody finds it or its results from then on. Its attempts are stale.
pub(crate) async fn delete(name: &str, only_ask: bool, tx: &mut dyn Transaction) -> Result<(), StoreError> {
    if !only_ask {
        // Another coordinator must not take over a result between the look and the mark.
        tx.lock_trials().await?;
    }
    let mut row = stored_sweep(name, tx).await?;
    let running = tx.running(row.id).await?;
    if running > 0 {
        return Err(StoreError::TrialsRun { sweep: name.to_owned(), running });
    }
    let users = tx.reused_by(row.id).await?;
    if !users.is_empty() {
        let more = users.len().saturating_sub(USERS_SHOWN);
        let more = (more > 0).then(|| format!("{more} more sweeps"));
        let users = users.iter().take(USERS_SHOWN).map(shown).chain(more).collect::<Vec<_>>().join(", ");
        return Err(StoreError::Reused { sweep: name.to_owned(), users });
    }
    if only_ask {
        return Ok(());
    }
    row.state = StoredSweepState::Deleted;
    tx.update_sweep(&row).await
}

fn shown(user: &ReusingSweep) -> String {
    let ReusingSweep { name, trials, members } = user;
    let results =
        if *trials == 1 { "the result of 1 trial" } else { &format!("the results of {trials} trials") };
    let combined = if *members == 0 { String::new() } else { format!(", {members} of them in combinations") };
    format!("sweep {name:?} reuses {results}{combined}")
}

/// Removes some trials of a sweep that is deleted, or the sweep where none is left. Gives which sweep; none if there is none.
pub(crate) async fn remove(
    trials_max: u64,
    tx: &mut dyn Transaction,
) -> Result<Option<SweepKey>, StoreError> {
    let Some(sweep) = tx.deleted_sweep().await? else { return Ok(None) };
    if tx.remove_trials(sweep, trials_max).await? == 0 {
        tx.remove_sweep(sweep).await?;
    }
    Ok(Some(sweep))
}
