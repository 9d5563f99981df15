//! What submitting a file changes, before it is submitted.

use super::error::{Change, SpecError};
use super::sweep::SweepSpec;

/// What submitting a file under the name of a stored sweep makes of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Resubmission {
    /// Trials of the grid that are added.
    pub trials: u64,
    /// Combinations that are added.
    pub combinations: u64,
    /// Settings of the sweep that change, axes among them.
    pub changes: Vec<Change>,
    /// What the file does not have any more and the sweep keeps: a key, and values that it has there.
    pub kept: Vec<(String, String)>,
}

impl SweepSpec {
    /// What submitting this file adds to the stored sweep of its name, and what it leaves there.
    ///
    /// # Errors
    /// As [`SweepSpec::grown_by`].
    pub fn resubmission(&self, new: &Self) -> Result<Resubmission, SpecError> {
        let grown = self.grown_by(new)?;
        let ((trials, combinations), (grid, combined)) = (grown.sizes(), self.sizes());
        Ok(Resubmission {
            trials: trials.saturating_sub(grid),
            combinations: combinations.saturating_sub(combined),
            changes: self.differences(&grown),
            kept: self.kept_beside(new),
        })
    }

    /// How many trials its grid has, and how many combinations there are over them.
    pub fn sizes(&self) -> (u64, u64) {
        let grid = self.grid_trials().unwrap_or(u64::MAX);
        (grid, self.trials_planned().unwrap_or(u64::MAX).saturating_sub(grid))
    }

    fn kept_beside(&self, new: &Self) -> Vec<(String, String)> {
        let mut kept = Vec::new();
        let mut note = |key: String, values: Vec<String>| {
            if !values.is_empty() {
                kept.push((key, values.join(", ")));
            }
        };
        for (name, axis) in &self.grid.axes {
            let listed = new.axis(name).map(|axis| axis.values).unwrap_or_default();
            note(self.axis_key(name), missing(&axis.values, &listed));
        }
        let draws = |sweep: &Self| sweep.random.as_ref().map_or(0, |random| random.draws.len());
        if draws(self) > draws(new) {
            note("random.draws".to_owned(), vec![draws(self).to_string()]);
        }
        note("grid.held_out".to_owned(), missing(&self.grid.held_out, &new.grid.held_out));
        note("grid.seeds".to_owned(), missing(&self.grid.seeds, &new.grid.seeds));
        note("grid.splits".to_owned(), missing(&self.grid.splits, &new.grid.splits));
        note("select".to_owned(), missing(&self.select, &new.select));
        for combine in &self.combine {
            let listed = new.combine.iter().find(|other| other.name == combine.name);
            let listed = listed.map(|other| other.members.as_slice()).unwrap_or_default();
            note(format!("combine.{}.members", combine.name), missing(&combine.members, listed));
        }
        kept
    }
}

/// The values that are not listed.
fn missing<T: PartialEq + ToString>(all: &[T], listed: &[T]) -> Vec<String> {
    all.iter().filter(|value| !listed.contains(value)).map(ToString::to_string).collect()
}
