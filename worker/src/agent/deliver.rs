//! Saying something until it is answered: a coordinator that is away costs time and nothing else.

use std::sync::Arc;

use sortie_core::job::{Outcome, Token};
use sortie_proto::v1;

use super::backoff::Backoff;
use super::session::{CallError, Session};

/// The coordinator's final no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The attempt no longer holds its trial.
    Stale,
    /// It breaks the contract; the reason in one line.
    Refused(String),
}

/// Delivers a batch, however long that takes.
pub(super) async fn report(session: Arc<Session>, token: Token, batch: v1::Batch, seed: u64) -> Result<(), Refusal> {
    until_answered(seed, || session.report(token, batch.clone())).await
}

/// Ends an attempt, however long that takes.
pub(super) async fn complete(
    session: Arc<Session>,
    token: Token,
    batch: Option<v1::Batch>,
    outcome: Outcome,
    seed: u64,
) -> Result<(), Refusal> {
    until_answered(seed, || session.complete(token, batch.clone(), &outcome)).await
}

async fn until_answered<F: Future<Output = Result<(), CallError>>>(seed: u64, mut say: impl FnMut() -> F) -> Result<(), Refusal> {
    let mut backoff = Backoff::new(seed);
    loop {
        match say().await {
            Ok(()) => return Ok(()),
            Err(CallError::Stale) => return Err(Refusal::Stale),
            Err(CallError::Refused(reason) | CallError::Version(reason)) => return Err(Refusal::Refused(reason)),
            Err(CallError::Unavailable(_)) => tokio::time::sleep(backoff.next()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_answer_ends_the_trying() {
        let mut answers = vec![Ok(()), Err(CallError::Unavailable("b".into())), Err(CallError::Unavailable("a".into()))];
        let told = until_answered(1, || {
            let answer = answers.pop().unwrap();
            async move { answer }
        });
        assert_eq!(told.await, Ok(()));
        assert!(answers.is_empty());
        assert_eq!(until_answered(1, || async { Err(CallError::Stale) }).await, Err(Refusal::Stale));
        assert_eq!(until_answered(1, || async { Err(CallError::Refused("no".into())) }).await, Err(Refusal::Refused("no".into())));
    }
}
