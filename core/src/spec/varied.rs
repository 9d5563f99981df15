//! Settings that a sweep varies: its combinations of their values.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::axis::Axis;
use super::error::Change;
use super::sweep::SweepSpec;
use crate::finetune::{Following, Setting, Settings};
use crate::inputs::{Input, InputKind};
use crate::machine::WorkKind;
use crate::parameters::Parameters;
use crate::random_search::RandomSearch;
use crate::trial::Work;

/// The combinations of the values of settings.
pub(super) struct Combinations<'a> {
    axes: Vec<(&'a String, &'a Axis)>,
    /// Those of the draws, each once; without values where no setting is drawn.
    draws: Vec<Parameters>,
}

impl<'a> Combinations<'a> {
    /// Of those settings that are on these axes or are drawn.
    pub(super) fn of(axes: &'a BTreeMap<String, Axis>, random: Option<&RandomSearch>) -> Self {
        let is_setting = |name: &str| Setting::on_axis(name).is_some();
        let mut draws: Vec<Parameters> = Vec::new();
        let mut known = HashSet::new();
        for draw in random.into_iter().flat_map(|random| &random.draws) {
            let own: Parameters = draw
                .iter()
                .filter(|(name, _)| is_setting(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            if known.insert(format!("{own:?}")) {
                draws.push(own);
            }
        }
        if draws.is_empty() {
            draws.push(Parameters::new());
        }
        Self { axes: axes.iter().filter(|(name, _)| is_setting(name)).collect(), draws }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        let axes = self.axes.iter().map(|(_, axis)| axis.values.len() as u64);
        axes.fold(self.draws.len() as u64, u64::saturating_mul)
    }

    /// All of them, in order; one without values where no setting varies.
    pub(super) fn all(self) -> impl Iterator<Item = Parameters> + use<'a> {
        (0..self.count()).map(move |index| {
            let mut rest = index;
            let mut digit = |len: usize| {
                let digit = rest % len as u64;
                rest /= len as u64;
                // Smaller than a length of a list in memory.
                digit as usize
            };
            let own = self
                .axes
                .iter()
                .map(|(name, axis)| ((*name).clone(), axis.values[digit(axis.values.len())].clone()));
            let mut values: Parameters = own.collect();
            values.extend(self.draws[digit(self.draws.len())].clone());
            values
        })
    }
}

impl SweepSpec {
    /// The settings of its trials, each once, with the values by which they differ; none for a command.
    pub fn settings(&self) -> impl Iterator<Item = (Parameters, Cow<'_, Settings>)> {
        let shared = if let Work::Finetune(settings) = &self.work { Some(settings) } else { None };
        shared.into_iter().flat_map(|settings| {
            Combinations::of(&self.grid.axes, self.random.as_ref()).all().map(|values| {
                let own = settings.at(&values);
                (values, own)
            })
        })
    }

    /// What its trials read, each once: where it varies networks or weights, those of all.
    pub fn inputs(&self) -> Vec<Input> {
        let mut inputs = Input::of(&self.work);
        inputs.retain(|input| input.kind == InputKind::Dataset);
        for (_, settings) in self.settings() {
            let weights = Input { kind: InputKind::Weights, name: settings.weights.clone() };
            if !weights.name.is_empty() && !inputs.contains(&weights) {
                inputs.push(weights);
            }
        }
        inputs
    }

    /// The kinds of work that its trials are; the first is the one that a failure without a closer description is about.
    pub fn kinds(&self) -> Vec<WorkKind> {
        let mut kinds = WorkKind::of(&self.work);
        kinds.retain(|kind| !matches!(kind, WorkKind::Weights(_)));
        let weights = self.inputs().into_iter().filter(|input| input.kind == InputKind::Weights);
        kinds.extend(weights.map(|input| input.work_kind()));
        kinds
    }

    /// The setting that is on this axis, if it is one.
    pub fn setting_on(&self, axis: &str) -> Option<Setting> {
        if let Work::Finetune(_) = self.work { Setting::on_axis(axis) } else { None }
    }

    /// Where an axis stands in its file.
    pub(super) fn axis_key(&self, axis: &str) -> String {
        self.setting_on(axis).map_or_else(|| format!("grid.{axis}"), Setting::key)
    }

    /// The values of an axis; of a setting that is on no axis here, the one value that all trials have.
    pub(super) fn axis(&self, name: &str) -> Option<Axis> {
        let fixed = || match &self.work {
            Work::Finetune(settings) => {
                Setting::on_axis(name).map(|setting| Axis::fixed(setting.of(settings)))
            }
            Work::Command(_) => None,
        };
        self.grid.axes.get(name).cloned().or_else(fixed)
    }

    /// How many updates the trials of the grid make in all; none for a command whose steps are unknown. Combinations make none.
    pub fn updates_planned(&self) -> Option<u64> {
        let trials = self.grid_trials().unwrap_or(u64::MAX);
        let Work::Finetune(_) = &self.work else {
            return Some(trials.saturating_mul(self.work.steps()?.saturating_add(1)));
        };
        // Draws of one setting may be more than those of another: their mean counts.
        let (mut updates, mut combinations) = (0_u128, 0_u128);
        for (_, settings) in self.settings() {
            (updates, combinations) = (updates + u128::from(settings.steps) + 1, combinations + 1);
        }
        let planned = u128::from(trials).saturating_mul(updates) / combinations.max(1);
        Some(u64::try_from(planned).unwrap_or(u64::MAX))
    }
}

impl SweepSpec {
    /// The work of this sweep as one that leaves to defaults what `old` does, where it varies nothing that they follow from and has these
    /// defaults anyway.
    pub(super) fn following_as(&self, old: &Self) -> Work {
        let (Work::Finetune(old), Work::Finetune(settings)) = (&old.work, &self.work) else {
            return self.work.clone();
        };
        let mut own = settings.clone();
        for following in &old.following {
            let mut default = settings.clone();
            following.follow(&mut default);
            let varies =
                following.sources().iter().any(|source| self.grid.axes.contains_key(source.as_str()));
            if !varies && default == *settings {
                own.following.push(*following);
            }
        }
        own.following.sort_unstable();
        Work::Finetune(own)
    }
}

/// What differs in how settings follow from others, of two sweeps that fine-tune.
pub(super) fn following(old: &Settings, new: &Settings) -> Vec<Change> {
    let shown = |settings: &Settings, following: &Following| {
        let sources = following.sources().iter().map(|source| source.as_str()).collect::<Vec<_>>();
        if settings.following.contains(following) {
            format!("the default for each {}", sources.join(" and "))
        } else {
            "one value".to_owned()
        }
    };
    let all = Following::ALL.iter();
    let changes = all.map(|following| Change {
        key: following.as_str().to_owned(),
        old: shown(old, following),
        new: shown(new, following),
    });
    changes.filter(|change| change.old != change.new).collect()
}
