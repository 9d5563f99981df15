//! Which machines are fit for what: read only when something is held against one, or a trial failed on one.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_core::job::Timestamp;
use sortie_core::machine::{Fault, Standing, WorkKind, is_fit};
use sortie_core::requirements::Requirements;

use crate::store::StoreError;
use crate::store::backend::{Transaction, WorkerRow};

/// The workers that are there, and what is held against machines.
#[derive(Debug)]
pub(crate) struct Fitness {
    now: Timestamp,
    live: Vec<WorkerRow>,
    faults: BTreeMap<(String, WorkKind), Fault>,
}

impl Fitness {
    /// As it is now.
    pub(crate) async fn read(
        now: Timestamp,
        silent_after: Duration,
        tx: &mut dyn Transaction,
    ) -> Result<Self, StoreError> {
        let live = tx.live_workers(now.minus(silent_after)).await?;
        let faults = tx.faults().await?;
        let faults = faults.into_iter().map(|fault| ((fault.machine.clone(), fault.kind.clone()), fault));
        Ok(Self { now, live, faults: faults.collect() })
    }

    /// Whether a live worker on a machine like this may run trials with these requirements, of these kinds.
    pub(crate) fn any_fits(
        &self,
        like_this: impl Fn(&str) -> bool,
        require: &Requirements,
        kinds: &[WorkKind],
    ) -> bool {
        let faults: Vec<Fault> = self.faults.values().cloned().collect();
        let mut workers = self.live.iter().filter(|worker| like_this(&worker.machine));
        workers.any(|worker| is_fit(worker.candidate(), require, kinds, &faults, self.now))
    }

    /// What is held against a machine for a kind of work.
    pub(crate) fn fault(&self, machine: &str, kind: &WorkKind) -> Fault {
        let known = self.faults.get(&(machine.to_owned(), kind.clone()));
        known.cloned().unwrap_or_else(|| Fault::none(machine, kind))
    }

    /// What is held against a machine, by standing.
    pub(crate) fn faults_of(&self, machine: &str, standing: Standing) -> impl Iterator<Item = &Fault> {
        let of = move |fault: &&Fault| fault.machine == machine && fault.standing(self.now) == standing;
        self.faults.values().filter(of)
    }

    /// Holds this against its machine from now on.
    pub(crate) fn note(&mut self, fault: Fault) {
        self.faults.insert((fault.machine.clone(), fault.kind.clone()), fault);
    }

    /// Forgets what was held against a machine; whether there was anything.
    pub(crate) fn clear(&mut self, machine: &str, kind: &WorkKind) -> bool {
        self.faults.remove(&(machine.to_owned(), kind.clone())).is_some()
    }
}
