//! The progress of a submission, as its caller sees it.

use std::time::Duration;

use futures::stream;
use sortie_proto::v1;
use tokio::sync::watch;
use tonic::Status;

use super::wire::progress_wire;
use crate::store::Submitted;

/// How often a submission's progress is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Tells a submission's progress, and its end as the last message.
pub(super) fn progress_stream(
    progress: watch::Receiver<Submitted>,
) -> impl stream::Stream<Item = Result<v1::SubmitProgress, Status>> {
    stream::unfold(Some(progress), |progress| async move {
        let mut progress = progress?;
        // An error means that the writer is done with it: completely, or because it stops.
        let closed =
            tokio::time::timeout(PROGRESS_INTERVAL, async { while progress.changed().await.is_ok() {} })
                .await
                .is_ok();
        let submitted = progress.borrow().clone();
        let (sweep, done) = (&submitted.sweep, submitted.is_done());
        if submitted.cancelled && !done {
            return Some((
                Err(Status::failed_precondition(format!(
                    "sweep {sweep:?} was cancelled or deleted meanwhile"
                ))),
                None,
            ));
        }
        if closed && !done {
            return Some((
                Err(Status::unavailable(
                    "the coordinator is stopping; the sweep is stored and goes on later",
                )),
                None,
            ));
        }
        Some((Ok(progress_wire(submitted)), (!done).then_some(progress)))
    })
}
