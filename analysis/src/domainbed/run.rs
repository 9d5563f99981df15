//! A run of a DomainBed sweep.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sortie_core::metrics::Method;

/// One run of a DomainBed sweep: its identity and its records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// The name of its folder.
    pub name: String,
    /// The algorithm, such as `ERM`.
    pub algorithm: String,
    /// The dataset, such as `VLCS`.
    pub dataset: String,
    /// Indices of the held-out domains, sorted; one, or two for leave-one-domain-out pairs.
    pub test_envs: Vec<usize>,
    /// The seed of the split and, in DomainBed, the replicate.
    pub trial_seed: i64,
    /// The seed of the hyper-parameters; 0 for the default ones. Their values are never compared.
    pub hparams_seed: i64,
    /// The seed of everything else, where the records have it.
    pub seed: Option<i64>,
    /// The hyper-parameters, by name.
    pub hparams: Map<String, Value>,
    /// The names of those that the command line set.
    pub set_hparams: BTreeSet<String>,
    /// The records in the order in which they were written, those that repeat a step included: DomainBed counts each.
    pub records: Vec<Record>,
    /// The records of other models of the trajectory, as the paper's reference code writes them beside its own.
    pub others: BTreeMap<Method, Vec<Record>>,
    /// Whether the run has recorded its end.
    pub done: bool,
    /// The trial of Sortie's that it was, where `sortie export` wrote it.
    pub origin: Option<Origin>,
}

/// A trial that was exported. To DomainBed's collector it has other names and numbers, which tell all of them apart there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its algorithm.
    pub algorithm: String,
    /// Its value on the axis `hparams_seed`, which imported sweeps have; else 0.
    pub hparams_seed: i64,
    /// The seed of its split.
    pub split: i64,
    /// The model of its trajectory.
    pub method: Method,
    /// The domains, in the order of the records' `env0`, `env1`, ...
    pub domains: Vec<String>,
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

/// The records of a run: for each step the first that has an accuracy, and the others with their places, counted from 0.
pub(super) struct SortedRecords<'a> {
    pub(super) evaluations: Vec<&'a Record>,
    pub(super) further: Vec<(usize, &'a Record)>,
}

impl<'a> SortedRecords<'a> {
    pub(super) fn of(records: &'a [Record]) -> Self {
        let (mut evaluations, mut further, mut steps) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (place, record) in records.iter().enumerate() {
            if record.measures() && steps.insert(record.step) {
                evaluations.push(record);
            } else {
                further.push((place, record));
            }
        }
        Self { evaluations, further }
    }
}

impl Record {
    /// Whether it has any accuracy.
    pub(super) fn measures(&self) -> bool {
        self.in_acc.iter().chain(&self.out_acc).any(|accuracy| *accuracy != MISSING)
    }
}

impl Run {
    /// The records of each model of the trajectory.
    pub(super) fn models(&self) -> impl Iterator<Item = (Method, &Vec<Record>)> {
        let others = self.others.iter().map(|(method, records)| (*method, records));
        std::iter::once((Method::Plain, &self.records)).chain(others)
    }

    /// How many records repeat a step, and how many of these say something else than the first.
    pub fn repeated(&self) -> (usize, usize) {
        let (mut repeated, mut contradicted) = (0, 0);
        for (_, records) in self.models() {
            let mut first: BTreeMap<i64, &Record> = BTreeMap::new();
            for record in records {
                let known = *first.entry(record.step).or_insert(record);
                repeated += usize::from(!std::ptr::eq(known, record));
                contradicted += usize::from(known != record);
            }
        }
        (repeated, contradicted)
    }
}
