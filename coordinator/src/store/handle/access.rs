//! Who may use the coordinator, and who did what.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::{Caller, Role};
use sortie_core::job::Timestamp;

use super::store::Store;
use crate::store::StoreError;
use crate::store::access::{AccessToken, AuditEntry, Deed, NewToken, TokenState};
use crate::store::writer::{AddToken, Command, KnowTokens, NoteDeed, RevokeToken, RotateToken};

impl Store {
    /// The same store for a caller: what is done by it stands in the audit.
    pub fn acting_for(&self, caller: Caller) -> Self {
        let mut store = self.clone();
        store.caller = Some(caller);
        store
    }

    /// The tokens that users made and those of this coordinator, the oldest first, and the time by which they end.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn tokens(&self) -> Result<(Vec<AccessToken>, Timestamp), StoreError> {
        let tokens = self.backend.tokens(self.settings.identity).await?;
        Ok((tokens, self.backend.now().await?))
    }

    /// Whom each token lets in, whether it counts, and for how much longer if it ends by itself.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) async fn callers(
        &self,
    ) -> Result<Vec<(TokenDigest, Caller, TokenState, Option<Duration>)>, StoreError> {
        let tokens = self.backend.tokens(self.settings.identity).await?;
        // Where none ends by itself, nobody has to ask what time it is.
        let ends = tokens.iter().any(|token| token.expires.is_some());
        let now = if ends { self.backend.now().await? } else { Timestamp(0) };
        let caller = |token: AccessToken| {
            let (state, left) = (token.state(now), token.expires.map(|expires| expires.since(now)));
            (token.digest, Caller::Holder { name: token.name, role: token.role }, state, left)
        };
        Ok(tokens.into_iter().map(caller).collect())
    }

    /// Stores a token. Repeated, it changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Token`]: the name is none or taken, or there are too many.
    #[tracing::instrument(level = "debug", skip_all, fields(name = %token.name))]
    pub async fn add_token(&self, token: NewToken) -> Result<(), StoreError> {
        let identity = self.settings.identity;
        self.command(|reply| Command::AddToken(AddToken(token, identity), reply)).await
    }

    /// Stores those of these tokens that were never stored. Gives how many.
    ///
    /// # Errors
    /// [`StoreError::Token`]: there are too many.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn know_tokens(&self, tokens: Vec<NewToken>) -> Result<u64, StoreError> {
        let identity = self.settings.identity;
        self.command(|reply| Command::KnowTokens(KnowTokens(tokens, identity), reply)).await
    }

    /// Ends the tokens of a name. Gives how many there were.
    ///
    /// # Errors
    /// [`StoreError::UnknownAccessToken`]; [`StoreError::Token`] for the last one that may do this.
    #[tracing::instrument(level = "debug", skip_all, fields(%name))]
    pub async fn revoke_token(&self, name: &str) -> Result<u64, StoreError> {
        let identity = self.settings.identity;
        let name = name.to_owned();
        self.command(|reply| Command::RevokeToken(RevokeToken { name, identity }, reply)).await
    }

    /// Stores a token in the place of those of a name, which end after `overlap`. Gives its role. Repeated, it changes nothing.
    ///
    /// # Errors
    /// [`StoreError::UnknownAccessToken`].
    #[tracing::instrument(level = "debug", skip_all, fields(%name))]
    pub async fn rotate_token(
        &self,
        name: &str,
        digest: TokenDigest,
        overlap: Duration,
    ) -> Result<Role, StoreError> {
        let identity = self.settings.identity;
        let rotate = RotateToken { name: name.to_owned(), digest, overlap, identity };
        self.command(|reply| Command::RotateToken(rotate, reply)).await
    }

    /// Notes what a user does that changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all, fields(action = deed.action))]
    pub async fn note_deed(&self, deed: Deed) -> Result<(), StoreError> {
        self.command(|reply| Command::NoteDeed(NoteDeed(deed), reply)).await
    }

    /// What users did, the newest first: at most `count_max` entries with numbers below `before` if it is one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn audit(&self, before: Option<i64>, count_max: u64) -> Result<Vec<AuditEntry>, StoreError> {
        self.backend.audit(before, count_max).await
    }
}
