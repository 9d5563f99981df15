//! A run of a DomainBed sweep.

use serde_json::{Map, Value};

/// One run of a DomainBed sweep: its identity and its records.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The name of its folder.
    pub name: String,
    /// The algorithm, such as `ERM`.
    pub algorithm: String,
    /// The dataset, such as `VLCS`.
    pub dataset: String,
    /// Indices of the held-out domains; one, or two for leave-one-domain-out pairs.
    pub test_envs: Vec<usize>,
    /// The seed of the split and, in DomainBed, the replicate.
    pub trial_seed: i64,
    /// The seed of the hyper-parameters. Their values are never compared.
    pub hparams_seed: i64,
    /// The hyper-parameters, by name.
    pub hparams: Map<String, Value>,
    /// The records in the order in which they were written.
    pub records: Vec<Record>,
    /// Whether the run has recorded its end.
    pub done: bool,
}

/// The accuracies that a run recorded after one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The step.
    pub step: i64,
    /// The accuracy on the `in` split of each domain, a fraction; [`MISSING`] if it was not measured.
    pub in_acc: Vec<f64>,
    /// The accuracy on the `out` split of each domain.
    pub out_acc: Vec<f64>,
}

/// The value for an accuracy that was not measured, as in the files.
pub const MISSING: f64 = -1.0;
