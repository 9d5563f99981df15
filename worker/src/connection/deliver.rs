//! Sends a report until it is answered, so that an outage of the coordinator costs time only.

use std::sync::Arc;

use backon::Retryable as _;
use sortie_core::job::Outcome;
use sortie_proto::v1;

use crate::connection::retry;
use crate::connection::session::{CallError, Session};
use crate::registry::AttemptKey;

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
    pub(crate) attempt: AttemptKey,
    #[cfg(feature = "test-hooks")]
    pub(crate) trial: sortie_core::trial::SpecHash,
}

impl ReportClient {
    /// Delivers a batch, however long that takes.
    #[tracing::instrument(name = "delivering", level = "debug", skip_all, fields(sequence = batch.sequence))]
    pub(crate) async fn report(self, batch: v1::Batch) -> Result<(), Refusal> {
        until_answered(|| self.session.report(self.attempt, batch.clone())).await?;
        #[cfg(feature = "test-hooks")]
        crate::journal::note(self.attempt.token, self.trial, Some(&batch), None);
        Ok(())
    }

    /// Ends the attempt, however long that takes.
    pub(crate) async fn complete(self, batch: Option<v1::Batch>, outcome: Outcome) -> Result<(), Refusal> {
        until_answered(|| self.session.complete(self.attempt, batch.clone(), &outcome)).await?;
        #[cfg(feature = "test-hooks")]
        crate::journal::note(self.attempt.token, self.trial, batch.as_ref(), Some(&outcome));
        Ok(())
    }
}

/// Calls until the coordinator has answered.
async fn until_answered<F: Future<Output = Result<(), CallError>>>(
    call: impl FnMut() -> F,
) -> Result<(), Refusal> {
    let no_answer = |error: &CallError| matches!(error, CallError::Unavailable(_));
    call.retry(retry::DELAYS).when(no_answer).await.map_err(|error| match error {
        CallError::Stale => Refusal::Stale,
        CallError::Refused(reason) | CallError::Version(reason) | CallError::Unavailable(reason) => {
            Refusal::Refused(reason)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_answer_ends_the_trying() {
        let mut answers =
            vec![Ok(()), Err(CallError::Unavailable("b".into())), Err(CallError::Unavailable("a".into()))];
        let told = until_answered(|| {
            let answer = answers.pop().unwrap();
            async move { answer }
        });
        assert_eq!(told.await, Ok(()));
        assert!(answers.is_empty());
        assert_eq!(until_answered(|| async { Err(CallError::Stale) }).await, Err(Refusal::Stale));
        assert_eq!(
            until_answered(|| async { Err(CallError::Refused("no".into())) }).await,
            Err(Refusal::Refused("no".into()))
        );
    }
}
