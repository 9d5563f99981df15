//! Compares two settings trial by trial, and the difference with the noise across seeds.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::Table;
use serde::Serialize;
use sortie_core::combine::{COMBINE, combine_of};
use sortie_core::filter::{Filter, UnknownAxis};
use sortie_core::metrics::Method;
use sortie_core::parameters::{Parameters, Scalar};
use sortie_core::record::TrialRecord;
use sortie_core::selection::{Selection, mean};
use sortie_core::trial::{MissingClasses, Point, Work};

use crate::collect::{Collector, TrialSummary};
use crate::metric_spec::{AccuracyPair, OodSplit};
use crate::question::Question;
use crate::render::STYLE;
use crate::statistics::{Estimate, bootstrap_interval};

/// Axes of every trial that are not parameters.
const BUILT_IN: [&str; 3] = ["held_out", "seed", "split"];

/// The comparison of setting B with setting A. Accuracies are fractions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// The sweep's name.
    pub sweep: String,
    /// How the step within a run was selected.
    pub selection: Selection,
    /// The weights used.
    pub method: Method,
    /// The images on which o.o.d. accuracy was measured.
    pub ood_split: OodSplit,
    /// Whether domains may lack classes; left out of JSON where they may not.
    #[serde(skip_serializing_if = "MissingClasses::is_refuse")]
    pub missing_classes: MissingClasses,
    /// The first setting.
    pub a: String,
    /// The second setting.
    pub b: String,
    /// The number of compared units. A unit is a held-out domain with its seeds in which both settings are complete.
    pub units: usize,
    /// The number of planned units.
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
    /// The pooled standard deviation of trials that differ only in the seed; none without two such trials.
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
    /// A condition names an unknown axis.
    #[error(transparent)]
    Axis(#[from] UnknownAxis),
    /// No trial meets the conditions.
    #[error("no trial of sweep {sweep} with one held-out domain meets {setting:?}")]
    NoTrial {
        /// The sweep.
        sweep: String,
        /// The conditions.
        setting: String,
    },
    /// Several trials of one setting correspond to one trial of the other.
    #[error("{setting:?} gives no value of {axes}, and the other setting does: give one on both sides")]
    Open {
        /// The conditions.
        setting: String,
        /// The axes.
        axes: String,
    },
    /// The same, where trials of the other setting lack the axes.
    #[error("{setting:?} gives no value of {axes}, which trials of the other setting do not have: give one")]
    Lacks {
        /// The conditions.
        setting: String,
        /// The axes.
        axes: String,
    },
    /// No trial of one setting corresponds to a trial of the other.
    #[error(
        "no trial of sweep {sweep} that meets {a:?} has a counterpart that meets {b:?} and is equal in everything else"
    )]
    NoPair {
        /// The sweep.
        sweep: String,
        /// The first setting.
        a: String,
        /// The second.
        b: String,
    },
}

/// Compares two settings of records in memory; [`Collector`] does the same with a stream.
///
/// # Errors
/// As [`Collector::paired`].
pub fn paired(
    sweep: &str,
    work: &Work,
    records: &[TrialRecord],
    question: &Question,
    settings: [&Filter; 2],
) -> Result<Paired, PairedError> {
    Collector::of(sweep, work, records, question).paired(settings)
}

