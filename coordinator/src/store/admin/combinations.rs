//! Combinations that wait for their members: which of them may start, and which never will.

use std::time::Duration;

use sortie_core::combine::Readiness;
use sortie_core::job::{Decision, Event, State, Timestamp, apply};

use crate::store::StoreError;
use crate::store::backend::{Changes, Move, Transaction, WaitingCombination};
use crate::store::types::TrialEvent;

/// Combinations that one transaction looks at.
const SETTLED_MAX: u64 = 500;

/// Lets combinations start whose members all have a result. Ends a combination as failed if one of its members ended without a result.
/// Those of a cancelled sweep are left alone: they are cancelled with it, a page after their members, and come back with it.
/// Returns how many changed.
///
/// It reads the members' states, not their events. So no event is missed and none counts twice, however often this runs.
pub(crate) async fn settle(
    now: Timestamp,
    lease: Duration,
    tx: &mut dyn Transaction,
) -> Result<u64, StoreError> {
    let mut changes = Changes::default();
    for WaitingCombination { id, members, succeeded, lost, loser } in tx.combinations(SETTLED_MAX).await? {
        let readiness = Readiness::of(members, succeeded, lost);
        let Decision::Move(to, _) = apply(State::Blocked, &Event::Members(readiness), now, lease)? else {
            continue;
        };
        changes.moves.insert(id, Move { from: State::Blocked, to, forgive: false });
        let (what, detail) = match readiness {
            Readiness::Impossible => {
                ("failed", format!("its member {loser}: `sortie retry` takes both up again"))
            }
            Readiness::Ready | Readiness::Waits => ("ready", format!("all {members} members have a result")),
        };
        changes.events.push((id, TrialEvent { at_ms: now.0, token: None, what: what.to_owned(), detail }));
    }
    if !changes.is_empty() {
        tx.write(&changes).await?;
    }
    Ok(changes.moves.len() as u64)
}
