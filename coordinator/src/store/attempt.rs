//! What attempts report, and how they end.

use sortie_core::job::{self, Decision, ErrorClass, Event, Outcome, Timestamp, Token};
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::record::Fingerprint;
use sortie_core::spec::SweepSpec;
use sqlx::{Row, SqliteConnection};

use super::rows::{TrialRow, column, corrupt, expect_rows, integer};
use super::{Batch, Store, StoreError};

/// How much of a failure's message is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

impl Store {
    /// Stores a batch of reports. The same batch again is a no-op. A report is a sign of life: it extends the lease.
    ///
    /// An attempt whose dataset or weights are not those that the name is pinned to is ended here as bad data, and refused.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the token no longer holds its trial, [`StoreError::Gap`] when a batch is missing before this one.
    pub async fn report(&self, token: Token, batch: &Batch, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let trial = self.extend(token, now, &mut transaction).await?;
        store_batch(token, trial.id, batch, &mut transaction).await?;
        let mismatch = pinned_mismatch(token, trial.id, false, &mut transaction).await?;
        if let Some(message) = &mismatch {
            self.finish(token, &bad_data(message), now, &mut transaction).await?;
        }
        transaction.commit().await?;
        if mismatch.is_some() {
            return Err(job::Refused::Stale(token).into());
        }
        Ok(())
    }

