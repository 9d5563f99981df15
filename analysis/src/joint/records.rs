//! The trials of a sweep in memory.

use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;

/// A sweep with its trials, for figures and for the formats of other programs.
#[derive(Clone, Debug)]
pub struct SweepRecords {
    /// The name by which commands know it.
    pub name: String,
    /// Its specification.
    pub spec: SweepSpec,
    /// Its trials.
    pub records: Vec<TrialRecord>,
}

impl SweepRecords {
    /// A sweep with these trials.
    pub fn of(name: &str, spec: SweepSpec, records: Vec<TrialRecord>) -> Self {
        Self { name: name.to_owned(), spec, records }
    }
}
