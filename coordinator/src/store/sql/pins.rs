//! The digests that machines reported for inputs.

use std::collections::BTreeMap;

use serde_json::json;
use sortie_core::inputs::{Input, InputKind, Pin, Pins};

use super::engine::{Arg, Row};
use super::statements::Statements;
use super::transaction::{SqlTransaction, expect, rows_arg};
use crate::store::StoreError;
use crate::store::backend::Inputs;

#[tonic::async_trait]
impl Inputs for SqlTransaction {
    async fn pins_of(&mut self, inputs: &[Input]) -> Result<Vec<(Input, Pins)>, StoreError> {
        let names = rows_arg(inputs.iter().map(|input| json!([input.kind, input.name])));
        read(&self.tx.fetch(self.sql().pins_of, vec![names]).await?)
    }

    async fn pins(&mut self) -> Result<Vec<(Input, Pins)>, StoreError> {
        read(&self.tx.fetch(self.sql().pins, Vec::new()).await?)
    }
}

impl SqlTransaction {
    /// Stores the digests of an input, each row if it is still as it was read.
    pub(super) async fn write_pins(
        &mut self,
        input: &Input,
        before: &Pins,
        after: &Pins,
    ) -> Result<(), StoreError> {
        let at = |pins: &Pins, place| pins.0.iter().find(|pin| pin.place == place).cloned();
        // First what goes: what comes may be alike.
        for old in before.0.iter().filter(|old| at(after, old.place).is_none()) {
            let args = key(input, old.place).into_iter().chain([old.digest.as_str().into()]);
            let touched = self.tx.execute(self.sql().remove_pin, args.collect()).await?;
            expect("removal of a pin", touched, 1)?;
        }
        for new in &after.0 {
            let Pin { place, digest, machine, confirmed, used } = new;
            let (sql, values) = match at(before, *place) {
                Some(old) if old == *new => continue,
                Some(old) => (
                    self.sql().update_pin,
                    vec![
                        digest.as_str().into(),
                        flag(*confirmed),
                        flag(*used),
                        old.digest.into(),
                        flag(old.confirmed),
                        flag(old.used),
                    ],
                ),
                None => (
                    self.sql().insert_pin,
                    vec![digest.as_str().into(), machine.as_str().into(), flag(*confirmed), flag(*used)],
                ),
            };
            let touched =
                self.tx.execute(sql, key(input, *place).into_iter().chain(values).collect()).await?;
            expect("change of a pin", touched, 1)?;
        }
        Ok(())
    }
}

impl Statements {
    /// The one that counts results made with certain digests.
    pub(super) fn results_with(&self, kind: InputKind) -> &'static str {
        match kind {
            InputKind::Dataset => self.results_with_dataset,
            InputKind::Weights => self.results_with_weights,
        }
    }
}

fn key(input: &Input, place: u64) -> [Arg; 3] {
    [input.kind.as_str().into(), input.name.as_str().into(), place.into()]
}

fn flag(is_set: bool) -> Arg {
    i64::from(is_set).into()
}

/// Rows of all inputs, by place.
pub(super) fn read(rows: &[Row]) -> Result<Vec<(Input, Pins)>, StoreError> {
    let mut all: BTreeMap<Input, Pins> = BTreeMap::new();
    for row in rows {
        let input = Input { kind: row.parsed("digests", "kind")?, name: row.text("digests", "name")? };
        all.entry(input).or_default().0.push(Pin {
            place: row.count("digests", "place")?,
            digest: row.text("digests", "digest")?,
            machine: row.text("digests", "machine")?,
            confirmed: row.int("digests", "confirmed")? != 0,
            used: row.int("digests", "used")? != 0,
        });
    }
    Ok(all.into_iter().collect())
}
