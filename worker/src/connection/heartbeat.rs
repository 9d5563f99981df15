//! Reports that attempts are alive, on a task of its own, so that slow reports and busy trials delay no heartbeat.

use std::sync::Arc;
use std::time::Duration;

use crate::config::AgentError;
use crate::connection::session::{CallError, Session};
use crate::registry::{AttemptKey, AttemptPhase, Order, Registry};

/// Sends heartbeats. Returns only when the coordinator was restarted as a build of another API version.
pub(crate) async fn run(session: Arc<Session>, registry: Arc<Registry>) -> AgentError {
    loop {
        let interval = session.heartbeat_interval().await;
        // Give up waiting after this, so that the next heartbeat is not late.
        let limit = interval.clamp(Duration::from_secs(1), Duration::from_secs(5));
        match beat(&session, &registry, limit).await {
            Ok(lost) => {
                for key in lost {
                    // An attempt whose end was reported meanwhile holds no lease any more, which is right.
                    if registry.order(key, Order::Abandon) == AttemptPhase::Running {
                        tracing::warn!(token = %key.token, "lease lost; ending the trial's process");
                    }
                }
            }
            Err(CallError::Version(reason)) => return AgentError::Version(reason),
            Err(CallError::Refused(reason)) => {
                tracing::warn!(%reason, "heartbeat refused; registering this worker again");
                session.forget_registration().await;
            }
            // The session logs it; running trials go on.
            Err(CallError::Unavailable(_) | CallError::Stale) => {}
        }
        tokio::time::sleep(interval).await;
    }
}

/// Sends one heartbeat. Gives the attempts that no longer hold their trial: also those that began before the database was restored from a
/// backup.
async fn beat(session: &Session, registry: &Registry, limit: Duration) -> Result<Vec<AttemptKey>, CallError> {
    let incarnation = session.ensure_registered().await?;
    let mut lost = registry.foreign(incarnation);
    let tokens = session.heartbeat(incarnation, registry.progress(incarnation), limit).await?;
    lost.extend(tokens.into_iter().map(|token| AttemptKey { incarnation, token }));
    Ok(lost)
}
