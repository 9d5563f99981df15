//! Tokens of callers, and what users did.

use sortie_access::TokenDigest;
use sortie_core::access::Caller;
use sortie_core::job::Timestamp;

use super::database::SqlBackend;
use super::engine::{Arg, Row};
use super::statements::Dialect;
use super::transaction::{SqlTransaction, expect};
use crate::store::StoreError;
use crate::store::access::{AccessToken, AuditEntry, Deed};
use crate::store::backend::{Access, AccessReads};

#[tonic::async_trait]
impl Access for SqlTransaction {
    async fn tokens(&mut self, identity: Option<TokenDigest>) -> Result<Vec<AccessToken>, StoreError> {
        // On SQLite the transaction has locked the file. On Postgres new rows must wait, too.
        if self.dialect == Dialect::Postgres {
            self.tx.execute(self.sql().lock_tokens, Vec::new()).await?;
        }
        self.tx.fetch(self.sql().tokens, vec![text(identity)]).await?.iter().map(token).collect()
    }

    async fn insert_token(&mut self, token: &AccessToken) -> Result<(), StoreError> {
        let AccessToken { digest, name, role, identity, created, expires, revoked } = token;
        let args = vec![
            digest.to_string().into(),
            name.as_str().into(),
            role.as_str().into(),
            created.0.into(),
            time(*expires),
            time(*revoked),
            text(*identity),
        ];
        let touched = self.tx.execute(self.sql().insert_token, args).await?;
        expect("insertion of a token", touched, 1)
    }

    async fn update_token(&mut self, token: &AccessToken) -> Result<(), StoreError> {
        let args = vec![token.digest.to_string().into(), time(token.expires), time(token.revoked)];
        let touched = self.tx.execute(self.sql().update_token, args).await?;
        expect("update of a token", touched, 1)
    }

    async fn insert_deed(&mut self, caller: &Caller, deed: &Deed, now: Timestamp) -> Result<(), StoreError> {
        let (name, role) = match caller {
            Caller::Anybody => (None, None),
            Caller::Holder { name, role } => (Some(name.as_str()), Some(role.as_str())),
        };
        let Deed { action, sweep, detail } = deed;
        let args = vec![
            now.0.into(),
            name.into(),
            role.into(),
            (*action).into(),
            sweep.as_deref().into(),
            detail.as_str().into(),
        ];
        let touched = self.tx.execute(self.sql().insert_deed, args).await?;
        expect("insertion of a deed", touched, 1)
    }
}

#[tonic::async_trait]
impl AccessReads for SqlBackend {
    async fn tokens(&self, identity: Option<TokenDigest>) -> Result<Vec<AccessToken>, StoreError> {
        self.fetch(self.sql().tokens, vec![text(identity)]).await?.iter().map(token).collect()
    }

    async fn audit(&self, before: Option<i64>, count_max: u64) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = self.fetch(self.sql().audit, vec![before.into(), count_max.into()]).await?;
        rows.iter().map(entry).collect()
    }
}

fn text(digest: Option<TokenDigest>) -> Arg {
    digest.map(|digest| digest.to_string()).into()
}

fn time(time: Option<Timestamp>) -> Arg {
    time.map(|time| time.0).into()
}

fn token(row: &Row) -> Result<AccessToken, StoreError> {
    Ok(AccessToken {
        digest: row.parsed("tokens", "digest")?,
        name: row.text("tokens", "name")?,
        role: row.parsed("tokens", "role")?,
        identity: row.maybe_parsed("tokens", "identity")?,
        created: Timestamp(row.int("tokens", "created_ms")?),
        expires: row.maybe_int("tokens", "expires_ms")?.map(Timestamp),
        revoked: row.maybe_int("tokens", "revoked_ms")?.map(Timestamp),
    })
}

fn entry(row: &Row) -> Result<AuditEntry, StoreError> {
    let caller = match (row.maybe_text("audit", "name")?, row.maybe_parsed("audit", "role")?) {
        (Some(name), Some(role)) => Caller::Holder { name, role },
        _ => Caller::Anybody,
    };
    Ok(AuditEntry {
        number: row.int("audit", "id")?,
        at: Timestamp(row.int("audit", "at_ms")?),
        caller,
        action: row.text("audit", "action")?,
        sweep: row.maybe_text("audit", "sweep")?,
        detail: row.text("audit", "detail")?,
    })
}
