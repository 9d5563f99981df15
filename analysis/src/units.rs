//! What is averaged in a cell.

use std::collections::BTreeMap;

use sortie_core::job::StateName;

use crate::collect::TrialSummary;
use crate::metric_spec::MeasuredPair;

/// A unit of a cell: a trial, or the best of several trials with the same seeds. `M` is what is measured of it.
pub(crate) struct Unit<M> {
    pub measured: Option<M>,
    /// The score by which the best is chosen.
    pub score: f64,
    pub done: bool,
    /// The number of the setting: that of the best of several.
    pub setting: u32,
    /// Setting and seeds, which identify it within its cell. The best of several has no setting.
    pub coordinates: (Option<u32>, u64, u64),
}

impl Unit<MeasuredPair> {
    /// A trial, by the ranks of all settings.
    pub(crate) fn of(trial: &TrialSummary, ranks: &[u32]) -> Self {
        let TrialSummary { setting, state, seed, split_seed, score, measured, .. } = *trial;
        Self {
            measured,
            score,
            done: state == StateName::Succeeded,
            setting,
            coordinates: (Some(ranks[setting as usize]), seed, split_seed),
        }
    }
}

impl<M> Unit<M> {
    /// The better of two with the same seeds, or the first of equals. It has no accuracies until both are done.
    fn better(self, other: Self) -> Self {
        let (_, seed, split) = self.coordinates;
        let done = self.done && other.done;
        let is_better = other.score > self.score;
        let measured =
            self.measured.zip(other.measured).map(|(own, others)| if is_better { others } else { own });
        let setting = if is_better { other.setting } else { self.setting };
        Self { measured, score: self.score.max(other.score), done, setting, coordinates: (None, seed, split) }
    }
}

/// Takes the best of the units with the same seeds.
pub(crate) fn take_best<M>(units: &mut Vec<Unit<M>>) {
    let mut best = BTreeMap::new();
    for unit in units.drain(..) {
        let (_, seed, split) = unit.coordinates;
        let unit = Unit { coordinates: (None, seed, split), ..unit };
        let better = match best.remove(&(seed, split)) {
            Some(known) => Unit::better(known, unit),
            None => unit,
        };
        best.insert((seed, split), better);
    }
    units.extend(best.into_values());
}