impl Collector {
    /// Compares the trials of two settings. The trials of a pair agree in all axes that no condition names. Differences are averaged over
    /// all axes except held-out domain and seeds, which identify a unit. Combinations take part only if a condition names `combine`; axes
    /// that they lack are then ignored.
    ///
    /// # Errors
    /// [`PairedError`] when a setting has no trials, or none with a counterpart.
    pub fn paired(mut self, [a, b]: [&Filter; 2]) -> Result<Paired, PairedError> {
        self.settle();
        let parameters: Parameters =
            self.settings.values().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
        if self.total() > 0 {
            let example = Point { held_out: Vec::new(), parameters, seed: 0, split_seed: 0 };
            a.check(&example)?;
            b.check(&example)?;
        }
        let chosen = [self.chosen(a)?, self.chosen(b)?];
        let keys = PairKeys::of(&self, a.axes().chain(b.axes()).collect(), &chosen);
        let (first, second) = (keys.side(a, &chosen[0])?, keys.side(b, &chosen[1])?);
        let units = units(&first, &second);
        if units.is_empty() {
            return Err(PairedError::NoPair { sweep: self.sweep, a: a.to_string(), b: b.to_string() });
        }
        let noise = SeedGroups::of(&self, &chosen);
        let complete: Vec<(Option<&str>, AccuracyPair)> = units
            .iter()
            .filter_map(|((domain, ..), unit)| Some((domain.map(|rank| keys.domain(rank)), (*unit)?)))
            .collect();
        let of = |value: fn(&AccuracyPair) -> f64| {
            complete.iter().map(|(_, unit)| value(unit)).collect::<Vec<f64>>()
        };
        let domains = self.domains().into_iter().filter_map(|held_out| {
            let own: Vec<AccuracyPair> = complete
                .iter()
                .filter(|(domain, _)| *domain == Some(&held_out))
                .map(|(_, unit)| *unit)
                .collect();
            let estimate =
                |value: fn(&AccuracyPair) -> f64| Estimate::of(&own.iter().map(value).collect::<Vec<_>>());
            (!own.is_empty()).then(|| DomainDifference {
                ood: estimate(|unit| unit.ood),
                iid: estimate(|unit| unit.iid),
                held_out,
            })
        });
        Ok(Paired {
            sweep: self.sweep.clone(),
            selection: self.question.selection,
            method: self.question.method,
            ood_split: self.spec.ood_split,
            missing_classes: self.missing_classes,
            a: a.to_string(),
            b: b.to_string(),
            units: complete.len(),
            planned: units.len(),
            ood: Comparison::of(&of(|unit| unit.ood), noise.deviation(|trial| trial.ood)),
            iid: Comparison::of(&of(|unit| unit.iid), noise.deviation(|trial| trial.iid)),
            domains: domains.collect(),
        })
    }

    /// The indices of the trials of a setting.
    fn chosen(&self, filter: &Filter) -> Result<BTreeSet<usize>, PairedError> {
        let names_combined = filter.axes().any(|axis| axis == COMBINE);
        let fits = |(index, trial): (usize, &TrialSummary)| {
            let (held_out, parameters) =
                (vec![self.names.value(trial.domain).clone()], self.settings.value(trial.setting));
            if combine_of(parameters).is_some() && !names_combined {
                return None;
            }
            let point = Point {
                held_out,
                parameters: parameters.clone(),
                seed: trial.seed,
                split_seed: trial.split_seed,
            };
            filter.matches(&point).then_some(index)
        };
        let chosen: BTreeSet<usize> = self.trials.iter().enumerate().filter_map(fits).collect();
        if chosen.is_empty() {
            return Err(PairedError::NoTrial { sweep: self.sweep.clone(), setting: filter.to_string() });
        }
        Ok(chosen)
    }
}

/// Ranks of the held-out domain and of the parameters on which a pair agrees, and the seeds; none for axes that a condition names.
type PairKey = (Option<u32>, u32, Option<u64>, Option<u64>);
/// The accuracies of one setting by key; none for trials without them.
type PairSide = BTreeMap<PairKey, Option<AccuracyPair>>;
/// Held-out domain and seeds, which identify a unit.
type UnitKey = (Option<u32>, Option<u64>, Option<u64>);

/// Computes the axes on which the trials of a pair agree.
struct PairKeys<'a> {
    collector: &'a Collector,
    named: BTreeSet<&'a str>,
    /// Axes that some of the trials lack.
    lacking: BTreeSet<&'a str>,
    /// By the number of a setting: the rank of its parameters on which a pair agrees.
    agreed: BTreeMap<u32, u32>,
    domain_ranks: Vec<u32>,
}

