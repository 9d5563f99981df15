//! Tokens of callers: stored, replaced, ended.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_core::access::{Role, token_name_fault};
use sortie_core::job::Timestamp;

use crate::store::StoreError;
use crate::store::access::{AccessToken, NewToken, TokenState};
use crate::store::backend::Transaction;

/// What a database has of tokens, as a coordinator of this identity sees it.
type Identity = Option<TokenDigest>;

/// Valid tokens of a database: a coordinator compares every request with all of them.
const TOKENS_MAX: usize = 1_000;

/// Stores a token. Repeated, it changes nothing.
pub(crate) async fn add_token(
    new: &NewToken,
    identity: Identity,
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<(), StoreError> {
    let NewToken { digest, name, role, lasts } = new;
    if let Some(fault) = token_name_fault(name) {
        return Err(StoreError::Token(fault));
    }
    if name.parse::<Role>().is_ok() {
        return Err(StoreError::Token(format!(
            "{name:?} is the name of a coordinator's own token; choose another one"
        )));
    }
    let tokens = tx.tokens(identity).await?;
    let is_valid = |token: &&AccessToken| token.state(now) == TokenState::Valid;
    if let Some(token) = tokens.iter().find(|token| token.digest == *digest) {
        let is_same = token.name == *name && token.role == *role && is_valid(&token);
        return if is_same {
            Ok(())
        } else {
            Err(StoreError::Token("this token was stored before".to_owned()))
        };
    }
    if tokens.iter().filter(is_valid).any(|token| token.name == *name) {
        return Err(StoreError::Token(format!(
            "there is a token {name:?} already; choose another name, or `sortie token rotate {name}`"
        )));
    }
    if tokens.iter().filter(is_valid).count() >= TOKENS_MAX {
        return Err(StoreError::Token(format!(
            "there are {TOKENS_MAX} valid tokens, which is the most; revoke one first"
        )));
    }
    tx.insert_token(&token(new, *lasts, now)).await
}

/// Stores those of these tokens that were never stored: a coordinator's own, whose names may be taken by those of another identity.
pub(crate) async fn know_tokens(
    new: &[NewToken],
    identity: Identity,
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<u64, StoreError> {
    let tokens = tx.tokens(identity).await?;
    let mut added = 0;
    for new in new.iter().filter(|new| !tokens.iter().any(|token| token.digest == new.digest)) {
        tx.insert_token(&AccessToken { identity, ..token(new, new.lasts, now) }).await?;
        added += 1;
    }
    Ok(added)
}

/// Ends the valid tokens of a name. Gives how many there were.
pub(crate) async fn revoke_token(
    name: &str,
    identity: Identity,
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<u64, StoreError> {
    let tokens = tx.tokens(identity).await?;
    let meant = valid(name, &tokens, now)?;
    let stays = |token: &&AccessToken| {
        token.role == Role::Operator && token.expires.is_none() && token.state(now) == TokenState::Valid
    };
    if meant.iter().any(stays) && !tokens.iter().filter(stays).any(|token| token.name != name) {
        return Err(StoreError::Token(format!(
            "{name:?} is the last operator's token that does not expire; create another one first"
        )));
    }
    for token in &meant {
        tx.update_token(&AccessToken { revoked: Some(now), ..(*token).clone() }).await?;
    }
    Ok(meant.len() as u64)
}

/// Stores a token in the place of the valid ones of its name, which end after a while. It lasts as long as the newest of them did. Repeated,
/// it changes nothing. Gives its role.
pub(crate) async fn rotate_token(
    name: &str,
    digest: &TokenDigest,
    overlap: Duration,
    identity: Identity,
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<Role, StoreError> {
    let tokens = tx.tokens(identity).await?;
    if let Some(token) = tokens.iter().find(|token| token.digest == *digest && token.name == name) {
        return Ok(token.role);
    }
    let meant = valid(name, &tokens, now)?;
    let Some(newest) = meant.iter().max_by_key(|token| token.created) else {
        return Err(StoreError::Token(format!("there is no valid token {name:?}")));
    };
    let lasts = newest.expires.map(|expires| expires.since(newest.created));
    let new = NewToken { digest: *digest, name: name.to_owned(), role: newest.role, lasts };
    let new = AccessToken { identity: newest.identity, ..token(&new, lasts, now) };
    tx.insert_token(&new).await?;
    for token in &meant {
        let ends = now.plus(overlap);
        let expires = Some(token.expires.map_or(ends, |expires| expires.min(ends)));
        tx.update_token(&AccessToken { expires, ..(*token).clone() }).await?;
    }
    Ok(newest.role)
}

fn token(new: &NewToken, lasts: Option<Duration>, now: Timestamp) -> AccessToken {
    AccessToken {
        digest: new.digest,
        name: new.name.clone(),
        role: new.role,
        identity: None,
        created: now,
        expires: lasts.map(|lasts| now.plus(lasts)),
        revoked: None,
    }
}

/// The valid tokens of a name, at least one.
fn valid<'a>(
    name: &str,
    tokens: &'a [AccessToken],
    now: Timestamp,
) -> Result<Vec<&'a AccessToken>, StoreError> {
    let valid = || tokens.iter().filter(|token| token.state(now) == TokenState::Valid);
    let meant: Vec<&AccessToken> = valid().filter(|token| token.name == name).collect();
    if !meant.is_empty() {
        return Ok(meant);
    }
    let mut known: Vec<&str> = valid().map(|token| token.name.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(StoreError::UnknownAccessToken { name: name.to_owned(), known })
}
