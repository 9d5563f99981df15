//! Batches of reports: what is refused, and what becomes of the rest.

use sortie_core::artifact::Resumed;
use sortie_core::lease::Batch;
use sortie_core::metrics::{Evaluation, Score, TrainingLoss};
use sortie_core::record::Fingerprint;

use super::unit_of_work::{STEP_MAX, UnitOfWork, one_line};
use crate::store::StoreError;
use crate::store::backend::{AttemptRow, given};
use crate::store::types::TrialEvent;

/// How much of an attempt's output one batch may bring, in bytes.
const LOG_BYTES_MAX: usize = 1 << 18;
/// How much of the beginning of an attempt's output is kept. Workers send far less.
const LOG_HEAD_BYTES: u64 = 16 << 20;
/// Of an output that is longer, how many of its last batches are kept besides.
const LOG_TAIL_BATCHES: u64 = 32;
/// The longest name of a domain, in bytes.
const DOMAIN_BYTES_MAX: usize = 200;

impl UnitOfWork {
    /// Whether the batch is new; an error if it must not be stored.
    pub(super) fn check_batch(&self, row: &AttemptRow, batch: &Batch) -> Result<bool, StoreError> {
        let token = row.token;
        let expected = row.progress.sequence + 1;
        if batch.sequence < expected {
            return Ok(false);
        }
        if batch.sequence > expected {
            return Err(StoreError::Gap { token, expected, got: batch.sequence });
        }
        self.check_totals(row, batch)?;
        let work = self.work(row)?;
        let steps = work.steps().unwrap_or(STEP_MAX);
        let foreign = |what: String| Err(StoreError::Foreign { token, what });
        for evaluation in &batch.evaluations {
            let Evaluation { step, domain, .. } = evaluation;
            let known = work.domains().is_empty() || work.domains().contains(domain);
            let plain =
                !domain.is_empty() && domain.len() <= DOMAIN_BYTES_MAX && !domain.contains(char::is_control);
            if !known || !plain || *step > steps {
                return foreign(format!("step {step} on domain {domain:?}"));
            }
            // Answers may leave out what makes an evaluation one; a report may not.
            let is_empty =
                evaluation.score.is_none() && evaluation.loss.is_none() && evaluation.metrics.is_empty();
            if let Some(fault) = evaluation.fault().or_else(|| is_empty.then(|| "no number".to_owned())) {
                return foreign(format!("step {step} on domain {domain:?} with {fault}"));
            }
        }
        for artifact in &batch.artifacts {
            if let Some(fault) = artifact
                .fault()
                .or_else(|| (artifact.step > steps).then(|| format!("step {}", artifact.step)))
            {
                return foreign(format!("a {} with {fault}", artifact.kind));
            }
        }
        if let Some(Resumed { token: from, step, .. }) = batch.resumed
            && (from.0 <= 0 || from >= token || step > steps)
        {
            return foreign(format!(
                "that it went on after step {step} of an attempt that was not before it"
            ));
        }
        if let Some(loss) = batch.losses.iter().find(|loss| loss.step > steps || loss.fault().is_some()) {
            let fault = loss.fault().unwrap_or_else(|| format!("loss {}", loss.loss));
            return foreign(format!("{fault} at step {}", loss.step));
        }
        Ok(true)
    }

    pub(super) fn store_batch(&mut self, row: &AttemptRow, batch: &Batch) {
        let token = row.token;
        let Batch { sequence, fingerprint, evaluations, losses, log, artifacts, resumed, notes } = batch;
        // A short attempt may end before its first heartbeat.
        let step = evaluations
            .iter()
            .map(|row| row.step)
            .chain(losses.iter().map(|loss| loss.step))
            .max()
            .unwrap_or(0);
        let log = &log[..log.len().min(LOG_BYTES_MAX)];
        let reported = row.progress.reported.with(batch);
        let notes_kept = (reported.notes - row.progress.reported.notes) as usize;
        self.advance(token, |progress| {
            (progress.sequence, progress.step) = (*sequence, progress.step.max(step));
            progress.log.bytes += log.len() as u64;
            progress.reported = reported;
            if progress.log.bytes > LOG_HEAD_BYTES {
                progress.log.cut.get_or_insert(*sequence - 1);
            }
        });
        if let Some(fingerprint) = fingerprint.as_ref().map(plain) {
            if let Some(row) = self.attempts.get_mut(&token) {
                row.dataset_digest = given(&fingerprint.dataset_digest).map(str::to_owned);
                row.weights_digest = given(&fingerprint.weights_digest).map(str::to_owned);
            }
            self.changes.fingerprints.push((token, fingerprint));
        }
        for evaluation in evaluations {
            let held_out = row.held_out.split('+').any(|held_out| held_out == evaluation.domain);
            let table = if held_out { &mut self.changes.held_out } else { &mut self.changes.validation };
            table.push((token, without_signed_zeros(evaluation)));
        }
        let plain = |loss: &TrainingLoss| TrainingLoss { loss: loss.loss + 0.0, ..*loss };
        self.changes.losses.extend(losses.iter().map(|loss| (token, plain(loss))));
        self.changes.artifacts.extend(artifacts.iter().map(|artifact| (token, artifact.clone())));
        if let Some(resumed) = resumed {
            self.changes.resumed.insert(token, *resumed);
        }
        for note in notes.iter().take(notes_kept) {
            let (at_ms, what, detail) = (self.now.0, "noted".to_owned(), one_line(note));
            self.changes.events.push((row.trial, TrialEvent { at_ms, token: Some(token), what, detail }));
        }
        if !log.is_empty() {
            self.changes.logs.push((token, *sequence, log.to_vec()));
        }
        let cut = self.attempts.get(&token).and_then(|row| row.progress.log.cut);
        if let (Some(cut), Some(last)) = (cut, sequence.checked_sub(LOG_TAIL_BATCHES))
            && last > cut
        {
            self.changes.left_out.push((token, cut, last));
        }
    }
}

/// Zero has no sign, as in parameters: SQLite forgets it and Postgres does not, and the two must agree to the last bit.
fn without_signed_zeros(evaluation: &Evaluation) -> Evaluation {
    let score = evaluation.score.map(|score| match score {
        Score::Value { value, n } => Score::Value { value: value + 0.0, n },
        counts @ Score::Counts { .. } => counts,
    });
    let metrics = evaluation.metrics.iter().map(|(name, value)| (name.clone(), value + 0.0)).collect();
    Evaluation { score, loss: evaluation.loss.map(|loss| loss + 0.0), metrics, ..evaluation.clone() }
}

/// Texts that every database takes.
fn plain(reported: &Fingerprint) -> Fingerprint {
    Fingerprint {
        software: one_line(&reported.software),
        libtorch: one_line(&reported.libtorch),
        device: one_line(&reported.device),
        threads: reported.threads,
        dataset_digest: one_line(&reported.dataset_digest),
        weights_digest: one_line(&reported.weights_digest),
        code: reported.code.clone(),
        micro_batch: reported.micro_batch,
    }
}
