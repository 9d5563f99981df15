//! Sortie's own trials as runs of a DomainBed sweep.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, SplitName};
use sortie_core::parameters::{Parameters, Scalar};
use sortie_core::record::TrialRecord;
use sortie_core::spec::{FurtherRecord, Imported, SkippedRun};
use sortie_core::trial::{Point, Work};

use super::registry::{DATASETS, name_of};
use super::{MISSING, Origin, Record, Run};
use crate::collect::makes;

/// The axes that become a part of the algorithm's name: Sortie's, and that of DomainBed's hyper-parameter.
const DROPOUT: [&str; 2] = ["dropout", "resnet_dropout"];
/// The axis that is the algorithm's name, where a command has one.
pub(super) const ALGORITHM: &str = "algorithm";
/// The command of imported sweeps, which is never run.
pub const IMPORTED: &str = "domainbed";
/// The axis with the number of a setting in an imported sweep.
pub(super) const HPARAMS_SEED: &str = "hparams_seed";
/// The value of an imported run on an axis that it lacks.
pub(super) const LACKING: &str = "-";
/// DomainBed's name for plain fine-tuning.
const ERM: &str = "ERM";

/// Why DomainBed's tables cannot show a sweep, in one line; none if they can.
pub fn unshown(work: &Work) -> Option<String> {
    let (dataset, domains) = (name_of(work.dataset().unwrap_or_default()), work.domains().len());
    match DATASETS.iter().find(|(name, _)| *name == dataset) {
        None => {
            Some(format!("DomainBed does not know the dataset {dataset:?}, and leaves it out of its tables"))
        }
        Some((_, labels)) if labels.len() != domains => Some(format!(
            "DomainBed's {dataset} has {} domains and this sweep's has {domains}, which its tables would show under wrong labels",
            labels.len()
        )),
        Some(_) => None,
    }
}

/// How many combinations DomainBed's formats, which hold single runs, leave out, in one line; none if there are none.
pub fn left_out(records: &[TrialRecord]) -> Option<String> {
    let combined = records.iter().filter(|record| record.point.combine().is_some()).count();
    (combined > 0).then(|| {
        format!("DomainBed has no combinations, so {combined} of {} trials are left out", records.len())
    })
}

/// One run for each succeeded trial and each method.
///
/// DomainBed takes the best hyper-parameters and averages trial seeds. So `hparams_seed` numbers the settings and `trial_seed` the pairs of
/// seed and split. The dropout rate and the method, which are to be compared, are part of the algorithm's name: `ERM dropout 0.9 average`.
/// Combinations are left out: DomainBed would treat them as settings.
///
/// The runs of a DomainBed sweep that was imported keep its own numbers, and have all their records again: `imported` holds those that no
/// trial does.
pub fn runs(work: &Work, records: &[TrialRecord], imported: &Imported) -> Vec<Run> {
    let records: Vec<&TrialRecord> =
        records.iter().filter(|record| record.point.combine().is_none()).collect();
    let numbers = RunNumbers::of(work, &records);
    let domains = domains(work, &records);
    let dataset = name_of(work.dataset().unwrap_or_default());
    let mut runs = Vec::new();
    for record in records
        .iter()
        .filter(|record| record.state == StateName::Succeeded && !record.point.held_out.is_empty())
    {
        let methods: BTreeSet<Method> =
            record.validation.iter().chain(&record.held_out).map(|row| row.method).collect();
        for method in methods {
            let env = |domain: &String| domains.iter().position(|known| known == domain);
            runs.push(Run {
                name: match makes(work, method) {
                    Some(how) => format!("{}-{method}-{}", record.id, how.replace('/', "-")),
                    None => format!("{}-{method}", record.id),
                },
                algorithm: numbers.algorithm(&record.point, method),
                dataset: dataset.to_owned(),
                test_envs: record.point.held_out.iter().filter_map(env).collect(),
                trial_seed: numbers.trial_seed(&record.point),
                hparams_seed: numbers.hparams_seed(&record.point),
                seed: i64::try_from(record.point.seed).ok(),
                hparams: hparams(work, &record.point),
                origin: Some(origin(&record.point, method, &domains)),
                records: steps(record, method, &domains, imported.further_of(&record.point, method)),
                done: true,
                ..Run::default()
            });
        }
    }
    runs
}

/// The hyper-parameters of a trial, by DomainBed's names where it has the same.
fn hparams(work: &Work, point: &Point) -> Map<String, Value> {
    let [dropout, resnet_dropout] = DROPOUT;
    let mut hparams = Map::new();
    for (name, value) in &point.parameters {
        // They have places of their own; an imported run that lacks a hyper-parameter goes on without it.
        if [ALGORITHM, HPARAMS_SEED].contains(&name.as_str()) || *value == Scalar::Text(LACKING.to_owned()) {
            continue;
        }
        let renamed = matches!(work, Work::Finetune(_)) && name == dropout;
        let name = if renamed { resnet_dropout } else { name };
        hparams.insert(name.to_owned(), plain(value));
    }
    if let Work::Finetune(settings) = work.at(&point.parameters).as_ref() {
        hparams.insert("batch_size".to_owned(), settings.batch_per_domain.into());
    }
    hparams
}

/// A value as DomainBed has it: whole numbers, such as the size of a batch, are integers.
fn plain(value: &Scalar) -> Value {
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= (1_u64 << 53) as f64;
    match value.as_number().filter(whole) {
        Some(number) => (number as i64).into(),
        None => serde_json::to_value(value).unwrap_or_default(),
    }
}

fn origin(point: &Point, method: Method, domains: &[String]) -> Origin {
    Origin {
        algorithm: base_algorithm(point),
        hparams_seed: own_hparams_seed(point),
        split: i64::try_from(point.split_seed).unwrap_or(i64::MAX),
        method,
        domains: domains.to_vec(),
    }
}

