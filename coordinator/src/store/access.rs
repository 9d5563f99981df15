//! What callers give to the store and get from it about who may use the coordinator, and who did what.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::{Caller, Role};
use sortie_core::job::Timestamp;

/// A token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// Of its text.
    pub digest: TokenDigest,
    /// By which people know it. A name has several tokens while it is being rotated.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Of the CA of the identity that made it for itself; none for one that a user made.
    pub identity: Option<TokenDigest>,
    /// When it was stored.
    pub created: Timestamp,
    /// When it ends; none if it is valid until it is revoked.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

impl AccessToken {
    /// Whether it counts.
    pub fn state(&self, now: Timestamp) -> TokenState {
        match (self.revoked, self.expires) {
            (Some(_), _) => TokenState::Revoked,
            (None, Some(expires)) if expires <= now => TokenState::Expired,
            (None, _) => TokenState::Valid,
        }
    }
}

/// Whether a token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It does.
    Valid,
    /// Its time is over.
    Expired,
    /// A user ended it.
    Revoked,
}
sortie_core::named!(TokenState, "state of a token", { Valid => "valid", Expired => "expired", Revoked => "revoked" });

/// A token to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Of its text.
    pub digest: TokenDigest,
    /// By which people know it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// How long it is valid; none: until it is revoked.
    pub lasts: Option<Duration>,
}

/// Characters of a deed that are kept: a condition may be longer than anybody reads.
const DETAIL_CHARS_MAX: usize = 500;

/// What a user does, as the audit shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// A word such as "cancel".
    pub action: &'static str,
    /// To which sweep.
    pub sweep: Option<String>,
    /// Further words, perhaps none.
    pub detail: String,
}

impl Deed {
    pub(crate) fn new(action: &'static str, sweep: Option<&str>, detail: String) -> Self {
        let end = detail.char_indices().nth(DETAIL_CHARS_MAX).map_or(detail.len(), |(end, _)| end);
        Self { action, sweep: sweep.map(str::to_owned), detail: detail[..end].to_owned() }
    }
}

/// What somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Later ones have greater numbers.
    pub number: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub caller: Caller,
    /// A word such as "cancel".
    pub action: String,
    /// To which sweep.
    pub sweep: Option<String>,
    /// Further words, perhaps none.
    pub detail: String,
}
