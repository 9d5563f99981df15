//! How much an attempt may report, in one batch and in all.

use sortie_core::lease::Batch;

use super::unit_of_work::UnitOfWork;
use crate::store::StoreError;
use crate::store::backend::{AttemptRow, Reported};

/// Evaluations, losses and files of one batch. Workers send a twentieth of it; more would hold up everybody else's requests.
const BATCH_ROWS_MAX: u64 = 1 << 17;
/// Named numbers that weigh as much as an evaluation.
const NUMBERS_OF_AN_EVALUATION: u64 = 8;
/// How many notes of one batch are kept.
const BATCH_NOTES_MAX: usize = 16;
/// How many notes of an attempt are kept: a history is read as a whole.
const NOTES_MAX: u64 = 256;

impl Reported {
    /// What a batch brings.
    fn of(batch: &Batch) -> Self {
        let weight = |named: usize| 1 + named as u64 / NUMBERS_OF_AN_EVALUATION;
        Self {
            evaluations: batch.evaluations.iter().map(|row| weight(row.metrics.len())).sum(),
            losses: batch.losses.len() as u64,
            artifacts: batch.artifacts.len() as u64,
            notes: batch.notes.len().min(BATCH_NOTES_MAX) as u64,
        }
    }

    /// With what a batch brings; of the notes only as many as are kept.
    pub(super) fn with(self, batch: &Batch) -> Self {
        let new = Self::of(batch);
        Self {
            evaluations: self.evaluations + new.evaluations,
            losses: self.losses + new.losses,
            artifacts: self.artifacts + new.artifacts,
            notes: (self.notes + new.notes).min(NOTES_MAX),
        }
    }
}

impl UnitOfWork {
    /// Refuses a batch that brings too much by itself, or its attempt over a limit. The last step of the trial is known, or is as large as may be.
    pub(super) fn check_totals(&self, row: &AttemptRow, batch: &Batch) -> Result<(), StoreError> {
        let token = row.token;
        let too_much = |what: &'static str, max: u64| Err(StoreError::TooMuch { token, what, max });
        let Reported { evaluations, losses, artifacts, .. } = Reported::of(batch);
        if evaluations + losses + artifacts > BATCH_ROWS_MAX {
            return too_much("evaluations, losses and files in one batch", BATCH_ROWS_MAX);
        }
        let of_steps = self.work(row)?.steps().map_or(0, |steps| steps.saturating_add(1));
        let total = row.progress.reported.with(batch);
        for (what, total, max) in [
            ("evaluations", total.evaluations, self.limits.evaluations),
            ("training losses", total.losses, self.limits.losses.max(of_steps)),
            ("files", total.artifacts, self.limits.artifacts),
        ] {
            if total > max {
                return too_much(what, max);
            }
        }
        Ok(())
    }
}
