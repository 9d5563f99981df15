//! Sweeps that the writer has read already.

use std::collections::HashMap;
use std::sync::Arc;

use sortie_core::combine::Combine;
use sortie_core::inputs::Input;
use sortie_core::keep::{Keep, Needs};
use sortie_core::keys::SweepKey;
use sortie_core::limits::Limits;
use sortie_core::machine::WorkKind;
use sortie_core::plan::SpecHasher;
use sortie_core::prerequisite::Prerequisite;
use sortie_core::requirements::Requirements;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Work;

use crate::store::StoreError;
use crate::store::backend::{SweepRow, Transaction};
use crate::store::types::Reuse;

/// The facts of a sweep that do not change while its revision stays.
#[derive(Debug)]
pub(crate) struct SweepInfo {
    pub(crate) revision: i64,
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) require: Requirements,
    pub(crate) kinds: Vec<WorkKind>,
    /// What its trials read.
    pub(crate) inputs: Vec<Input>,
    pub(crate) prerequisite: Option<Prerequisite>,
    pub(crate) keep: Keep,
    pub(crate) limits: Limits,
    pub(crate) kill_at: Option<u64>,
    pub(crate) combine: Vec<Combine>,
    pub(crate) needs: Needs,
    /// Why this build runs none of its trials.
    pub(crate) outdated: Option<String>,
    pub(crate) reuse: Reuse,
    pub(crate) hasher: SpecHasher,
}

impl From<SweepRow> for SweepInfo {
    fn from(row: SweepRow) -> Self {
        let hasher = SpecHasher::of(&row.spec.work, row.spec.protocol);
        let outdated = row.spec.outdated();
        let needs = row.needs();
        let (kinds, inputs) = (row.spec.kinds(), row.spec.inputs());
        let SweepSpec { name, work, require, keep, limits, kill_at, combine, .. } = row.spec;
        Self {
            revision: row.revision,
            name,
            kinds,
            inputs,
            prerequisite: Prerequisite::of(&work),
            work,
            require,
            keep,
            limits,
            kill_at,
            combine,
            needs,
            outdated,
            reuse: row.reuse,
            hasher,
        }
    }
}

/// Sweeps that were read already.
#[derive(Debug, Default)]
pub(crate) struct SweepCache(HashMap<SweepKey, Arc<SweepInfo>>);

impl SweepCache {
    /// A sweep, at least of this revision.
    pub(crate) async fn get(
        &mut self,
        id: SweepKey,
        revision: i64,
        tx: &mut dyn Transaction,
    ) -> Result<Arc<SweepInfo>, StoreError> {
        if let Some(info) = self.0.get(&id)
            && info.revision >= revision
        {
            return Ok(Arc::clone(info));
        }
        let gone = || StoreError::Corrupt {
            table: "sweeps",
            column: "id",
            reason: format!("there is no sweep {id}"),
        };
        let row = tx.sweep_by_id(id).await?.ok_or_else(gone)?;
        let info = Arc::new(SweepInfo::from(row));
        self.0.insert(id, Arc::clone(&info));
        Ok(info)
    }
}
