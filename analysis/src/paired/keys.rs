//! Which trial of one setting corresponds to which of the other.

use std::collections::{BTreeMap, BTreeSet};

use sortie_core::filter::Filter;
use sortie_core::parameters::Scalar;

use super::comparison::PairedError;
use crate::collect::{Collector, TrialSummary};
use crate::metric_spec::MeasuredPair;
use crate::results::over_domains;

/// Axes of every trial that are not parameters.
const BUILT_IN: [&str; 3] = ["held_out", "seed", "split"];

/// Ranks of the held-out domain and of the parameters on which a pair agrees, and the seeds; none for axes that a condition names.
pub(super) type PairKey = (Option<u32>, u32, Option<u64>, Option<u64>);
/// The index of a setting's trial by key; none while its accuracies are missing.
pub(super) type PairSide = BTreeMap<PairKey, Option<usize>>;
/// Held-out domain and seeds, which identify a unit.
pub(super) type UnitKey = (Option<u32>, Option<u64>, Option<u64>);

/// Computes the axes on which the trials of a pair agree.
pub(super) struct PairKeys<'a> {
    collector: &'a Collector,
    named: BTreeSet<&'a str>,
    /// Axes that some of the trials lack.
    lacking: BTreeSet<&'a str>,
    /// By the number of a setting: the rank of its parameters on which a pair agrees.
    agreed: BTreeMap<u32, u32>,
    domain_ranks: Vec<u32>,
}

impl<'a> PairKeys<'a> {
    pub(super) fn of(
        collector: &'a Collector,
        named: BTreeSet<&'a str>,
        candidates: &[BTreeSet<usize>; 2],
    ) -> Self {
        let settings: BTreeSet<u32> =
            candidates.iter().flatten().map(|&index| collector.trials[index].setting).collect();
        let names = |setting: u32| collector.settings.value(setting).keys().map(String::as_str);
        let all: BTreeSet<&str> = settings.iter().flat_map(|&setting| names(setting)).collect();
        let has = |setting: u32, name: &str| collector.settings.value(setting).contains_key(name);
        let lacking: BTreeSet<&str> =
            all.into_iter().filter(|name| !settings.iter().all(|&setting| has(setting, name))).collect();
        let rest = |setting: u32| -> Vec<(&String, &Scalar)> {
            // The best of several settings is taken on each side by itself: a pair agrees on no parameter.
            let agreed = |(name, _): &(&String, &Scalar)| {
                !collector.question.best && !named.contains(name.as_str()) && !lacking.contains(name.as_str())
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
    pub(super) fn domain(&self, rank: u32) -> &'a str {
        let number = self.domain_ranks.iter().position(|known| *known == rank).unwrap_or_default();
        self.collector.names.value(number as u32)
    }

    /// The trials of one side by key.
    ///
    /// # Errors
    /// [`PairedError`] when several trials have the same key and their best is not asked for.
    pub(super) fn side(
        &self,
        filter: &Filter,
        candidates: &BTreeSet<usize>,
    ) -> Result<PairSide, PairedError> {
        let mut groups: BTreeMap<PairKey, Vec<usize>> = BTreeMap::new();
        for &index in candidates {
            groups.entry(self.key(&self.collector.trials[index])).or_default().push(index);
        }
        let mut side = PairSide::new();
        for (key, group) in groups {
            let trials = &self.collector.trials;
            let unit = |index: usize| (trials[index].domain, trials[index].seed, trials[index].split_seed);
            let one_unit = group.iter().all(|&index| unit(index) == unit(group[0]));
            if group.len() > 1 && !(self.collector.question.best && one_unit) {
                return Err(self.open(filter, candidates));
            }
            // Of equals the first.
            let better = |best: usize, other: usize| {
                if trials[other].score > trials[best].score { other } else { best }
            };
            let complete = group.iter().all(|&index| trials[index].measured.is_some());
            side.insert(key, group.into_iter().reduce(better).filter(|_| complete));
        }
        Ok(side)
    }

    /// The error for several trials of one setting that correspond to one trial of the other.
    fn open(&self, filter: &Filter, candidates: &BTreeSet<usize>) -> PairedError {
        let own: BTreeSet<&str> = filter.axes().collect();
        let settings: BTreeSet<u32> =
            candidates.iter().map(|&index| self.collector.trials[index].setting).collect();
        let values = |name: &str| {
            settings
                .iter()
                .filter_map(|&setting| self.collector.settings.value(setting).get(name))
                .collect::<BTreeSet<_>>()
        };
        let best = self.collector.question.best;
        let varies = |name: &&str| BUILT_IN.contains(name) || (!best && values(name).len() > 1);
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
pub(super) fn units(
    collector: &Collector,
    [a, b]: &[PairSide; 2],
) -> BTreeMap<UnitKey, Option<MeasuredPair>> {
    let measured = |trial: &Option<usize>| collector.trials[(*trial)?].measured;
    let mut differences: BTreeMap<UnitKey, Vec<Option<MeasuredPair>>> = BTreeMap::new();
    for (key, first) in a {
        let Some(second) = b.get(key) else { continue };
        let (held_out, _, seed, split) = *key;
        let difference = measured(first)
            .zip(measured(second))
            .map(|(a, b)| MeasuredPair { iid: b.iid - a.iid, ood: b.ood - a.ood });
        differences.entry((held_out, seed, split)).or_default().push(difference);
    }
    let unit = |differences: Vec<Option<MeasuredPair>>| {
        let all: Option<Vec<MeasuredPair>> = differences.into_iter().collect();
        all.map(|all| over_domains(&all))
    };
    differences.into_iter().map(|(key, differences)| (key, unit(differences))).collect()
}
