//! Claims that found nothing: they wait here, without asking the database again until something changed.

use tokio::time::Instant;

use crate::store::request::PendingClaim;

/// Claims that wait for trials.
#[derive(Debug, Default)]
pub(super) struct WaitingClaims {
    claims: Vec<PendingClaim>,
    /// Something may have changed for them.
    woken: bool,
    /// When the first trial that was queued again becomes free.
    free_at: Option<Instant>,
}

impl WaitingClaims {
    /// This one waits, too. What its worker lacks now it may have by the time that something changes for it: it is asked again then.
    pub(super) fn push(&mut self, mut claim: PendingClaim) {
        if let Some(findings) = &mut claim.claim.findings {
            findings.lacks.clear();
        }
        self.claims.push(claim);
    }

    /// Something may have changed for them: they look again with the next batch.
    pub(super) fn wake(&mut self) {
        self.woken = true;
    }

    /// A trial becomes free at this time.
    pub(super) fn wake_at(&mut self, free_at: Instant) {
        self.free_at = Some(self.free_at.map_or(free_at, |earlier| earlier.min(free_at)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Whether one of them returns when nothing is left to do.
    pub(super) fn wait_for_the_end(&self) -> bool {
        self.claims.iter().any(|pending| pending.claim.return_when_idle)
    }

    /// When they look again; none while none waits.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.woken {
            return Some(Instant::now());
        }
        let first = self.claims.iter().map(|pending| pending.until).min()?;
        Some(self.free_at.map_or(first, |free_at| free_at.min(first)))
    }

    /// Those that look now, which are all of them or none. Callers that are gone get nothing.
    pub(super) fn take_due(&mut self) -> Vec<PendingClaim> {
        let now = Instant::now();
        if !self.woken && self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.woken = false;
        self.free_at = self.free_at.filter(|free_at| *free_at > now);
        let mut due = std::mem::take(&mut self.claims);
        due.retain(|pending| pending.reply.is_awaited());
        due
    }
}
