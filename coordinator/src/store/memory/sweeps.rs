//! Sweeps, read and written as the writer does.

use sortie_core::job::{StateName, Timestamp};
use sortie_core::keys::SweepKey;

use super::tables::{MemoryTransaction, Tables, lock_failed};
use crate::store::StoreError;
use crate::store::backend::{OpenSweep, Sizes, StoredSweepState, SweepRow, Sweeps};

impl Tables {
    pub(super) fn sizes(&self) -> Sizes {
        let there = self.sweeps.values().filter(|row| row.state != StoredSweepState::Deleted);
        there.fold(Sizes::default(), |sizes, row| Sizes {
            sweeps: sizes.sweeps + 1,
            trials: sizes.trials + row.planned,
        })
    }
}

#[tonic::async_trait]
impl Sweeps for MemoryTransaction {
    async fn open_sweeps(&mut self, count_max: u64, now: Timestamp) -> Result<Vec<OpenSweep>, StoreError> {
        let tables = &self.tables;
        let open = |sweep: &SweepRow| OpenSweep {
            id: sweep.id,
            name: sweep.spec.name.clone(),
            revision: sweep.revision,
            priority: sweep.priority,
            running: tables.count(sweep.id, StateName::Running),
            waiting: (tables.queued(sweep.id, now).count() as u64).min(count_max),
            unfinished: sweep.expanded < sweep.planned
                || [StateName::Blocked, StateName::Queued]
                    .iter()
                    .any(|state| tables.count(sweep.id, *state) > 0),
            disputes: tables.reported_pins().any(|(input, pins)| pins.dispute(&input).is_some()),
        };
        let is_open = |sweep: &&SweepRow| sweep.state == StoredSweepState::Open && !sweep.archived;
        Ok(tables.sweeps.values().filter(is_open).map(open).collect())
    }

    async fn sweep(&mut self, name: &str) -> Result<Option<SweepRow>, StoreError> {
        Ok(self.tables.named(name).cloned())
    }

    async fn sweep_by_id(&mut self, id: SweepKey) -> Result<Option<SweepRow>, StoreError> {
        Ok(self.tables.sweeps.get(&id).cloned())
    }

    async fn insert_sweep(&mut self, sweep: &SweepRow, _: Timestamp) -> Result<SweepKey, StoreError> {
        self.tables.sweeps_made += 1;
        let id = SweepKey(self.tables.sweeps_made);
        self.tables.sweeps.insert(id, SweepRow { id, ..sweep.clone() });
        Ok(id)
    }

    async fn update_sweep(&mut self, sweep: &SweepRow) -> Result<(), StoreError> {
        match self.tables.sweeps.get_mut(&sweep.id) {
            Some(row) if row.revision == sweep.revision => {
                *row = SweepRow { revision: sweep.revision + 1, ..sweep.clone() };
                Ok(())
            }
            _ => Err(lock_failed("update of a sweep")),
        }
    }

    async fn expanding(&mut self) -> Result<Option<SweepRow>, StoreError> {
        let expanding = |sweep: &&SweepRow| {
            let goes_on = matches!(sweep.state, StoredSweepState::Open | StoredSweepState::Paused);
            sweep.expanded < sweep.planned && goes_on
        };
        let key =
            |sweep: &&SweepRow| (std::cmp::Reverse(sweep.priority), sweep.planned - sweep.expanded, sweep.id);
        Ok(self.tables.sweeps.values().filter(expanding).min_by_key(key).cloned())
    }

    async fn sizes(&mut self) -> Result<Sizes, StoreError> {
        Ok(self.tables.sizes())
    }

    async fn next_position(&mut self, sweep: SweepKey) -> Result<i64, StoreError> {
        Ok(self.tables.in_sweep(sweep).last().map_or(0, |(_, trial)| trial.position + 1))
    }
}
