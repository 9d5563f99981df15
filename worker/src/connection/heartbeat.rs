//! Says that attempts are alive, on a task of its own: neither a slow report nor a busy trial makes a living worker look dead.

use std::sync::Arc;
use std::time::Duration;

use crate::config::AgentError;
use crate::connection::session::{CallError, Session};
use crate::registry::{AttemptPhase, Order, Registry};

/// Heartbeats for ever. Ends only when the coordinator, come back as another build, no longer speaks to this one.
pub(crate) async fn run(session: Arc<Session>, registry: Arc<Registry>) -> AgentError {
    loop {
        let interval = session.heartbeat_interval().await;
        // An answer that takes longer than this is given up, so that the next heartbeat is not late.
        let limit = interval.clamp(Duration::from_secs(1), Duration::from_secs(5));
        match session.heartbeat(registry.progress(), limit).await {
            Ok(lost) => {
                for token in lost {
                    // An attempt whose end was reported meanwhile holds no lease any more, which is right.
                    if registry.order(token, Order::Abandon) == AttemptPhase::Running {
                        tracing::warn!(%token, "lease lost; ending the trial's process");
                    }
                }
            }
            Err(CallError::Version(reason)) => return AgentError::Version(reason),
            Err(CallError::Refused(reason)) => {
                tracing::warn!(%reason, "heartbeat refused; registering this worker again");
                session.forget_registration().await;
            }
            // The session tells of it; running trials train on.
            Err(CallError::Unavailable(_) | CallError::Stale) => {}
        }
        tokio::time::sleep(interval).await;
    }
}
