//! Tokens of callers, and what users did.

use sortie_access::TokenDigest;
use sortie_core::access::Caller;
use sortie_core::job::Timestamp;

use super::tables::{Memory, MemoryTransaction, missing};
use crate::store::StoreError;
use crate::store::access::{AccessToken, AuditEntry, Deed};
use crate::store::backend::{Access, AccessReads};

#[tonic::async_trait]
impl Access for MemoryTransaction {
    async fn tokens(&mut self, identity: Option<TokenDigest>) -> Result<Vec<AccessToken>, StoreError> {
        Ok(seen(&self.tables.tokens, identity))
    }

    async fn insert_token(&mut self, token: &AccessToken) -> Result<(), StoreError> {
        self.tables.tokens.push(token.clone());
        Ok(())
    }

    async fn update_token(&mut self, token: &AccessToken) -> Result<(), StoreError> {
        let mut tokens = self.tables.tokens.iter_mut();
        let stored = tokens.find(|stored| stored.digest == token.digest).ok_or_else(|| missing("tokens"))?;
        stored.clone_from(token);
        Ok(())
    }

    async fn insert_deed(&mut self, caller: &Caller, deed: &Deed, now: Timestamp) -> Result<(), StoreError> {
        let Deed { action, sweep, detail } = deed.clone();
        let (number, caller) = (self.tables.audit.len() as i64 + 1, caller.clone());
        let entry = AuditEntry { number, at: now, caller, action: action.to_owned(), sweep, detail };
        self.tables.audit.push(entry);
        Ok(())
    }
}

#[tonic::async_trait]
impl AccessReads for Memory {
    async fn tokens(&self, identity: Option<TokenDigest>) -> Result<Vec<AccessToken>, StoreError> {
        Ok(seen(&self.tables.lock().await.tokens, identity))
    }

    async fn audit(&self, before: Option<i64>, count_max: u64) -> Result<Vec<AuditEntry>, StoreError> {
        let tables = self.tables.lock().await;
        let entries =
            tables.audit.iter().rev().filter(|entry| before.is_none_or(|before| entry.number < before));
        Ok(entries.take(usize::try_from(count_max).unwrap_or(usize::MAX)).cloned().collect())
    }
}

/// Those that a coordinator of an identity sees.
fn seen(tokens: &[AccessToken], identity: Option<TokenDigest>) -> Vec<AccessToken> {
    tokens.iter().filter(|token| token.identity.is_none() || token.identity == identity).cloned().collect()
}
