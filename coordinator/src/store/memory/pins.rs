//! The digests of inputs.

use sortie_core::inputs::{Input, InputKind, Pins};

use super::tables::{MemoryTransaction, Tables};
use crate::store::StoreError;
use crate::store::backend::Inputs;

#[tonic::async_trait]
impl Inputs for MemoryTransaction {
    async fn pins_of(&mut self, inputs: &[Input]) -> Result<Vec<(Input, Pins)>, StoreError> {
        Ok(self.tables.reported_pins().filter(|(input, _)| inputs.contains(input)).collect())
    }

    async fn pins(&mut self) -> Result<Vec<(Input, Pins)>, StoreError> {
        Ok(self.tables.reported_pins().collect())
    }
}

impl Tables {
    /// Those of every input of which any was reported.
    pub(super) fn reported_pins(&self) -> impl Iterator<Item = (Input, Pins)> {
        let pins = self.pins.iter().filter(|(_, pins)| !pins.0.is_empty());
        pins.map(|(input, pins)| (input.clone(), pins.clone()))
    }

    /// How many trials have a result that was made with one of these digests.
    pub(super) fn results_with(&self, kind: InputKind, digests: &[String]) -> u64 {
        let trials = self.trials.values().filter(|trial| !self.is_deleted(trial.sweep));
        let results = trials.filter_map(|trial| self.attempts.get(&trial.state.accepted()?));
        let fingerprints = results.map(|attempt| &attempt.fingerprint);
        let with = fingerprints.filter(|fingerprint| match kind {
            InputKind::Dataset => digests.contains(&fingerprint.dataset_digest),
            InputKind::Weights => digests.contains(&fingerprint.weights_digest),
        });
        with.count() as u64
    }
}
