//! Whom tokens let in: what the database says, as this coordinator last read it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::{Caller, Role};
use tokio::time::{Instant, MissedTickBehavior};

use crate::store::{Store, StoreError, TokenState};

/// How often the database is read. A token that another coordinator revoked counts no longer than about this.
const READ_INTERVAL: Duration = Duration::from_millis(500);

/// How long a reading of the database may take.
const READ_MAX: Duration = Duration::from_secs(5);
/// Readings that fail one after the other before it is said.
const FAILURES_SAID: u32 = 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Callers(RwLock<Arc<[Known]>>);

/// A token.
#[derive(Clone, Debug)]
struct Known {
    digest: TokenDigest,
    caller: Caller,
    state: TokenState,
    /// When it ends by itself.
    ends: Option<Instant>,
}

/// Why a token lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoCaller {
    /// There is none in the request.
    #[error("a token is needed")]
    Missing,
    /// It was never stored.
    #[error(
        "the coordinator does not know this token; bring a new access file from its machine (`sortie access show`)"
    )]
    Unknown,
    /// It counts no longer.
    #[error("the token {name:?} {}; bring a new access file", if *.state == TokenState::Revoked { "was revoked" } else { "has expired" })]
    Ended {
        /// Its name.
        name: String,
        /// Why.
        state: TokenState,
    },
}

impl Callers {
    /// Reads the database.
    pub(crate) async fn read(&self, store: &Store) -> Result<(), StoreError> {
        let callers = tokio::time::timeout(READ_MAX, store.callers()).await;
        let callers = callers.unwrap_or(Err(StoreError::NoAnswer(READ_MAX)))?;
        let now = Instant::now();
        let known = callers.into_iter().map(|(digest, caller, state, left)| Known {
            digest,
            caller,
            state,
            // What ends after years need not be judged before the next reading.
            ends: left.and_then(|left| now.checked_add(left)),
        });
        let known = known.collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Reads the database again and again, until the task is dropped.
    pub(crate) async fn follow(&self, store: &Store) {
        let mut ticks = tokio::time::interval(READ_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            ticks.tick().await;
            match self.read(store).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if failures == FAILURES_SAID {
                        tracing::warn!(%error, "cannot read the tokens: what is revoked elsewhere counts until it can");
                    }
                }
            }
        }
    }

    /// Who has a token.
    pub(crate) fn of(&self, digest: &TokenDigest) -> Result<Caller, NoCaller> {
        let known = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        // All are compared, so that the time says nothing about which one it is.
        let found = known.iter().filter(|known| known.digest == *digest);
        let found = found.fold(None, |_, found| Some(found)).ok_or(NoCaller::Unknown)?;
        let is_over = found.ends.is_some_and(|ends| ends <= Instant::now());
        let state =
            if found.state == TokenState::Valid && is_over { TokenState::Expired } else { found.state };
        match (state, &found.caller) {
            (TokenState::Valid, caller) => Ok(caller.clone()),
            (state, Caller::Holder { name, .. }) => Err(NoCaller::Ended { name: name.clone(), state }),
            (_, Caller::Anybody) => Err(NoCaller::Unknown),
        }
    }

    /// Of a coordinator's own tokens: says which of them count no longer.
    pub(crate) fn warn_of_ended(&self, own: &[(TokenDigest, Role)]) {
        for (digest, role) in own {
            if let Err(reason @ NoCaller::Ended { .. }) = self.of(digest) {
                tracing::warn!(%role, %reason, "this machine's identity has an old token: `sortie access import` stores the present one");
            }
        }
    }
}

#[cfg(test)]
impl Callers {
    /// Those of an identity, as they are at its first start.
    pub(crate) fn of_identity(identity: &sortie_access::Identity) -> Self {
        let known = identity.digests().into_iter().map(|(digest, role)| Known {
            digest,
            caller: Caller::Holder { name: role.to_string(), role },
            state: TokenState::Valid,
            ends: None,
        });
        Self(RwLock::new(known.collect()))
    }
}
