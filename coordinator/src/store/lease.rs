//! Handing out trials, keeping leases alive, and ending those that ran out.

use sortie_core::job::{self, Decision, ErrorClass, Event, State, Timestamp, Token};
use sortie_core::spec::SweepSpec;
use sortie_core::trial::TrialSpec;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::attempt::{attempt_trial, end_attempt, failures};
use super::rows::{TrialRow, column, corrupt, integer, parsed, point};
use super::{Claim, Claimed, Leased, Store, StoreError, Worker};

/// How many expired leases one transaction ends.
const REAPED_MAX: i64 = 1_000;

impl Store {
    /// Remembers a worker process. Said again it is a no-op.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn register(&self, worker: &Worker, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO workers (worker_id, host, pid, devices, software, registered_ms) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (worker_id) DO NOTHING",
        )
        .bind(&worker.id)
        .bind(&worker.host)
        .bind(i64::from(worker.pid))
        .bind(worker.devices.join(","))
        .bind(&worker.software)
        .bind(now.0)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Moves queued trials to this worker, in order of position, which takes turns between sweeps.
    ///
    /// # Errors
    /// [`StoreError::UnknownWorker`] for a worker that did not register.
    pub async fn claim(&self, claim: &Claim<'_>, now: Timestamp) -> Result<Claimed, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let known =
            sqlx::query("SELECT 1 FROM workers WHERE worker_id = ?").bind(claim.worker_id).fetch_optional(&mut *transaction).await?;
        if known.is_none() {
            return Err(StoreError::UnknownWorker(claim.worker_id.to_owned()));
        }
        let rows = sqlx::query(
            "SELECT trials.id, trials.trial_id, trials.state, trials.token, trials.lease_expires_ms, trials.held_out, trials.dropout,
                    trials.lr, trials.weight_decay, trials.head_lr_factor, trials.seed, trials.split_seed, sweeps.name, sweeps.spec
             FROM trials JOIN sweeps ON sweeps.id = trials.sweep_id
             WHERE trials.state = 'queued' AND (?1 = '' OR sweeps.name = ?1)
             ORDER BY trials.position, trials.id LIMIT ?2",
        )
        .bind(claim.sweep.unwrap_or_default())
        .bind(i64::from(claim.count_max))
        .fetch_all(&mut *transaction)
        .await?;
        let mut leases = Vec::with_capacity(rows.len());
        for row in &rows {
            leases.push(self.lease_one(row, claim.worker_id, now, &mut transaction).await?);
        }
        let idle = leases.is_empty() && nothing_left(claim.sweep, &mut transaction).await?;
        transaction.commit().await?;
        Ok(Claimed { leases, idle })
    }

    async fn lease_one(
        &self,
        row: &SqliteRow,
        worker_id: &str,
        now: Timestamp,
        connection: &mut SqliteConnection,
    ) -> Result<Leased, StoreError> {
        let trial = TrialRow::try_from(row)?;
        let sweep: SweepSpec =
            serde_json::from_str(column(row, "sweeps", "spec")?).map_err(|error| corrupt("sweeps", "spec", row, error))?;
        let token = sqlx::query("INSERT INTO attempts (trial, worker_id, started_ms) VALUES (?, ?, ?)")
            .bind(trial.id)
            .bind(worker_id)
            .bind(now.0)
            .execute(&mut *connection)
            .await?;
        let token = Token(token.last_insert_rowid());
        if let Decision::Move(next) = job::apply(trial.state, &Event::Claim(token), now, self.lease)? {
            trial.move_to(next, connection).await?;
        }
        let spec = TrialSpec { settings: sweep.settings, point: point(row)? };
        let trial_id = parsed(row, "trials", "trial_id")?;
        if spec.id() != trial_id {
            return Err(corrupt("trials", "trial_id", row, format!("the specification's hash is {}", spec.id())));
        }
        Ok(Leased { token, trial_id, sweep: column(row, "sweeps", "name")?, spec })
    }

    /// Extends the leases of these attempts and notes how far they are. Returns the tokens that no longer hold their trial.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then no lease was extended.
    pub async fn heartbeat(&self, attempts: &[(Token, u64)], now: Timestamp) -> Result<Vec<Token>, StoreError> {
        let mut lost = Vec::new();
        if attempts.is_empty() {
            return Ok(lost);
        }
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for &(token, step) in attempts {
            match self.extend(token, now, &mut transaction).await {
                Ok(_) => {
                    sqlx::query("UPDATE attempts SET step = MAX(step, ?) WHERE token = ?")
                        .bind(integer(step))
                        .bind(token.0)
                        .execute(&mut *transaction)
                        .await?;
                }
                Err(StoreError::Refused(_) | StoreError::UnknownToken(_)) => lost.push(token),
                Err(other) => return Err(other),
            }
        }
        transaction.commit().await?;
        Ok(lost)
    }

    /// What every sign of life does: the attempt holds its trial for another lease, even if it had expired.
    pub(super) async fn extend(&self, token: Token, now: Timestamp, connection: &mut SqliteConnection) -> Result<TrialRow, StoreError> {
        let trial = attempt_trial(token, connection).await?;
        let Decision::Move(next) = job::apply(trial.state, &Event::Heartbeat(token), now, self.lease)? else {
            return Ok(trial);
        };
        trial.move_to(next, connection).await?;
        if matches!(trial.state, State::Queued { .. }) {
            sqlx::query("UPDATE attempts SET outcome = 'running', error_class = '', message = '', ended_ms = 0 WHERE token = ?")
                .bind(token.0)
                .execute(&mut *connection)
                .await?;
            tracing::info!(%token, "an expired lease was revived by its own attempt");
        }
        Ok(TrialRow { id: trial.id, state: next })
    }

    /// Ends leases that ran out. Returns how many.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn reap(&self, now: Timestamp) -> Result<u64, StoreError> {
        // A look at the readers' pool first: the usual case is that nothing expired, and then no write is made.
        let expired = "SELECT id, state, token, lease_expires_ms FROM trials WHERE state = 'leased' AND lease_expires_ms <= ? LIMIT ?";
        let look = sqlx::query(expired).bind(now.0).bind(1_i64).fetch_optional(&self.readers).await?;
        if look.is_none() {
            return Ok(0);
        }
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let rows = sqlx::query(expired).bind(now.0).bind(REAPED_MAX).fetch_all(&mut *transaction).await?;
        let mut reaped = 0;
        for row in &rows {
            let trial = TrialRow::try_from(row)?;
            let State::Leased { token, .. } = trial.state else { continue };
            let event = Event::Reap { failures: failures(trial.id, ErrorClass::Lost, &mut transaction).await? };
            if let Decision::Move(next) = job::apply(trial.state, &event, now, self.lease)? {
                trial.move_to(next, &mut transaction).await?;
                let message = "the worker was not heard from until its lease ended";
                end_attempt(token, "failed", ErrorClass::Lost.as_str(), message, now, &mut transaction).await?;
                reaped += 1;
            }
        }
        transaction.commit().await?;
        Ok(reaped)
    }
}

/// Whether no trial of the sweep, or of any, is queued or leased.
async fn nothing_left(sweep: Option<&str>, connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let open = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM trials JOIN sweeps ON sweeps.id = trials.sweep_id
                        WHERE trials.state IN ('queued', 'leased') AND (?1 = '' OR sweeps.name = ?1)) AS open",
    )
    .bind(sweep.unwrap_or_default())
    .fetch_one(connection)
    .await?;
    Ok(open.try_get::<i64, _>("open")? == 0)
}