impl<'a> PairKeys<'a> {
    fn of(collector: &'a Collector, named: BTreeSet<&'a str>, chosen: &[BTreeSet<usize>; 2]) -> Self {
        let settings: BTreeSet<u32> =
            chosen.iter().flatten().map(|&index| collector.trials[index].setting).collect();
        let names = |setting: u32| collector.settings.value(setting).keys().map(String::as_str);
        let all: BTreeSet<&str> = settings.iter().flat_map(|&setting| names(setting)).collect();
        let has = |setting: u32, name: &str| collector.settings.value(setting).contains_key(name);
        let lacking: BTreeSet<&str> =
            all.into_iter().filter(|name| !settings.iter().all(|&setting| has(setting, name))).collect();
        let rest = |setting: u32| -> Vec<(&String, &Scalar)> {
            let agreed = |(name, _): &(&String, &Scalar)| {
                !named.contains(name.as_str()) && !lacking.contains(name.as_str())
            };
            collector.settings.value(setting).iter().filter(agreed).collect()
        };
        let ordered: BTreeSet<Vec<(&String, &Scalar)>> =
            settings.iter().map(|&setting| rest(setting)).collect();
        let ranks: BTreeMap<_, u32> = ordered.into_iter().zip(0..).collect();
        let agreed = settings.iter().map(|&setting| (setting, ranks[&rest(setting)])).collect();
        Self { collector, named, lacking, agreed, domain_ranks: collector.names.ranks() }
    }

    fn key(&self, trial: &TrialSummary) -> PairKey {
        let unless_named = |axis: &str, value| (!self.named.contains(axis)).then_some(value);
        let held_out = (!self.named.contains("held_out")).then(|| self.domain_ranks[trial.domain as usize]);
        (
            held_out,
            self.agreed[&trial.setting],
            unless_named("seed", trial.seed),
            unless_named("split", trial.split_seed),
        )
    }

    /// A held-out domain by its rank.
    fn domain(&self, rank: u32) -> &'a str {
        let number = self.domain_ranks.iter().position(|known| *known == rank).unwrap_or_default();
        self.collector.names.value(number as u32)
    }

    fn side(&self, filter: &Filter, chosen: &BTreeSet<usize>) -> Result<PairSide, PairedError> {
        let mut side = PairSide::new();
        for &index in chosen {
            let trial = &self.collector.trials[index];
            if side.insert(self.key(trial), trial.measured).is_some() {
                return Err(self.open(filter, chosen));
            }
        }
        Ok(side)
    }

    /// The error for several trials of one setting that correspond to one trial of the other.
    fn open(&self, filter: &Filter, chosen: &BTreeSet<usize>) -> PairedError {
        let own: BTreeSet<&str> = filter.axes().collect();
        let settings: BTreeSet<u32> =
            chosen.iter().map(|&index| self.collector.trials[index].setting).collect();
        let values = |name: &str| {
            settings
                .iter()
                .filter_map(|&setting| self.collector.settings.value(setting).get(name))
                .collect::<BTreeSet<_>>()
        };
        let varies = |name: &&str| BUILT_IN.contains(name) || values(name).len() > 1;
        let left_open = |axes: &BTreeSet<&'a str>| {
            axes.difference(&own).copied().filter(varies).collect::<Vec<_>>().join(", ")
        };
        let (setting, named) = (filter.to_string(), left_open(&self.named));
        if named.is_empty() {
            return PairedError::Lacks { setting, axes: left_open(&self.lacking) };
        }
        PairedError::Open { setting, axes: named }
    }
}

/// B minus A by held-out domain and seeds, averaged over all other axes; none if a trial is missing.
fn units(a: &PairSide, b: &PairSide) -> BTreeMap<UnitKey, Option<AccuracyPair>> {
    let mut differences: BTreeMap<UnitKey, Vec<Option<AccuracyPair>>> = BTreeMap::new();
    for (key, first) in a {
        let Some(second) = b.get(key) else { continue };
        let (held_out, _, seed, split) = *key;
        let difference =
            first.zip(*second).map(|(a, b)| AccuracyPair { iid: b.iid - a.iid, ood: b.ood - a.ood });
        differences.entry((held_out, seed, split)).or_default().push(difference);
    }
    let unit = |differences: Vec<Option<AccuracyPair>>| {
        let all: Option<Vec<AccuracyPair>> = differences.into_iter().collect();
        all.map(|all| crate::results::over_domains(&all))
    };
    differences.into_iter().map(|(key, differences)| (key, unit(differences))).collect()
}