/// The algorithm without what tells its runs apart.
fn base_algorithm(point: &Point) -> String {
    point.parameters.get(ALGORITHM).map_or_else(|| ERM.to_owned(), ToString::to_string)
}

/// The number of the setting in an imported sweep; 0 in others.
fn own_hparams_seed(point: &Point) -> i64 {
    point.parameters.get(HPARAMS_SEED).and_then(Scalar::as_number).unwrap_or_default() as i64
}

/// The runs that an import skipped, for [`super::tables()`] to count: DomainBed counts their records and takes nothing from them.
pub fn skipped(work: &Work, imported: &Imported) -> Vec<Run> {
    let run = |skipped: &SkippedRun| Run {
        name: skipped.name.clone(),
        algorithm: skipped.algorithm.clone(),
        dataset: name_of(work.dataset().unwrap_or_default()).to_owned(),
        records: (0..skipped.records)
            .map(|_| Record { step: 0, in_acc: Vec::new(), out_acc: Vec::new() })
            .collect(),
        ..Run::default()
    };
    imported.skipped.iter().map(run).collect()
}

/// The dataset's domains, followed by others that a program reported.
fn domains(work: &Work, records: &[&TrialRecord]) -> Vec<String> {
    let mut domains = work.domains().to_vec();
    let rows = records.iter().flat_map(|record| record.validation.iter().chain(&record.held_out));
    let others: BTreeSet<&String> = rows
        .map(|row| &row.domain)
        .chain(records.iter().flat_map(|record| &record.point.held_out))
        .filter(|domain| !domains.contains(domain))
        .collect();
    let others: Vec<String> = others.into_iter().cloned().collect();
    domains.extend(others);
    domains
}

/// The names and seeds that identify algorithms, settings and replicates in DomainBed.
struct RunNumbers {
    /// Whether the sweep has these seeds already: it was imported, and they tell its runs apart.
    own: bool,
    settings: BTreeMap<Parameters, i64>,
    replicates: BTreeMap<(u64, u64), i64>,
}

impl RunNumbers {
    fn of(work: &Work, records: &[&TrialRecord]) -> Self {
        let imported = matches!(work, Work::Command(settings) if settings.command.first().is_some_and(|word| word == IMPORTED));
        let mut seen = BTreeSet::new();
        let own = imported
            && records.iter().filter(|record| record.state == StateName::Succeeded).all(|record| {
                let Point { held_out, parameters, split_seed, .. } = &record.point;
                seen.insert((held_out, parameters.get(ALGORITHM), parameters.get(HPARAMS_SEED), split_seed))
            });
        let settings: BTreeSet<Parameters> = records.iter().map(|record| setting(&record.point)).collect();
        let replicates: BTreeSet<(u64, u64)> =
            records.iter().map(|record| replicate(&record.point)).collect();
        Self {
            own,
            settings: settings.into_iter().zip(0..).collect(),
            replicates: replicates.into_iter().zip(0..).collect(),
        }
    }

    /// The algorithm's name; with the dropout rate, unless the sweep has DomainBed's own numbers, in which the rate is a part of the setting.
    fn algorithm(&self, point: &Point, method: Method) -> String {
        let mut name = base_algorithm(point);
        let rates = DROPOUT.iter().filter_map(|axis| point.parameters.get(*axis));
        for rate in rates.filter(|rate| !self.own && rate.as_number() != Some(0.0)) {
            name.push_str(&format!(" dropout {rate}"));
        }
        if method != Method::Plain {
            name.push_str(&format!(" {method}"));
        }
        name
    }

    fn hparams_seed(&self, point: &Point) -> i64 {
        if self.own {
            return own_hparams_seed(point);
        }
        self.settings.get(&setting(point)).copied().unwrap_or_default()
    }

    fn trial_seed(&self, point: &Point) -> i64 {
        if self.own {
            return point.split_seed as i64;
        }
        self.replicates.get(&replicate(point)).copied().unwrap_or_default()
    }
}

fn setting(point: &Point) -> Parameters {
    let mut setting = point.parameters.clone();
    setting.retain(|name, _| !DROPOUT.contains(&name.as_str()) && name != ALGORITHM);
    setting
}

fn replicate(point: &Point) -> (u64, u64) {
    (point.split_seed, point.seed)
}

/// The records of a trial, and those that an import noted, at their places.
fn steps(record: &TrialRecord, method: Method, domains: &[String], further: &[FurtherRecord]) -> Vec<Record> {
    let mut steps: BTreeMap<i64, Record> = BTreeMap::new();
    for row in record.validation.iter().chain(&record.held_out).filter(|row| row.method == method) {
        let Evaluation { step, domain, split, .. } = row;
        let Some(accuracy) = row.accuracy() else { continue };
        let Ok(step) = i64::try_from(*step) else { continue };
        let Some(env) = domains.iter().position(|known| known == domain) else { continue };
        let empty =
            || Record { step, in_acc: vec![MISSING; domains.len()], out_acc: vec![MISSING; domains.len()] };
        let record = steps.entry(step).or_insert_with(empty);
        let accuracies = match split {
            SplitName::In => &mut record.in_acc,
            SplitName::Out => &mut record.out_acc,
        };
        accuracies[env] = accuracy;
    }
    let mut records: Vec<Record> = steps.into_values().collect();
    for FurtherRecord { place, step, in_acc, out_acc } in further {
        let [in_acc, out_acc] = [in_acc, out_acc].map(|accuracies| {
            let missing = std::iter::repeat(MISSING);
            accuracies.iter().copied().chain(missing).take(domains.len()).collect()
        });
        records.insert((*place).min(records.len()), Record { step: *step, in_acc, out_acc });
    }
    records
}
