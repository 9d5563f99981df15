//! Removing sweeps that users delete.

use serde_json::json;
use sortie_core::keys::{SweepKey, TrialKey};

use super::engine::Row;
use super::statements::Dialect;
use super::transaction::{SqlTransaction, expect, rows_arg};
use crate::store::StoreError;
use crate::store::backend::{Removal, ReusingSweep};

#[tonic::async_trait]
impl Removal for SqlTransaction {
    async fn lock_trials(&mut self) -> Result<(), StoreError> {
        // On SQLite the transaction has locked the file.
        if self.dialect == Dialect::Postgres {
            self.tx.execute(self.sql().lock_trials, Vec::new()).await?;
        }
        Ok(())
    }

    async fn running(&mut self, sweep: SweepKey) -> Result<u64, StoreError> {
        let running = self.one_int(self.sql().running_of, vec![sweep.into()], "trials", "running").await?;
        Ok(running.unsigned_abs())
    }

    async fn reused_by(&mut self, sweep: SweepKey) -> Result<Vec<ReusingSweep>, StoreError> {
        let rows = self.tx.fetch(self.sql().reused_by, vec![sweep.into()]).await?;
        let reusing = |row: &Row| {
            Ok(ReusingSweep {
                name: row.text("sweeps", "name")?,
                trials: row.count("trials", "trials")?,
                members: row.count("members", "members")?,
            })
        };
        rows.iter().map(reusing).collect()
    }

    async fn deleted_sweep(&mut self) -> Result<Option<SweepKey>, StoreError> {
        let row = self.one(self.sql().deleted_sweep, Vec::new()).await?;
        row.map(|row| row.key("sweeps", "id")).transpose()
    }

    async fn remove_trials(&mut self, sweep: SweepKey, count_max: u64) -> Result<u64, StoreError> {
        let sql = self.sql();
        let rows = self.tx.fetch(sql.last_trials, vec![sweep.into(), count_max.into()]).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let trials: Vec<TrialKey> =
            rows.iter().map(|row| row.key("trials", "id")).collect::<Result<_, _>>()?;
        let list = rows_arg(trials.iter().map(|trial| json!([trial])));
        for statement in [
            sql.remove_validation,
            sql.remove_held_out,
            sql.remove_losses,
            sql.remove_artifacts,
            sql.remove_logs,
            sql.remove_attempts,
            sql.remove_events,
            // Combinations come after their members, so they go first.
            sql.remove_members,
        ] {
            self.tx.execute(statement, vec![list.clone()]).await?;
        }
        let removed = self.tx.execute(sql.remove_trials, vec![list]).await?;
        expect("removal of trials", removed, trials.len())?;
        Ok(removed)
    }

    async fn remove_sweep(&mut self, sweep: SweepKey) -> Result<(), StoreError> {
        let removed = self.tx.execute(self.sql().remove_sweep, vec![sweep.into()]).await?;
        expect("removal of a sweep", removed, 1)
    }
}
