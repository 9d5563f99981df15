//! Two settings side by side, trial by trial: what differs between them beside what differs between seeds.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::Table;
use serde::Serialize;
use sortie_core::filter::{Filter, UnknownAxis};
use sortie_core::metrics::Method;
use sortie_core::random::{Purpose, stream, uniform_below};
use sortie_core::record::TrialRecord;
use sortie_core::selection::{Selection, mean};
use sortie_core::trial::{Point, Work};

use crate::axis::{Axis, AxisValue};
use crate::measure::{Measured, Meter, OodSplit, Pairs};
use crate::render::STYLE;
use crate::results::Question;
use crate::statistics::Estimate;

/// Resamples of an interval; the same every time.
const RESAMPLES: usize = 10_000;
/// The share of resamples on each side outside of an interval.
const TAIL: f64 = 0.025;
/// Fewer units than this say nothing about an interval.
const UNITS_MIN: usize = 3;

/// How setting B does against setting A. Accuracies are fractions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// The sweep's name.
    pub sweep: String,
    /// How the step within a run was chosen.
    pub selection: Selection,
    /// The model of the trajectory that was judged.
    pub method: Method,
    /// The images on which o.o.d. accuracy was measured.
    pub ood_split: OodSplit,
    /// The first setting.
    pub a: String,
    /// The second.
    pub b: String,
    /// What is compared: pairs of (held-out domain, seeds) in which both settings are complete.
    pub units: usize,
    /// How many there will be.
    pub planned: usize,
    /// O.o.d. accuracy.
    pub ood: Comparison,
    /// I.i.d. accuracy.
    pub iid: Comparison,
    /// By held-out domain, in the dataset's order.
    pub domains: Vec<DomainDifference>,
}

/// B minus A.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The mean difference over units.
    pub difference: Estimate,
    /// Its 95% interval, by resampling units; none for fewer than three.
    pub interval: Option<[f64; 2]>,
    /// Units in which B is better.
    pub better: usize,
    /// Units without a difference.
    pub equal: usize,
    /// Units in which B is worse.
    pub worse: usize,
    /// How far trials that differ in nothing but the seed lie apart: their pooled standard deviation; none without two of them.
    pub between_seeds: Option<f64>,
}

/// B minus A on one held-out domain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DomainDifference {
    /// The domain.
    pub held_out: String,
    /// O.o.d. accuracy.
    pub ood: Estimate,
    /// I.i.d. accuracy.
    pub iid: Estimate,
}

/// Why two settings cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairedError {
    /// A condition on an axis that there is not.
    #[error(transparent)]
    Axis(#[from] UnknownAxis),
    /// A setting that no trial has.
    #[error("no trial of sweep {sweep} with one held-out domain meets {setting:?}")]
    NoTrial {
        /// The sweep.
        sweep: String,
        /// The conditions.
        setting: String,
    },
    /// Several trials of one setting would be the counterpart of one trial of the other.
    #[error("{setting:?} leaves open what the other setting names ({axes}): name it on both sides")]
    Open {
        /// The conditions.
        setting: String,
        /// The axes.
        axes: String,
    },
    /// Settings whose trials have no counterpart.
    #[error("no trial of sweep {sweep} that meets {a:?} has a counterpart that meets {b:?} and is equal in everything else")]
    NoPair {
        /// The sweep.
        sweep: String,
        /// The first setting.
        a: String,
        /// The second.
        b: String,
    },
}

/// The held-out domain and the axes on which trials of a pair agree, with their values.
type Key = (String, Vec<(Axis, AxisValue)>);
/// The trials of one side by key; none where one is not measured.
type Side = BTreeMap<Key, Option<Measured>>;

