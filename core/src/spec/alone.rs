//! The sweep file of one trial.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::sweep::{Grid, SweepSpec};
use crate::combine::{Combine, MEMBERS};
use crate::parameters::Scalar;
use crate::requirements::Requirements;
use crate::selection::Selection;
use crate::trial::{Point, SpecHash};

impl SweepSpec {
    /// A sweep file that plans this trial of the sweep, with every setting spelled out: alone; of a combination with its members, which it
    /// runs on; of a trial that holds out two domains with others, since no file plans such a pair alone. A comment says which it is.
    ///
    /// # Errors
    /// One line, where no file of this build plans the trial.
    pub fn trial_file(&self, trial: SpecHash, point: &Point) -> Result<String, String> {
        if let Some(reason) = self.outdated() {
            return Err(reason);
        }
        let alone = self.part_of_trial(trial, point);
        let text = alone.to_toml();
        let unlike = || format!("no sweep file plans trial {} of sweep {}", trial.short(), self.name);
        // What is read of the text counts: it must be the trial.
        let read = Self::parse(&text, None).map_err(|error| format!("{}: {error}", unlike()))?;
        if read != alone || !read.trials().any(|planned| planned.hash() == trial) {
            return Err(unlike());
        }
        let count = read.trials_planned().unwrap_or(u64::MAX);
        let what = if point.combine().is_some() && !read.combine.is_empty() {
            format!("A combination runs on its members: this file plans those {} trials, too.", count - 1)
        } else if count > 1 {
            format!(
                "No file holds out two domains alone: this one plans {count} trials, and this one holds out {}.",
                point.held_out_label()
            )
        } else {
            "This file plans it alone.".to_owned()
        };
        Ok(format!("# Trial {trial} of sweep {}, with every setting. {what}\n{text}", self.name))
    }

    /// The smallest part of the sweep that has this trial.
    fn part_of_trial(&self, trial: SpecHash, point: &Point) -> Self {
        let combine = point.combine().and_then(|name| self.combine.iter().find(|own| own.name == name));
        let (combine, seeds_used) = combine.map(|combine| combine.of_size(point)).unzip();
        let combine: Option<Combine> = combine;
        let over = |name: &String| combine.as_ref().and_then(|combine| combine.over.get(name));
        let mut axes = BTreeMap::new();
        // Settings have the trial's values, each in its own table.
        for (name, axis) in self.grid.axes.iter().filter(|(name, _)| self.setting_on(name).is_none()) {
            let own = |value: &&Scalar| point.parameters.get(name) == Some(*value);
            let axis = match (over(name), axis.values.iter().find(own)) {
                (Some(values), _) => Axis { values: values.clone(), fixed: false },
                // As the file wrote it.
                (None, Some(value)) => Axis::fixed(value.clone()),
                (None, None) => axis.clone(),
            };
            axes.insert(name.clone(), axis);
        }
        for name in self.random.iter().flat_map(|random| random.ranges.keys()) {
            if let Some(value) = point.parameters.get(name).filter(|_| self.setting_on(name).is_none()) {
                axes.insert(name.clone(), Axis::fixed(value.clone()));
            }
        }
        let over_seeds = combine.as_ref().is_some_and(|combine| combine.over_seeds);
        let mut seeds = if over_seeds { self.grid.seeds.clone() } else { vec![point.seed] };
        seeds.truncate(seeds_used.unwrap_or(1));
        let pair = point.held_out.len() > 1;
        let mut select = self.select.clone();
        select.retain(|selection| pair || !selection.needs_pairs());
        if select.is_empty() {
            select.push(Selection::Iid);
        }
        let held_out = point.held_out.iter().take(1).cloned().collect();
        Self {
            name: format!("trial-{}", trial.short()),
            work: self.work.at(&point.parameters).into_owned(),
            select,
            random: None,
            grid: Grid { axes, held_out, seeds, splits: vec![point.split_seed] },
            combine: combine.into_iter().collect(),
            kill_at: None,
            imported: Default::default(),
            require: Requirements { worker: None, ..self.require.clone() },
            ..self.clone()
        }
    }
}

impl Combine {
    /// The same for just the number of members that this point has, without values that no member has. Members are the first so many, the
    /// first axis varying fastest and seeds slowest. And how many of the grid's seeds the members have.
    fn of_size(&self, point: &Point) -> (Self, usize) {
        let count = point.parameters.get(MEMBERS).and_then(Scalar::as_number).unwrap_or_default() as u64;
        let mut combine = Self { members: vec![count], all: false, ..self.clone() };
        let mut rest = count.max(1);
        for values in combine.over.values_mut() {
            let used = rest.min(values.len() as u64);
            rest = rest.div_ceil(values.len().max(1) as u64);
            // Smaller than a length of a list in memory.
            values.truncate(used as usize);
        }
        // A condition may pass over seeds.
        let seeds =
            if combine.filter.is_some() { usize::MAX } else { usize::try_from(rest).unwrap_or(usize::MAX) };
        (combine, seeds)
    }
}
