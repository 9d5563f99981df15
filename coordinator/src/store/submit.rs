//! Storing sweeps.

use sortie_core::job::Timestamp;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::TrialSpec;
use sqlx::{Row, SqliteConnection};

use super::rows::{corrupt, expect_rows, integer};
use super::{Store, StoreError, Submitted};

impl Store {
    /// Stores a sweep with its trials, or adds to the one of its name what is not there yet. All or nothing.
    ///
    /// # Errors
    /// [`StoreError::Spec`] when a fixed value differs from the stored sweep's.
    pub async fn submit(&self, spec: &SweepSpec, now: Timestamp) -> Result<Submitted, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let stored = sqlx::query("SELECT id, spec FROM sweeps WHERE name = ?").bind(&spec.name).fetch_optional(&mut *transaction).await?;
        let (sweep_id, all) = match stored {
            None => (insert_sweep(spec, now, &mut transaction).await?, spec.clone()),
            Some(row) => {
                let stored: SweepSpec =
                    serde_json::from_str(row.try_get("spec")?).map_err(|error| corrupt("sweeps", "spec", &row, error))?;
                let grown = stored.grown_by(spec)?;
                let sweep_id = row.try_get("id")?;
                update_sweep(sweep_id, &grown, &mut transaction).await?;
                (sweep_id, grown)
            }
        };
        let added = insert_trials(sweep_id, all.trials(), &mut transaction).await?;
        let planned: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM trials WHERE sweep_id = ?").bind(sweep_id).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Submitted { sweep: spec.name.clone(), planned: planned.unsigned_abs(), added })
    }
}

/// A specification is numbers, names and lists: it always encodes.
fn encoded(spec: &SweepSpec) -> Result<String, StoreError> {
    serde_json::to_string(spec).map_err(|error| StoreError::Database(sqlx::Error::Encode(error.into())))
}

async fn insert_sweep(spec: &SweepSpec, now: Timestamp, connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let inserted = sqlx::query("INSERT INTO sweeps (name, spec, created_ms) VALUES (?, ?, ?)")
        .bind(&spec.name)
        .bind(encoded(spec)?)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(inserted.last_insert_rowid())
}

async fn update_sweep(id: i64, spec: &SweepSpec, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let updated = sqlx::query("UPDATE sweeps SET spec = ? WHERE id = ?").bind(encoded(spec)?).bind(id).execute(connection).await?;
    expect_rows("update of a sweep", updated.rows_affected(), 1)
}

/// Positions go on after those that are there, so that growth queues behind what was planned before.
async fn insert_trials(
    sweep_id: i64,
    trials: impl Iterator<Item = TrialSpec>,
    connection: &mut SqliteConnection,
) -> Result<u64, StoreError> {
    let mut position: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(position) + 1, 0) FROM trials WHERE sweep_id = ?")
        .bind(sweep_id)
        .fetch_one(&mut *connection)
        .await?;
    let mut added = 0;
    for trial in trials {
        let point = &trial.point;
        let inserted = sqlx::query(
            "INSERT INTO trials (sweep_id, trial_id, position, held_out, dropout, lr, weight_decay, head_lr_factor, seed, split_seed)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sweep_id, trial_id) DO NOTHING",
        )
        .bind(sweep_id)
        .bind(trial.id().to_string())
        .bind(position)
        .bind(point.held_out_label())
        .bind(point.dropout)
        .bind(point.lr)
        .bind(point.weight_decay)
        .bind(point.head_lr_factor)
        .bind(integer(point.seed))
        .bind(integer(point.split_seed))
        .execute(&mut *connection)
        .await?
        .rows_affected();
        position += i64::from(inserted == 1);
        added += inserted;
    }
    Ok(added)
}
