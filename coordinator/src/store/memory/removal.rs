//! Removing sweeps that users delete.

use std::collections::BTreeSet;

use sortie_core::job::StateName;
use sortie_core::keys::{AttemptToken, SweepKey, TrialKey};

use super::tables::{MemoryTransaction, lock_failed};
use crate::store::StoreError;
use crate::store::backend::{Removal, ReusingSweep, StoredSweepState};

#[tonic::async_trait]
impl Removal for MemoryTransaction {
    async fn lock_trials(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn running(&mut self, sweep: SweepKey) -> Result<u64, StoreError> {
        Ok(self.tables.count(sweep, StateName::Running))
    }

    async fn reused_by(&mut self, sweep: SweepKey) -> Result<Vec<ReusingSweep>, StoreError> {
        let tables = &self.tables;
        let members: BTreeSet<TrialKey> = tables.members.values().flatten().copied().collect();
        let is_ours = |token: AttemptToken| {
            let attempt = tables.attempts.get(&token);
            attempt
                .and_then(|attempt| tables.trials.get(&attempt.trial))
                .is_some_and(|own| own.sweep == sweep)
        };
        let mut found = Vec::new();
        for row in tables.sweeps.values().filter(|row| row.id != sweep && !tables.is_deleted(row.id)) {
            let trials =
                tables.in_sweep(row.id).filter(|(_, trial)| trial.reused || trial.state.earlier().is_some());
            let ours = trials.filter(|(_, trial)| trial.state.accepted().is_some_and(is_ours));
            let ours: Vec<TrialKey> = ours.map(|(id, _)| id).collect();
            if !ours.is_empty() {
                let (name, trials) = (row.spec.name.clone(), ours.len() as u64);
                let members = ours.iter().filter(|id| members.contains(id)).count() as u64;
                found.push(ReusingSweep { name, trials, members });
            }
        }
        Ok(found)
    }

    async fn deleted_sweep(&mut self) -> Result<Option<SweepKey>, StoreError> {
        let mut sweeps = self.tables.sweeps.values();
        Ok(sweeps.find(|row| row.state == StoredSweepState::Deleted).map(|row| row.id))
    }

    async fn remove_trials(&mut self, sweep: SweepKey, count_max: u64) -> Result<u64, StoreError> {
        let tables = &mut *self.tables;
        let mut trials: Vec<TrialKey> = tables.in_sweep(sweep).map(|(id, _)| id).collect();
        trials.reverse();
        trials.truncate(usize::try_from(count_max).unwrap_or(usize::MAX));
        for id in &trials {
            let attempts: Vec<AttemptToken> = tables.attempts_of(*id).map(|(token, _)| *token).collect();
            let is_gone = |token: &AttemptToken| attempts.contains(token);
            tables.validation.retain(|key, _| !is_gone(&key.0));
            tables.held_out.retain(|key, _| !is_gone(&key.0));
            tables.losses.retain(|key, _| !is_gone(&key.0));
            tables.artifacts.retain(|key, _| !is_gone(&key.0));
            tables.logs.retain(|key, _| !is_gone(&key.0));
            tables.attempts.retain(|token, _| !is_gone(token));
            tables.events.retain(|(trial, _)| trial != id);
            tables.members.remove(id);
            if let Some(trial) = tables.trials.remove(id) {
                tables.by_id.remove(&(trial.spec_hash, sweep));
            }
        }
        Ok(trials.len() as u64)
    }

    async fn remove_sweep(&mut self, sweep: SweepKey) -> Result<(), StoreError> {
        if !self.tables.is_deleted(sweep) || self.tables.in_sweep(sweep).next().is_some() {
            return Err(lock_failed("removal of a sweep"));
        }
        self.tables.sweeps.remove(&sweep).map(drop).ok_or_else(|| lock_failed("removal of a sweep"))
    }
}
