//! Who may use the coordinator, and who did what.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_coordinator::store::{
    Deed, NewToken, Settings, Store, StoreError, SubmitOptions, SweepAction, TokenState, TrialAction,
};
use sortie_core::access::{Caller, Role};
use sortie_core::filter::Filter;

use crate::fixture::*;

fn token(text: &str, name: &str, role: Role) -> NewToken {
    NewToken { digest: TokenDigest::of(text), name: name.to_owned(), role, lasts: None }
}

/// Name, whether it is valid, and when it expires, in seconds from now.
async fn listed(store: &Store) -> Vec<(String, TokenState, Option<i64>)> {
    let (tokens, now) = store.tokens().await.unwrap();
    let row = |token: &sortie_coordinator::store::AccessToken| {
        let left = token.expires.map(|expires| (expires.0 - now.0).div_euclid(1_000));
        (token.name.clone(), token.state(now), left)
    };
    tokens.iter().map(row).collect()
}

fn said(refused: Result<impl std::fmt::Debug, StoreError>) -> String {
    refused.unwrap_err().to_string()
}

pub async fn tokens_are_stored_once_and_end_for_good(f: Fixture) {
    let store = &f.store;
    let operator = token("a", "operator", Role::Operator);
    assert_eq!(store.know_tokens(vec![operator.clone()]).await.unwrap(), 1);
    assert_eq!(store.know_tokens(vec![operator.clone()]).await.unwrap(), 0);
    let short = NewToken { lasts: Some(Duration::from_secs(60)), ..token("b", "ci", Role::Worker) };
    f.pass(1);
    for _ in 0..2 {
        store.add_token(short.clone()).await.unwrap();
    }
    let refused = said(store.add_token(token("c", "ci", Role::Reader)).await);
    assert_eq!(refused, "there is a token \"ci\" already; choose another name, or `sortie token rotate ci`");
    for bad in ["", "two words", "ä", &"x".repeat(65)] {
        assert!(
            said(store.add_token(token("d", bad, Role::Reader)).await).contains("is no name of a token"),
            "{bad}"
        );
    }
    let refused = said(store.revoke_token("operator").await);
    assert!(refused.contains("the last operator's token that does not expire"), "{refused}");
    assert!(matches!(
        store.revoke_token("nobody").await,
        Err(StoreError::UnknownAccessToken { known, .. }) if known == "ci, operator"
    ));
    use TokenState::{Expired, Revoked, Valid};
    assert_eq!(
        listed(store).await,
        [("operator".to_owned(), Valid, None), ("ci".to_owned(), Valid, Some(60))]
    );
    f.pass(60);
    assert_eq!(listed(store).await[1], ("ci".to_owned(), Expired, Some(0)));
    // Its name is free again, and itself is not.
    assert!(said(store.add_token(short).await).contains("stored before"));
    f.pass(1);
    store.add_token(token("e", "ci", Role::Operator)).await.unwrap();
    assert_eq!(store.revoke_token("operator").await.unwrap(), 1);
    assert_eq!(store.know_tokens(vec![operator]).await.unwrap(), 0);
    let states: Vec<TokenState> = listed(store).await.into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(states, [Revoked, Expired, Valid]);
}

pub async fn a_rotated_token_ends_after_the_overlap(f: Fixture) {
    let store = &f.store;
    store.know_tokens(vec![token("a", "worker", Role::Worker)]).await.unwrap();
    f.pass(1);
    let (second, overlap) = (TokenDigest::of("b"), Duration::from_secs(100));
    for _ in 0..2 {
        assert_eq!(store.rotate_token("worker", second, overlap).await.unwrap(), Role::Worker);
    }
    use TokenState::{Expired, Valid};
    let worker = |state, left| ("worker".to_owned(), state, left);
    assert_eq!(listed(store).await, [worker(Valid, Some(100)), worker(Valid, None)]);
    // A second rotation lets nothing live longer.
    f.pass(50);
    store.rotate_token("worker", TokenDigest::of("c"), overlap).await.unwrap();
    assert_eq!(listed(store).await, [worker(Valid, Some(50)), worker(Valid, Some(100)), worker(Valid, None)]);
    f.pass(50);
    assert_eq!(listed(store).await[0], worker(Expired, Some(0)));
    assert_eq!(store.revoke_token("worker").await.unwrap(), 2);
    assert!(store.rotate_token("worker", TokenDigest::of("d"), overlap).await.is_err());
    // One that expires has a successor that lasts as long.
    let short = NewToken { lasts: Some(Duration::from_secs(30)), ..token("e", "ci", Role::Reader) };
    f.pass(1);
    store.add_token(short).await.unwrap();
    f.pass(10);
    store.rotate_token("ci", TokenDigest::of("f"), overlap).await.unwrap();
    let ci: Vec<_> = listed(store).await.split_off(3);
    assert_eq!(ci, [("ci".to_owned(), Valid, Some(20)), ("ci".to_owned(), Valid, Some(30))]);
}