/// Accuracies of trials that differ only in the seed, by held-out domain, setting and split seed.
struct SeedGroups(BTreeMap<(u32, u32, u64), Vec<AccuracyPair>>);

impl SeedGroups {
    fn of(collector: &Collector, chosen: &[BTreeSet<usize>; 2]) -> Self {
        let (domains, settings) = (collector.names.ranks(), collector.settings.ranks());
        let mut trials: Vec<&TrialSummary> =
            chosen[0].union(&chosen[1]).map(|&index| &collector.trials[index]).collect();
        trials.sort_by_key(|trial| trial.seed);
        let mut groups: BTreeMap<_, Vec<AccuracyPair>> = BTreeMap::new();
        for trial in trials {
            let key = (domains[trial.domain as usize], settings[trial.setting as usize], trial.split_seed);
            groups.entry(key).or_default().extend(trial.measured);
        }
        groups.retain(|_, group| !group.is_empty());
        Self(groups)
    }

    /// The square root of the mean variance, each group weighted by its degrees of freedom.
    fn deviation(&self, value: fn(&AccuracyPair) -> f64) -> Option<f64> {
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
        let count =
            |wanted: fn(f64) -> bool| differences.iter().filter(|difference| wanted(**difference)).count();
        Self {
            difference: Estimate::of(differences),
            interval: bootstrap_interval(differences),
            better: count(|difference| difference > 0.0),
            equal: count(|difference| difference == 0.0),
            worse: count(|difference| difference < 0.0),
            between_seeds,
        }
    }
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
        let Self { sweep, selection, method, missing_classes, a, b, units, planned, .. } = self;
        let model =
            if *method == Method::Plain { String::new() } else { format!(", weights used: {method}") };
        let mut text = format!(
            "sweep {sweep}{model}, selection {selection}: {b} against {a}, {units} of {planned} pairs (held-out domain and seeds) complete\n\n"
        );
        let mut table = Table::new();
        let header = [
            "points",
            "difference",
            "95% interval",
            "better",
            "equal",
            "worse",
            "SD of one run across seeds",
        ];
        table.load_style(STYLE).set_header(header).add_rows(
            [("o.o.d.", &self.ood), ("i.i.d.", &self.iid)].map(|(name, comparison)| {
                let Comparison { difference, interval, better, equal, worse, between_seeds } = comparison;
                let interval = interval.map_or_else(
                    || "-".to_owned(),
                    |[low, high]| format!("{} to {}", points(low), points(high)),
                );
                let noise =
                    between_seeds.map_or_else(|| "-".to_owned(), |noise| format!("{:.1}", 100.0 * noise));
                [
                    name.to_owned(),
                    with_error(difference),
                    interval,
                    better.to_string(),
                    equal.to_string(),
                    worse.to_string(),
                    noise,
                ]
            }),
        );
        text.push_str(&format!("{}\n\n", table.trim_fmt()));
        let mut table = Table::new();
        table.load_style(STYLE).set_header(["held out", "o.o.d.", "i.i.d.", "pairs"]).add_rows(
            self.domains.iter().map(|DomainDifference { held_out, ood, iid }| {
                [held_out.clone(), with_error(ood), with_error(iid), ood.n.to_string()]
            }),
        );
        text.push_str(&format!("{}\n", table.trim_fmt()));
        let worst = self
            .domains
            .iter()
            .min_by(|a, b| a.ood.mean.unwrap_or_default().total_cmp(&b.ood.mean.unwrap_or_default()));
        if let Some(DomainDifference { held_out, ood, .. }) = worst {
            text.push_str(&format!("\nworst held-out domain: {held_out}, {}\n", with_error(ood)));
        }
        text.push_str(&format!(
            "\nselection {selection} reads {}; ± standard error over pairs; SD of one run across seeds: standard deviation of trials that differ only in the seed{}\n",
            selection.reads(),
            missing_classes.note().map(|note| format!("; {note}")).unwrap_or_default()
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
