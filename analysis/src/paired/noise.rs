//! The noise across seeds.

use std::collections::{BTreeMap, BTreeSet};

use sortie_core::selection::mean;

use super::keys::PairSide;
use crate::collect::{Collector, TrialSummary};
use crate::metric_spec::MeasuredPair;

/// Accuracies of runs that differ only in the seed, by held-out domain, setting and split seed.
pub(super) struct SeedGroups(BTreeMap<(u32, u32, u64), Vec<MeasuredPair>>);

impl SeedGroups {
    /// Trials of equal settings.
    pub(super) fn of_settings(collector: &Collector, candidates: &[BTreeSet<usize>; 2]) -> Self {
        let ranks = collector.settings.ranks();
        let trials = candidates[0].union(&candidates[1]).map(|&index| &collector.trials[index]);
        Self::of(collector, trials.map(|trial| (ranks[trial.setting as usize], trial)))
    }

    /// The trials that each side took as its best. They may differ in their settings, since every seed has a best of its own.
    pub(super) fn of_best(collector: &Collector, sides: &[PairSide; 2]) -> Self {
        let taken = sides.iter().zip(0..).flat_map(|(side, number)| {
            side.values().flatten().map(move |&index| (number, &collector.trials[index]))
        });
        Self::of(collector, taken)
    }

    fn of<'a>(collector: &Collector, runs: impl Iterator<Item = (u32, &'a TrialSummary)>) -> Self {
        let domains = collector.names.ranks();
        let mut runs: Vec<(u32, &TrialSummary)> = runs.collect();
        runs.sort_by_key(|(_, trial)| trial.seed);
        let mut groups: BTreeMap<_, Vec<MeasuredPair>> = BTreeMap::new();
        for (setting, trial) in runs {
            let key = (domains[trial.domain as usize], setting, trial.split_seed);
            groups.entry(key).or_default().extend(trial.measured);
        }
        groups.retain(|_, group| !group.is_empty());
        Self(groups)
    }

    /// The square root of the mean variance, each group weighted by its degrees of freedom.
    pub(super) fn deviation(&self, value: fn(&MeasuredPair) -> f64) -> Option<f64> {
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