/// Compares the trials of two settings. A pair agrees in everything that neither setting has a condition on; its differences are averaged
/// over whatever else the sweep varies, so that a held-out domain with one pair of seeds is one unit.
///
/// # Errors
/// [`PairedError`] when a setting has no trials, or none with a counterpart.
pub fn paired(sweep: &str, work: &Work, records: &[TrialRecord], question: &Question, [a, b]: [&Filter; 2]) -> Result<Paired, PairedError> {
    let ood_split = question.ood_split.unwrap_or_else(|| OodSplit::default_for(work));
    let meter = Meter { selection: question.selection, method: question.method, ood_split };
    let pairs = Pairs::of(records);
    if let Some(record) = records.first() {
        a.check(&record.point)?;
        b.check(&record.point)?;
    }
    let named: BTreeSet<&str> = a.axes().chain(b.axes()).collect();
    let (mut noise, mut seen) = (Noise::default(), BTreeSet::new());
    let mut side = |filter: &Filter| {
        let mut side = Side::new();
        for record in records.iter().filter(|record| record.point.held_out.len() == 1 && filter.matches(&record.point)) {
            let measured = meter.measure(record, &pairs);
            if side.insert(key(&record.point, &named), measured).is_some() {
                let own: BTreeSet<&str> = filter.axes().collect();
                let axes = named.difference(&own).copied().collect::<Vec<_>>().join(", ");
                return Err(PairedError::Open { setting: filter.to_string(), axes });
            }
            if seen.insert(record.id) {
                noise.add(&record.point, measured);
            }
        }
        if side.is_empty() {
            return Err(PairedError::NoTrial { sweep: sweep.to_owned(), setting: filter.to_string() });
        }
        Ok(side)
    };
    let (first, second) = (side(a)?, side(b)?);
    let units = units(&first, &second);
    if units.is_empty() {
        return Err(PairedError::NoPair { sweep: sweep.to_owned(), a: a.to_string(), b: b.to_string() });
    }
    let complete: Vec<(&str, Measured)> = units.iter().filter_map(|((domain, _), unit)| Some((domain.as_str(), (*unit)?))).collect();
    let of = |value: fn(&Measured) -> f64| complete.iter().map(|(_, unit)| value(unit)).collect::<Vec<f64>>();
    let domains = crate::results::domains(work, records).into_iter().filter_map(|held_out| {
        let own: Vec<Measured> = complete.iter().filter(|(domain, _)| *domain == held_out).map(|(_, unit)| *unit).collect();
        let estimate = |value: fn(&Measured) -> f64| Estimate::of(&own.iter().map(value).collect::<Vec<_>>());
        (!own.is_empty()).then(|| DomainDifference { ood: estimate(|unit| unit.ood), iid: estimate(|unit| unit.iid), held_out })
    });
    Ok(Paired {
        sweep: sweep.to_owned(),
        selection: question.selection,
        method: question.method,
        ood_split,
        a: a.to_string(),
        b: b.to_string(),
        units: complete.len(),
        planned: units.len(),
        ood: Comparison::of(&of(|unit| unit.ood), noise.deviation(|trial| trial.ood)),
        iid: Comparison::of(&of(|unit| unit.iid), noise.deviation(|trial| trial.iid)),
        domains: domains.collect(),
    })
}

fn key(point: &Point, named: &BTreeSet<&str>) -> Key {
    let parameters = point.parameters.keys().map(|name| Axis::from(name.as_str()));
    let axes = parameters.chain([Axis::Seed, Axis::Split]).filter(|axis| !named.contains(axis.as_str()));
    let held_out = if named.contains("held_out") { String::new() } else { point.held_out_label() };
    (held_out, axes.filter_map(|axis| Some((axis.clone(), axis.value(point)?))).collect())
}

/// B minus A by held-out domain and seeds, averaged over all other axes; none where a trial is missing.
fn units(a: &Side, b: &Side) -> BTreeMap<Key, Option<Measured>> {
    let mut differences: BTreeMap<Key, Vec<Option<Measured>>> = BTreeMap::new();
    for (key, first) in a {
        let Some(second) = b.get(key) else { continue };
        let (held_out, axes) = key;
        let seeds = axes.iter().filter(|(axis, _)| matches!(axis, Axis::Seed | Axis::Split)).cloned().collect();
        let difference = first.zip(*second).map(|(a, b)| Measured { iid: b.iid - a.iid, ood: b.ood - a.ood });
        differences.entry((held_out.clone(), seeds)).or_default().push(difference);
    }
    let unit = |differences: Vec<Option<Measured>>| {
        let all: Option<Vec<Measured>> = differences.into_iter().collect();
        all.map(|all| crate::results::over_domains(&all))
    };
    differences.into_iter().map(|(key, differences)| (key, unit(differences))).collect()
}

/// Trials that differ in nothing but the seed.
#[derive(Default)]
struct Noise(BTreeMap<Key, Vec<Measured>>);

impl Noise {
    fn add(&mut self, point: &Point, measured: Option<Measured>) {
        if let Some(measured) = measured {
            self.0.entry(key(point, &BTreeSet::from(["seed"]))).or_default().push(measured);
        }
    }

