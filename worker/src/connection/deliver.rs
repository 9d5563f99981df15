//! Sends a report until it is answered, so that an outage of the coordinator costs time only.

use std::sync::Arc;

use sortie_core::job::{Outcome, Token};
use sortie_core::trial::TrialId;
use sortie_proto::v1;

use crate::connection::backoff::Backoff;
use crate::connection::session::{CallError, Session};
use crate::journal::Journal;

/// The coordinator refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The attempt no longer holds its trial.
    Stale,
    /// It breaks the contract; the reason in one line.
    Refused(String),
}

/// Sends the reports of one attempt.
#[derive(Clone, Debug)]
pub(crate) struct ReportClient {
    pub(crate) session: Arc<Session>,
    /// Where what is acknowledged is noted, if anywhere.
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) token: Token,
    pub(crate) trial: TrialId,
    /// Of the waits between tries.
    pub(crate) seed: u64,
}

impl ReportClient {
    /// Delivers a batch, however long that takes.
    pub(crate) async fn report(self, batch: v1::Batch) -> Result<(), Refusal> {
        until_answered(self.seed, || self.session.report(self.token, batch.clone())).await?;
        self.note(Some(&batch), None);
        Ok(())
    }

    /// Ends the attempt, however long that takes.
    pub(crate) async fn complete(self, batch: Option<v1::Batch>, outcome: Outcome) -> Result<(), Refusal> {
        until_answered(self.seed, || self.session.complete(self.token, batch.clone(), &outcome)).await?;
        self.note(batch.as_ref(), Some(&outcome));
        Ok(())
    }

    fn note(&self, batch: Option<&v1::Batch>, outcome: Option<&Outcome>) {
        if let Some(journal) = &self.journal {
            journal.note(self.token, self.trial, batch, outcome);
        }
    }
}

async fn until_answered<F: Future<Output = Result<(), CallError>>>(
    seed: u64,
    mut say: impl FnMut() -> F,
) -> Result<(), Refusal> {
    let mut backoff = Backoff::new(seed);
    loop {
        match say().await {
            Ok(()) => return Ok(()),
            Err(CallError::Stale) => return Err(Refusal::Stale),
            Err(CallError::Refused(reason) | CallError::Version(reason)) => {
                return Err(Refusal::Refused(reason));
            }
            Err(CallError::Unavailable(_)) => tokio::time::sleep(backoff.next()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_answer_ends_the_trying() {
        let mut answers =
            vec![Ok(()), Err(CallError::Unavailable("b".into())), Err(CallError::Unavailable("a".into()))];
        let told = until_answered(1, || {
            let answer = answers.pop().unwrap();
            async move { answer }
        });
        assert_eq!(told.await, Ok(()));
        assert!(answers.is_empty());
        assert_eq!(until_answered(1, || async { Err(CallError::Stale) }).await, Err(Refusal::Stale));
        assert_eq!(
            until_answered(1, || async { Err(CallError::Refused("no".into())) }).await,
            Err(Refusal::Refused("no".into()))
        );
    }
}
