//! Compares the trials of two settings.

use std::collections::{BTreeMap, BTreeSet};

use sortie_core::combine::{COMBINE, combine_of};
use sortie_core::filter::Filter;
use sortie_core::parameters::Parameters;
use sortie_core::record::TrialRecord;
use sortie_core::trial::{Point, Work};

use super::comparison::{Comparison, DomainDifference, Paired, PairedError, SideChoice};
use super::keys::{PairKeys, PairSide, units};
use super::noise::SeedGroups;
use crate::chosen::ChoiceAxes;
use crate::collect::{Collector, TrialSummary};
use crate::metric_spec::MeasuredPair;
use crate::question::Question;
use crate::render::{combined_note, selection_note, step_note};
use crate::scale::Scale;
use crate::statistics::Estimate;

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
    /// all axes except held-out domain and seeds, which identify a unit. If the question asks for the best, each side takes its best
    /// setting of a unit instead, by what the selection method reads. Combinations take part only if a condition names `combine`; axes that
    /// they lack are then ignored.
    ///
    /// # Errors
    /// [`PairedError`] when a setting has no trials, or none with a counterpart.
    pub fn paired(mut self, [a, b]: [&Filter; 2]) -> Result<Paired, PairedError> {
        if self.holds_out_nothing() {
            return Err(PairedError::NoDomain { sweep: self.sweep });
        }
        self.settle();
        let parameters: Parameters =
            self.settings.values().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
        if self.total() > 0 {
            let example = Point { held_out: Vec::new(), parameters, seed: 0, split_seed: 0 };
            a.check(&example)?;
            b.check(&example)?;
        }
        let candidates = [self.candidates(a)?, self.candidates(b)?];
        let keys = PairKeys::of(&self, a.axes().chain(b.axes()).collect(), &candidates);
        let sides = [keys.side(a, &candidates[0])?, keys.side(b, &candidates[1])?];
        let units = units(&self, &sides);
        if units.is_empty() {
            return Err(PairedError::NoPair { sweep: self.sweep, a: a.to_string(), b: b.to_string() });
        }
        let noise = if self.question.best {
            SeedGroups::of_best(&self, &sides)
        } else {
            SeedGroups::of_settings(&self, &candidates)
        };
        // The units that are complete, by held-out domain.
        let mut complete: BTreeMap<Option<u32>, Vec<MeasuredPair>> = BTreeMap::new();
        for ((domain, ..), unit) in &units {
            complete.entry(*domain).or_default().extend(*unit);
        }
        // With the domains that have none: an interval by domain needs units of each.
        let of = |value: fn(&MeasuredPair) -> f64| -> Vec<Vec<f64>> {
            complete.values().map(|units| units.iter().map(value).collect()).collect()
        };
        let metrics = &self.question.metrics;
        let ood = Comparison::of(&of(|unit| unit.ood), noise.deviation(|trial| trial.ood), &metrics.shown);
        let iid = Comparison::of(&of(|unit| unit.iid), noise.deviation(|trial| trial.iid), &metrics.shown);
        complete.retain(|_, units| !units.is_empty());
        let names_combined = a.axes().chain(b.axes()).any(|axis| axis == COMBINE);
        let combined = names_combined.then(|| combined_note(&self.combined_steps)).flatten();
        let steps = step_note(self.question.selection, self.question.method, &metrics.selected_by)
            .into_iter()
            .chain(combined);
        Ok(Paired {
            selection: self.question.selection,
            method: self.question.method,
            best: self.question.best,
            ood_split: self.spec.ood_split,
            missing_classes: self.missing_classes,
            a: a.to_string(),
            b: b.to_string(),
            units: complete.values().map(Vec::len).sum(),
            planned: units.len(),
            ood,
            iid,
            domains: self.domain_differences(&keys, &complete),
            chosen: self.side_choices([a, b], &candidates, &sides),
            steps: steps.collect(),
            scale: Scale::of(
                &metrics.shown,
                self.trials.iter().filter_map(|trial| trial.measured).flat_map(|pair| [pair.iid, pair.ood]),
            ),
            selected_by: selection_note(self.question.selection, metrics),
            metric: metrics.shown.clone(),
            sweep: self.sweep,
        })
    }

    /// The indices of the trials that meet the conditions of a setting.
    fn candidates(&self, filter: &Filter) -> Result<BTreeSet<usize>, PairedError> {
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
        let found: BTreeSet<usize> = self.trials.iter().enumerate().filter_map(fits).collect();
        if found.is_empty() {
            return Err(PairedError::NoTrial { sweep: self.sweep.clone(), setting: filter.to_string() });
        }
        let sets = found.iter().map(|&index| self.trials[index].sweeps);
        if self.sweep_sets.values().next().is_some() && !self.is_of_one_sweep(sets) {
            return Err(PairedError::Mixed { sweeps: self.sweep.clone(), setting: filter.to_string() });
        }
        Ok(found)
    }

    /// The differences by held-out domain, in the dataset's order.
    fn domain_differences(
        &self,
        keys: &PairKeys<'_>,
        complete: &BTreeMap<Option<u32>, Vec<MeasuredPair>>,
    ) -> Vec<DomainDifference> {
        let domains = self.domains().into_iter().filter_map(|held_out| {
            let own = complete.iter().find(|(rank, _)| rank.map(|rank| keys.domain(rank)) == Some(&held_out));
            let (_, units) = own?;
            let estimate =
                |value: fn(&MeasuredPair) -> f64| Estimate::of(&units.iter().map(value).collect::<Vec<_>>());
            Some(DomainDifference {
                ood: estimate(|unit| unit.ood),
                iid: estimate(|unit| unit.iid),
                held_out,
            })
        });
        domains.collect()
    }

    /// The settings that each side took as its best; nothing if none was chosen.
    fn side_choices(
        &self,
        filters: [&Filter; 2],
        candidates: &[BTreeSet<usize>; 2],
        sides: &[PairSide; 2],
    ) -> Vec<SideChoice> {
        if !self.question.best {
            return Vec::new();
        }
        let setting = |index: &usize| self.settings.value(self.trials[*index].setting);
        let mut choices = Vec::new();
        // A setting that is compared with itself makes one choice.
        let different = if filters[0] == filters[1] { 1 } else { 2 };
        for ((filter, candidates), side) in filters.into_iter().zip(candidates).zip(sides).take(different) {
            let axes = ChoiceAxes::of(candidates.iter().map(setting), &[]);
            for held_out in self.domains() {
                let is_own = |index: &&usize| *self.names.value(self.trials[**index].domain) == held_out;
                let chosen = axes.chosen(side.values().flatten().filter(is_own).map(setting));
                if !chosen.is_empty() {
                    choices.push(SideChoice { side: filter.to_string(), held_out, chosen });
                }
            }
        }
        choices
    }
}
