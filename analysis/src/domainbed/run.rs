//! A run of a DomainBed sweep.

use serde_json::{Map, Value};

/// One run of a DomainBed sweep: its coordinates, and what it recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The name of its folder.
    pub name: String,
    /// Such as `ERM`.
    pub algorithm: String,
    /// Such as `VLCS`.
    pub dataset: String,
    /// Indices of the held-out domains; one, or two for leave-one-domain-out pairs.
    pub test_envs: Vec<usize>,
    /// Names the split and, in DomainBed, the replicate.
    pub trial_seed: i64,
    /// Names the hyper-parameters, whose values are never compared.
    pub hparams_seed: i64,
    /// The hyper-parameters, by name.
    pub hparams: Map<String, Value>,
    /// In the order in which they were written.
    pub records: Vec<Record>,
    /// Whether the run says that it came to its end.
    pub done: bool,
}

/// What a run recorded after one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The step.
    pub step: i64,
    /// Accuracy on the `in` split of each domain, a fraction; [`MISSING`] where it was not measured.
    pub in_acc: Vec<f64>,
    /// The same of the `out` splits.
    pub out_acc: Vec<f64>,
}

/// What stands for an accuracy that was not measured, as in the files.
pub const MISSING: f64 = -1.0;
