//! The body of a request, within limits: how long it may take to arrive, and how many bytes of unfinished ones this process holds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::Status;

use super::Limits;
use super::limits::BODY_BYTES_FREE;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes that unfinished bodies of all connections may hold.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    time: Duration,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        let bytes_max = limits.body_bytes.min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max, time: limits.request_body }
    }

    /// The body within the budget.
    pub(super) fn body<B>(&self, inner: B) -> LimitedBody<B> {
        LimitedBody { inner, budget: self.clone(), received: 0, held: None, deadline: None }
    }
}

/// A body that ends with an error when it breaks a limit.
pub(super) struct LimitedBody<B> {
    inner: B,
    budget: Budget,
    received: usize,
    held: Option<OwnedSemaphorePermit>,
    /// Set when the body is waited for the first time: most are there at once.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> LimitedBody<B> {
    /// Counts bytes that have arrived.
    fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        let before = self.received.max(BODY_BYTES_FREE);
        self.received += bytes;
        let counted = u32::try_from(self.received.saturating_sub(before)).unwrap_or(u32::MAX);
        if counted == 0 {
            return Ok(());
        }
        let Ok(permit) = Arc::clone(&self.budget.bytes).try_acquire_many_owned(counted) else {
            let mib = self.budget.bytes_max >> 20;
            return Err(Status::unavailable(format!(
                "the coordinator holds {mib} MiB of unfinished requests, the most that it may; try again"
            )));
        };
        match &mut self.held {
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
        Ok(())
    }

    /// Whether the time for the body is over.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let time = self.budget.time;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        deadline.as_mut().poll(context).map(|()| {
            Status::deadline_exceeded(format!("the request did not arrive within {} s", time.as_secs_f64()))
        })
    }
}

impl<B> HttpBody for LimitedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(self.hold(bytes).map(|()| frame).map_err(Into::into)))
            }
            Poll::Ready(end) => Poll::Ready(end.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => self.poll_deadline(context).map(|status| Some(Err(status.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use super::*;

    /// A body that sends so many bytes at a time, and then nothing more.
    struct HalfSent(VecDeque<usize>);

    impl HttpBody for HalfSent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop_front() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; bytes]))))),
                None => Poll::Pending,
            }
        }
    }

    fn budget() -> Budget {
        Budget::new(&Limits {
            connections: 1,
            connections_per_address: 1,
            first_request: Duration::from_secs(1),
            request_body: Duration::from_secs(30),
            body_bytes: 3 * BODY_BYTES_FREE,
        })
    }

    async fn next(body: &mut LimitedBody<HalfSent>) -> Result<usize, String> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await.unwrap();
        frame.map(|frame| frame.into_data().unwrap().len()).map_err(|error| error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = budget();
        let half = |bytes| budget.body(HalfSent([BODY_BYTES_FREE, bytes].into()));
        let (mut first, mut second) = (half(3 * BODY_BYTES_FREE), half(1));
        for body in [&mut first, &mut second] {
            assert_eq!(next(body).await, Ok(BODY_BYTES_FREE), "the first bytes count against nothing");
        }
        assert_eq!(next(&mut first).await, Ok(3 * BODY_BYTES_FREE));
        let full = next(&mut second).await.unwrap_err();
        assert!(full.contains("unfinished requests"), "{full}");
        drop(first);
        let mut third = half(1);
        assert_eq!((next(&mut third).await, next(&mut third).await), (Ok(BODY_BYTES_FREE), Ok(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let budget = budget();
        let mut body = budget.body(HalfSent([1].into()));
        assert_eq!(next(&mut body).await, Ok(1));
        let error = next(&mut body).await.unwrap_err();
        assert!(error.contains("did not arrive within 30 s"), "{error}");
    }
}