    /// The square root of the mean variance, each group weighted by its degrees of freedom.
    fn deviation(&self, value: fn(&Measured) -> f64) -> Option<f64> {
        let (mut squares, mut freedom) = (0.0, 0_usize);
        for group in self.0.values() {
            let values: Vec<f64> = group.iter().map(value).collect();
            let Some(centre) = mean(&values) else { continue };
            squares += values.iter().map(|value| (value - centre).powi(2)).sum::<f64>();
            freedom += values.len() - 1;
        }
        (freedom > 0).then(|| (squares / freedom as f64).sqrt())
    }
}

impl Comparison {
    fn of(differences: &[f64], between_seeds: Option<f64>) -> Self {
        let count = |wanted: fn(f64) -> bool| differences.iter().filter(|difference| wanted(**difference)).count();
        Self {
            difference: Estimate::of(differences),
            interval: interval(differences),
            better: count(|difference| difference > 0.0),
            equal: count(|difference| difference == 0.0),
            worse: count(|difference| difference < 0.0),
            between_seeds,
        }
    }
}

/// The percentile bootstrap's 95% interval of a mean.
fn interval(values: &[f64]) -> Option<[f64; 2]> {
    if values.len() < UNITS_MIN {
        return None;
    }
    let mut rng = stream(0, Purpose::Resampling, 0, 0, 0);
    let mut resample = || {
        let draws = (0..values.len()).map(|_| values[uniform_below(&mut rng, values.len() as u64) as usize]);
        draws.sum::<f64>() / values.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    means.sort_by(f64::total_cmp);
    let outside = (TAIL * RESAMPLES as f64) as usize;
    Some([means[outside], means[RESAMPLES - 1 - outside]])
}

impl Paired {
    /// The comparison as JSON, unrounded.
    pub fn json(&self) -> String {
        // Numbers and texts always encode.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The comparison for people, in points of a hundred.
    pub fn text(&self) -> String {
        let Self { sweep, selection, method, a, b, units, planned, .. } = self;
        let model = if *method == Method::Plain { String::new() } else { format!(", model {method}") };
        let mut text = format!(
            "sweep {sweep}{model}, selection {selection}: {b} against {a}, {units} of {planned} pairs (held-out domain and seeds) complete\n\n"
        );
        let mut table = Table::new();
        let header = ["points", "difference", "95% interval", "better", "equal", "worse", "between seeds"];
        table.load_style(STYLE).set_header(header).add_rows([("o.o.d.", &self.ood), ("i.i.d.", &self.iid)].map(|(name, comparison)| {
            let Comparison { difference, interval, better, equal, worse, between_seeds } = comparison;
            let interval = interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{} to {}", points(low), points(high)));
            let noise = between_seeds.map_or_else(|| "-".to_owned(), |noise| format!("{:.1}", 100.0 * noise));
            [name.to_owned(), with_error(difference), interval, better.to_string(), equal.to_string(), worse.to_string(), noise]
        }));
        text.push_str(&format!("{}\n\n", table.trim_fmt()));
        let mut table = Table::new();
        table.load_style(STYLE).set_header(["held out", "o.o.d.", "i.i.d.", "pairs"]).add_rows(
            self.domains
                .iter()
                .map(|DomainDifference { held_out, ood, iid }| [held_out.clone(), with_error(ood), with_error(iid), ood.n.to_string()]),
        );
        text.push_str(&format!("{}\n", table.trim_fmt()));
        let worst = self.domains.iter().min_by(|a, b| a.ood.mean.unwrap_or_default().total_cmp(&b.ood.mean.unwrap_or_default()));
        if let Some(DomainDifference { held_out, ood, .. }) = worst {
            text.push_str(&format!("\nworst held-out domain: {held_out}, {}\n", with_error(ood)));
        }
        text.push_str(&format!(
            "\nselection {selection} reads {}; ± standard error over pairs; between seeds: standard deviation of trials that differ in the seed alone\n",
            selection.reads()
        ));
        text
    }
}

fn points(difference: f64) -> String {
    format!("{:+.1}", 100.0 * difference)
}

fn with_error(estimate: &Estimate) -> String {
    let mean = estimate.mean.map_or_else(|| "-".to_owned(), points);
    estimate.se.map_or_else(|| mean.clone(), |se| format!("{mean} ± {:.1}", 100.0 * se))
}