pub async fn a_coordinators_own_tokens_count_for_its_identity_only(f: Fixture) {
    let as_identity = |name: &str| Settings { identity: Some(TokenDigest::of(name)), ..SETTINGS };
    let f = f.restart_with(as_identity("first")).await;
    f.store.know_tokens(vec![token("a", "operator", Role::Operator)]).await.unwrap();
    f.pass(1);
    f.store.add_token(token("b", "ann", Role::Operator)).await.unwrap();
    let reserved = said(f.store.add_token(token("c", "worker", Role::Worker)).await);
    assert!(reserved.contains("the name of a coordinator's own token"), "{reserved}");
    f.store.rotate_token("operator", TokenDigest::of("d"), Duration::from_secs(9)).await.unwrap();
    let names = async |f: &Fixture| -> Vec<String> {
        let tokens = f.store.tokens().await.unwrap().0;
        tokens.into_iter().map(|token| token.name).collect()
    };
    assert_eq!(names(&f).await.len(), 3);
    // Whoever has the old identity is nobody at a coordinator with a new one; what users made stays.
    let f = f.restart_with(as_identity("second")).await;
    assert_eq!(names(&f).await, ["ann"]);
    f.pass(1);
    f.store.know_tokens(vec![token("e", "operator", Role::Operator)]).await.unwrap();
    assert_eq!(names(&f).await, ["ann", "operator"]);
    assert_eq!(f.store.revoke_token("operator").await.unwrap(), 1);
    let f = f.restart_with(as_identity("first")).await;
    assert_eq!(f.store.revoke_token("operator").await.unwrap(), 2);
}

pub async fn what_users_do_stands_in_the_audit_with_who_did_it(f: Fixture) {
    let ann = f.store.acting_for(Caller::Holder { name: "ann".to_owned(), role: Role::Operator });
    let anybody = f.store.acting_for(Caller::Anybody);
    submit(&ann, SWEEP, SubmitOptions::default()).await.unwrap();
    anybody.act("first", SweepAction::Pause).await.unwrap();
    ann.act("first", SweepAction::Rename("second".to_owned())).await.unwrap();
    ann.act_on_trials("second", TrialAction::Cancel, &Filter::parse("dropout=0").unwrap(), None)
        .await
        .unwrap();
    ann.note_deed(Deed { action: "backup", sweep: None, detail: String::new() }).await.unwrap();
    // What changes nothing, is refused, or is the coordinator's own leaves no trace.
    ann.delete("second", true).await.unwrap();
    ann.act("nothing", SweepAction::Pause).await.unwrap_err();
    f.store.act("second", SweepAction::Archive).await.unwrap();
    ann.act_on_trials("second", TrialAction::Cancel, &Filter::default(), None).await.unwrap();
    ann.delete("second", false).await.unwrap();
    let entries = f.store.audit(None, 100).await.unwrap();
    let told: Vec<_> = entries
        .iter()
        .rev()
        .map(|entry| {
            let who = if entry.caller == Caller::Anybody { "-" } else { "ann" };
            format!("{who} {} {:?} {}", entry.action, entry.sweep.as_deref().unwrap_or("-"), entry.detail)
        })
        .collect();
    assert_eq!(
        told,
        [
            "ann submit \"first\" 4 trials, 0 combinations",
            "- pause \"first\" ",
            "ann rename \"first\" to second",
            "ann cancel \"second\" dropout=0",
            "ann backup \"-\" ",
            "ann cancel \"second\" ",
            "ann delete \"second\" ",
        ]
    );
    let page = f.store.audit(Some(entries[2].number), 2).await.unwrap();
    assert_eq!(page, entries[3..5]);
}