    /// Ends an attempt, with its last reports. Said again under the same token it is a no-op.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the token no longer holds its trial.
    pub async fn complete(&self, token: Token, batch: Option<&Batch>, outcome: &Outcome, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let trial = attempt_trial(token, &mut transaction).await?;
        let running: i64 = sqlx::query_scalar("SELECT outcome = 'running' OR error_class = 'lost' FROM attempts WHERE token = ?")
            .bind(token.0)
            .fetch_one(&mut *transaction)
            .await?;
        if running == 0 {
            // This attempt has been completed: what it says again was stored with what it said first.
            return Ok(());
        }
        // Refused before anything is written if the attempt no longer holds its trial.
        job::apply(trial.state, &Event::Heartbeat(token), now, self.lease)?;
        if let Some(batch) = batch {
            store_batch(token, trial.id, batch, &mut transaction).await?;
        }
        let succeeded = *outcome == Outcome::Succeeded;
        let outcome = match pinned_mismatch(token, trial.id, succeeded, &mut transaction).await? {
            Some(message) if succeeded => bad_data(&message),
            _ => outcome.clone(),
        };
        self.finish(token, &outcome, now, &mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn finish(&self, token: Token, outcome: &Outcome, now: Timestamp, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let trial = attempt_trial(token, connection).await?;
        let (name, class, message) = match outcome {
            Outcome::Succeeded => ("succeeded", "", String::new()),
            Outcome::Diverged { step } => ("diverged", "", format!("the training loss was no number at step {step}")),
            Outcome::Failed { class, message } => ("failed", class.as_str(), truncated(message)),
        };
        let failures = match outcome {
            Outcome::Failed { class, .. } => failures(trial.id, *class, connection).await?,
            _ => 0,
        };
        let event = Event::Complete { token, outcome: outcome.clone(), failures };
        if let Decision::Move(next) = job::apply(trial.state, &event, now, self.lease)? {
            trial.move_to(next, connection).await?;
            end_attempt(token, name, class, &message, now, connection).await?;
        }
        Ok(())
    }
}

fn bad_data(message: &str) -> Outcome {
    Outcome::Failed { class: ErrorClass::BadData, message: message.to_owned() }
}

fn truncated(message: &str) -> String {
    let end = (0..=message.len().min(MESSAGE_BYTES_MAX)).rev().find(|&end| message.is_char_boundary(end)).unwrap_or(0);
    message[..end].replace(['\n', '\r'], " ")
}

/// The trial of an attempt.
pub(super) async fn attempt_trial(token: Token, connection: &mut SqliteConnection) -> Result<TrialRow, StoreError> {
    let row = sqlx::query(
        "SELECT trials.id, trials.state, trials.token, trials.lease_expires_ms
         FROM attempts JOIN trials ON trials.id = attempts.trial WHERE attempts.token = ?",
    )
    .bind(token.0)
    .fetch_optional(connection)
    .await?;
    TrialRow::try_from(&row.ok_or(StoreError::UnknownToken(token))?)
}

/// How many attempts at a trial ended with this class.
pub(super) async fn failures(trial: i64, class: ErrorClass, connection: &mut SqliteConnection) -> Result<u32, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM attempts WHERE trial = ? AND outcome = 'failed' AND error_class = ?")
        .bind(trial)
        .bind(class.as_str())
        .fetch_one(connection)
        .await?;
    Ok(count.try_into().unwrap_or(u32::MAX))
}

pub(super) async fn end_attempt(
    token: Token,
    outcome: &str,
    class: &str,
    message: &str,
    now: Timestamp,
    connection: &mut SqliteConnection,
) -> Result<(), StoreError> {
    let ended = sqlx::query(
        "UPDATE attempts SET outcome = ?, error_class = ?, message = ?, ended_ms = ?
         WHERE token = ? AND (outcome = 'running' OR error_class = 'lost')",
    )
    .bind(outcome)
    .bind(class)
    .bind(message)
    .bind(now.0)
    .bind(token.0)
    .execute(connection)
    .await?;
    expect_rows("end of an attempt", ended.rows_affected(), 1)
}

/// Stores a batch unless it was stored before.
async fn store_batch(token: Token, trial: i64, batch: &Batch, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let stored: i64 = sqlx::query_scalar("SELECT sequence FROM attempts WHERE token = ?").bind(token.0).fetch_one(&mut *connection).await?;
    let expected = stored.unsigned_abs() + 1;
    if batch.sequence < expected {
        return Ok(());
    }
    if batch.sequence > expected {
        return Err(StoreError::Gap { token, expected, got: batch.sequence });
    }
    let advanced = sqlx::query("UPDATE attempts SET sequence = ? WHERE token = ? AND sequence = ?")
        .bind(integer(batch.sequence))
        .bind(token.0)
        .bind(stored)
        .execute(&mut *connection)
        .await?;
    expect_rows("advance of a sequence", advanced.rows_affected(), 1)?;
    if let Some(fingerprint) = &batch.fingerprint {
        store_fingerprint(token, fingerprint, connection).await?;
    }
    store_evaluations(token, trial, &batch.evaluations, connection).await?;
    store_losses(token, &batch.losses, connection).await
}

async fn store_fingerprint(token: Token, fingerprint: &Fingerprint, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let stored = sqlx::query(
        "UPDATE attempts SET software = ?, libtorch = ?, device = ?, threads = ?, dataset_digest = ?, weights_digest = ? WHERE token = ?",
    )
    .bind(&fingerprint.software)
    .bind(&fingerprint.libtorch)
    .bind(&fingerprint.device)
    .bind(i64::from(fingerprint.threads))
    .bind(&fingerprint.dataset_digest)
    .bind(&fingerprint.weights_digest)
    .bind(token.0)
    .execute(connection)
    .await?;
    expect_rows("note of a fingerprint", stored.rows_affected(), 1)
}

async fn store_losses(token: Token, losses: &[TrainingLoss], connection: &mut SqliteConnection) -> Result<(), StoreError> {
    for loss in losses {
        sqlx::query("INSERT INTO training_losses (token, step, loss) VALUES (?, ?, ?)")
            .bind(token.0)
            .bind(integer(loss.step))
            .bind(loss.loss)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn store_evaluations(
    token: Token,
    trial: i64,
    evaluations: &[Evaluation],
    connection: &mut SqliteConnection,
) -> Result<(), StoreError> {
    if evaluations.is_empty() {
        return Ok(());
    }
    let row = sqlx::query("SELECT trials.id, held_out, spec FROM trials JOIN sweeps ON sweeps.id = trials.sweep_id WHERE trials.id = ?")
        .bind(trial)
        .fetch_one(&mut *connection)
        .await?;
    let sweep: SweepSpec = serde_json::from_str(column(&row, "sweeps", "spec")?).map_err(|error| corrupt("sweeps", "spec", &row, error))?;
    let held_out: &str = column(&row, "trials", "held_out")?;
    for evaluation in evaluations {
        let Evaluation { method, step, domain, split, n, correct, loss } = evaluation;
        if sweep.settings.dataset.domain_index(domain).is_none() || *step > sweep.settings.steps {
            return Err(StoreError::Foreign { token, what: format!("step {step} on domain {domain:?}") });
        }
        let insert = if held_out.split('+').any(|held_out| held_out == domain) {
            "INSERT INTO held_out (trial, token, method, step, domain, split, n, correct, loss) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        } else {
            "INSERT INTO validation (trial, token, method, step, domain, split, n, correct, loss) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        };
        sqlx::query(insert)
            .bind(trial)
            .bind(token.0)
            .bind(method.as_str())
            .bind(integer(*step))
            .bind(domain)
            .bind(split.as_str())
            .bind(integer(*n))
            .bind(integer(*correct))
            .bind(loss)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Compares the attempt's digests with those that the names are pinned to; pins what is not pinned yet if `pin` says so. Returns what
/// is wrong, in one line.
async fn pinned_mismatch(token: Token, trial: i64, pin: bool, connection: &mut SqliteConnection) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "SELECT attempts.token, dataset_digest, weights_digest, spec FROM attempts
         JOIN trials ON trials.id = ?2 JOIN sweeps ON sweeps.id = trials.sweep_id WHERE attempts.token = ?1",
    )
    .bind(token.0)
    .bind(trial)
    .fetch_one(&mut *connection)
    .await?;
    let sweep: SweepSpec = serde_json::from_str(column(&row, "sweeps", "spec")?).map_err(|error| corrupt("sweeps", "spec", &row, error))?;
    let dataset: String = row.try_get("dataset_digest")?;
    let weights: String = row.try_get("weights_digest")?;
    let names = [("dataset", sweep.settings.dataset.name.as_str(), dataset), ("weights", sweep.settings.backbone.as_str(), weights)];
    for (kind, name, digest) in names {
        // An attempt that ended before it read its data has no digests, and nothing to compare.
        if digest.is_empty() {
            continue;
        }
        let pinned: Option<String> = sqlx::query_scalar("SELECT digest FROM digests WHERE kind = ? AND name = ?")
            .bind(kind)
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
        match pinned {
            Some(pinned) if pinned != digest => {
                return Ok(Some(format!(
                    "the {kind} of {name} on this worker has digest {digest}, but earlier results were made with {pinned}"
                )));
            }
            None if pin => {
                sqlx::query("INSERT INTO digests (kind, name, digest) VALUES (?, ?, ?)")
                    .bind(kind)
                    .bind(name)
                    .bind(digest)
                    .execute(&mut *connection)
                    .await?;
            }
            _ => {}
        }
    }
    Ok(None)
}
