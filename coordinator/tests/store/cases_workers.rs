//! Whose request it is: by its secret, a worker is the only one that speaks for itself and for its attempts.

use std::time::Duration;

use sortie_access::TokenDigest;
use sortie_coordinator::store::{Claim, StoreError, Worker};
use sortie_core::job::{Outcome, StateName};
use sortie_core::lease::{AttemptHeartbeat, Completion};

use crate::fixture::*;

pub async fn an_attempt_takes_reports_heartbeats_and_its_end_from_its_own_worker_only(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    let token = lease.token;
    let other = TokenDigest::of("other");
    f.store.register(&Worker { secret: other, ..worker("w2") }).await.unwrap();
    let completion = Completion { token, batch: None, outcome: Outcome::Succeeded };
    f.pass(9);
    for refused in [
        f.store.report(other, token, batch(1, vec![evaluation("sketch", 0, 9)])).await,
        f.store.complete(other, completion.clone()).await,
        f.store.heartbeat(other, "w2", vec![AttemptHeartbeat::at(token, 3)]).await.map(drop),
        f.store.heartbeat(other, "w1", vec![AttemptHeartbeat::at(token, 3)]).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::NotYours(of)) if of == token), "{refused:?}");
    }
    // None of it was a sign of life.
    f.pass(1);
    assert_eq!(f.store.reap().await.unwrap(), 1);
    f.store.report(secret(), token, batch(1, vec![evaluation("sketch", 0, 2)])).await.unwrap();
    f.store.complete(secret(), completion.clone()).await.unwrap();
    // Its end is its own too, when it is repeated.
    assert!(matches!(f.store.complete(other, completion).await, Err(StoreError::NotYours(_))));
    let record = f.record(0).await;
    assert_eq!((record.state, record.validation), (StateName::Succeeded, vec![evaluation("sketch", 0, 2)]));
}

pub async fn nobody_else_speaks_for_a_worker(f: Fixture) {
    f.submit(SWEEP).await;
    let other = TokenDigest::of("other");
    let is_other =
        |refused: &StoreError| matches!(refused, StoreError::OtherWorker(worker) if worker == "w1");
    let refused = f.store.register(&Worker { secret: other, ..worker("w1") }).await.unwrap_err();
    assert!(is_other(&refused), "{refused}");
    let claimed = f.store.claim(Claim { secret: other, ..claim("w1", 4) }, Duration::ZERO).await;
    assert!(is_other(&claimed.unwrap_err()));
    assert_eq!(f.count(StateName::Queued).await, 4);
    let before = f.store.workers(true).await.unwrap().remove(0).seen;
    f.pass(5);
    // Neither is it seen by this, nor gone.
    f.store.heartbeat(other, "w1", Vec::new()).await.unwrap();
    f.store.leave(other, "w1").await.unwrap();
    let line = f.store.workers(true).await.unwrap().remove(0);
    assert!(!line.left && line.seen == before, "{line:?}");
    // The worker itself may say all of it again.
    f.store.register(&worker("w1")).await.unwrap();
    assert_eq!(f.claim(4).await.len(), 4);
    f.store.leave(secret(), "w1").await.unwrap();
    assert!(f.store.workers(true).await.unwrap().remove(0).left);
}
