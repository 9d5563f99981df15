//! Makes batches ahead of their use on a thread of its own, so that a step does not wait for data.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tch::Device;

use super::super::stopwatch::now;
use super::{Batch, BatchMaker, BatchRequest, BatchSource};
use crate::error::TrialError;
use crate::libtorch;

/// Batches that are ready at a time. One hides the time that a batch takes; the second evens out variations.
const AHEAD: usize = 2;

/// Makes batches ahead of their use.
pub(crate) struct Prefetcher {
    batches: Option<Receiver<Result<(BatchRequest, Batch), TrialError>>>,
    thread: Option<JoinHandle<()>>,
    /// How long the trial waited for batches so far.
    pub(crate) waited: Duration,
}

impl Prefetcher {
    /// Starts to make these batches, in this order, with `threads` threads of libtorch.
    pub(crate) fn start(
        source: &Arc<BatchSource>,
        threads: i32,
        requests: impl Iterator<Item = BatchRequest> + Send + 'static,
    ) -> Result<Self, TrialError> {
        let (outbox, batches) = sync_channel(AHEAD);
        let source = Arc::clone(source);
        let thread = std::thread::Builder::new().name("sortie-prefetch".into()).spawn(move || {
            // This setting is per thread. Few threads make batches, because they compete with those that train.
            tch::set_num_threads(threads);
            let gpu = if let Device::Cuda(index) = source.normaliser.device { Some(index) } else { None };
            if let Some(error) = gpu.and_then(|gpu| libtorch::own_stream(gpu).err()) {
                let _ = outbox.send(Err(error.into()));
                return;
            }
            let mut maker = BatchMaker::default();
            for request in requests {
                let batch = maker.make(&source, request).and_then(|batch| {
                    gpu.map_or(Ok(()), libtorch::finish_stream)?;
                    Ok((request, batch))
                });
                let failed = batch.is_err();
                if outbox.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        let thread =
            thread.map_err(|error| TrialError::Machine(format!("cannot start a thread: {error}")))?;
        Ok(Self { batches: Some(batches), thread: Some(thread), waited: Duration::ZERO })
    }

    /// The next batch, which must be this one.
    ///
    /// # Errors
    /// The error that making it reported.
    pub(crate) fn next(&mut self, wanted: BatchRequest) -> Result<Batch, TrialError> {
        let begun = now();
        let batch = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        self.waited += begun.elapsed();
        match batch {
            Some(Ok((request, batch))) if request == wanted => {
                let tensors = [Some(&batch.inputs), Some(&batch.labels), batch.mask.as_ref()];
                tensors
                    .into_iter()
                    .flatten()
                    .filter(|tensor| tensor.device().is_cuda())
                    .try_for_each(libtorch::receive)?;
                Ok(batch)
            }
            Some(Ok((request, _))) => {
                Err(TrialError::Other(format!("batch {request:?} was made where {wanted:?} was due")))
            }
            Some(Err(error)) => Err(error),
            None => Err(TrialError::Other("the thread that makes batches ended".to_owned())),
        }
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        // A thread that waits to send a batch sees that the receiver is gone.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // After a panic there the batch is missing, which the caller has noticed.
            let _ = thread.join();
        }
    }
}
