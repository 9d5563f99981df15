//! Commands about who may use the coordinator.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::Role;

use super::change::{Change, Commit, Time};
use crate::store::StoreError;
use crate::store::access::{Deed, NewToken};
use crate::store::admin;
use crate::store::backend::Transaction;

/// Stores a token, at a coordinator of an identity, as the others here.
#[derive(Debug)]
pub(crate) struct AddToken(pub(crate) NewToken, pub(crate) Option<TokenDigest>);

/// Stores a coordinator's own tokens, as far as they were never stored.
#[derive(Debug)]
pub(crate) struct KnowTokens(pub(crate) Vec<NewToken>, pub(crate) Option<TokenDigest>);

/// Ends the tokens of a name.
#[derive(Debug)]
pub(crate) struct RevokeToken {
    pub(crate) name: String,
    pub(crate) identity: Option<TokenDigest>,
}

/// Stores a token in the place of those of a name, which end after a while.
#[derive(Debug)]
pub(crate) struct RotateToken {
    pub(crate) name: String,
    pub(crate) digest: TokenDigest,
    pub(crate) overlap: Duration,
    pub(crate) identity: Option<TokenDigest>,
}

/// Notes what a user does that changes nothing.
#[derive(Debug)]
pub(crate) struct NoteDeed(pub(crate) Deed);

#[tonic::async_trait]
impl Change for AddToken {
    type Done = ();

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<(), StoreError> {
        admin::add_token(&self.0, self.1, time.now, tx).await
    }

    fn commit((): &()) -> Commit {
        Commit::Quiet
    }

    fn deed(&self) -> Option<Deed> {
        let NewToken { name, role, .. } = &self.0;
        Some(Deed::new("create-token", None, format!("{name}, {role}")))
    }
}

#[tonic::async_trait]
impl Change for KnowTokens {
    type Done = u64;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<u64, StoreError> {
        admin::know_tokens(&self.0, self.1, time.now, tx).await
    }

    fn commit(added: &u64) -> Commit {
        if *added > 0 { Commit::Quiet } else { Commit::Nothing }
    }
}

#[tonic::async_trait]
impl Change for RevokeToken {
    type Done = u64;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<u64, StoreError> {
        admin::revoke_token(&self.name, self.identity, time.now, tx).await
    }

    fn commit(_: &u64) -> Commit {
        Commit::Quiet
    }

    fn deed(&self) -> Option<Deed> {
        Some(Deed::new("revoke-token", None, self.name.clone()))
    }
}

#[tonic::async_trait]
impl Change for RotateToken {
    type Done = Role;

    async fn perform(&self, time: Time, tx: &mut dyn Transaction) -> Result<Role, StoreError> {
        let Self { name, digest, overlap, identity } = self;
        admin::rotate_token(name, digest, *overlap, *identity, time.now, tx).await
    }

    fn commit(_: &Role) -> Commit {
        Commit::Quiet
    }

    fn deed(&self) -> Option<Deed> {
        Some(Deed::new("rotate-token", None, self.name.clone()))
    }
}

#[tonic::async_trait]
impl Change for NoteDeed {
    type Done = ();

    async fn perform(&self, _: Time, _: &mut dyn Transaction) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit((): &()) -> Commit {
        Commit::Quiet
    }

    fn deed(&self) -> Option<Deed> {
        Some(self.0.clone())
    }
}
