//! Whom tokens let in: what the database says, as this coordinator last read it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::{Caller, Role};
use tokio::time::MissedTickBehavior;

use crate::store::{Store, StoreError, TokenState};

/// How often the database is read. A token that another coordinator revoked counts no longer than about this.
const READ_INTERVAL: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Callers(RwLock<Arc<[Known]>>);

/// A token.
type Known = (TokenDigest, Caller, TokenState);

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
        let known = store.callers().await?.into();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Reads the database again and again, until the task is dropped.
    pub(crate) async fn follow(&self, store: &Store) {
        let mut ticks = tokio::time::interval(READ_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // While the database is away nothing can be done with a token either.
            if let Err(error) = self.read(store).await {
                tracing::debug!(%error, "cannot read the tokens");
            }
        }
    }

    /// Who has a token.
    pub(crate) fn of(&self, digest: &TokenDigest) -> Result<Caller, NoCaller> {
        let known = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        // All are compared, so that the time says nothing about which one it is.
        let found = known.iter().filter(|(known, ..)| known == digest);
        match found.fold(None, |_, found| Some(found)) {
            None => Err(NoCaller::Unknown),
            Some((_, caller, TokenState::Valid)) => Ok(caller.clone()),
            Some((_, caller, state)) => {
                let name =
                    if let Caller::Holder { name, .. } = caller { name.clone() } else { String::new() };
                Err(NoCaller::Ended { name, state: *state })
            }
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
        let known = identity.digests().into_iter().map(|(digest, role)| {
            (digest, Caller::Holder { name: role.to_string(), role }, TokenState::Valid)
        });
        Self(RwLock::new(known.collect()))
    }
}
