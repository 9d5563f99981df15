//! How a sweep is extended: by more seeds, or by a second submission under its name.

use std::collections::{BTreeMap, BTreeSet};

use super::axis::{Axis, union};
use super::combine::{add_all, grown};
use super::differences::differences;
use super::error::{Change, SpecError, wrong};
use super::grid::size;
use super::random;
use super::sweep::{Grid, SweepSpec};
use super::train::check_all;
use super::values::{AXIS_VALUES_MAX, check_name};
use crate::combine::Combine;
use crate::trial::{PROTOCOL_VERSION, Work};

impl SweepSpec {
    /// The same sweep under another name.
    ///
    /// # Errors
    /// [`SpecError::Value`] for what is no name.
    pub fn renamed(&self, name: &str) -> Result<Self, SpecError> {
        check_name("name", name)?;
        Ok(Self { name: name.to_owned(), ..self.clone() })
    }

    /// The same sweep with this many seeds: further ones count on from the largest.
    ///
    /// # Errors
    /// [`SpecError::Value`] for fewer than there are, [`SpecError::TooLarge`] when the grid becomes too large.
    pub fn with_seeds(&self, count: u64) -> Result<Self, SpecError> {
        let own = self.grid.seeds.len() as u64;
        if count < own {
            return wrong(
                "seeds",
                count,
                format!("at least {own}, for sweep {} has so many and loses none", self.name),
            );
        }
        let mut grown = self.clone();
        let next = self.grid.seeds.iter().max().map_or(0, |seed| seed.saturating_add(1));
        // The size is checked first, so that a huge list is never made.
        grown.grid.seeds.extend(
            (next..=u64::MAX).take(usize::try_from(count - own).unwrap_or(usize::MAX).min(AXIS_VALUES_MAX)),
        );
        grown.protocol = PROTOCOL_VERSION;
        add_all(&mut grown)?;
        size(&grown)?;
        Ok(grown)
    }

    /// What a second submission under one name leads to: this specification, with the axes of both. Values that the new file no
    /// longer lists stay, since their trials may have run. Requirements, `[keep]`, `[metrics]` and `[limits]`, which change no result, are the
    /// new file's.
    ///
    /// # Errors
    /// [`SpecError::Changed`] when a fixed value differs, [`SpecError::TooLarge`] when the grid becomes too large.
    pub fn grown_by(&self, new: &Self) -> Result<Self, SpecError> {
        let mut changes = differences(self, new);
        if self.protocol != new.protocol {
            let (old, new) = (self.protocol.to_string(), new.protocol.to_string());
            changes.push(Change { key: "version of the numbers".to_owned(), old, new });
        }
        let axes = self.grown_axes(new, &mut changes);
        self.compare_held_out(new, &mut changes);
        let grid = Grid {
            axes,
            held_out: union(&self.grid.held_out, &new.grid.held_out),
            seeds: union(&self.grid.seeds, &new.grid.seeds),
            splits: union(&self.grid.splits, &new.grid.splits),
        };
        let random = random::grown(self.random.as_ref(), new.random.as_ref(), &mut changes);
        let combine = grown(self, new, &mut changes);
        if !changes.is_empty() {
            return Err(SpecError::Changed { sweep: self.name.clone(), changes });
        }
        let select = union(&self.select, &new.select);
        // A combination that only the old file had still needs its members' weights or logits.
        let needs = |needs: fn(&Combine) -> bool| combine.iter().any(needs);
        let mut keep = if needs(Combine::needs_weights) { new.keep.with_final_weights() } else { new.keep };
        keep.logits |= needs(Combine::needs_logits);
        let (name, work, require) = (self.name.clone(), self.work.clone(), new.require.clone());
        let grown = Self {
            name,
            protocol: self.protocol,
            select,
            work,
            require,
            keep,
            metrics: new.metrics.clone(),
            limits: new.limits,
            grid,
            random,
            combine,
            kill_at: self.kill_at,
            imported: self.imported.grown_by(&new.imported),
        };
        size(&grown)?;
        if let Work::Finetune(settings) = &grown.work {
            check_all(settings, &grown.grid.axes, grown.random.as_ref())?;
        }
        grown.imported.check()?;
        Ok(grown)
    }

    /// The axes of both; notes those that the two sweeps do not share, and fixed values that differ.
    fn grown_axes(&self, new: &Self, changes: &mut Vec<Change>) -> BTreeMap<String, Axis> {
        let mut axes = self.grid.axes.clone();
        let names: BTreeSet<&String> = self.grid.axes.keys().chain(new.grid.axes.keys()).collect();
        for name in names {
            let theirs = new.axis(name);
            // Trials that are there name no value of a setting that was on no axis then.
            let grown = axes.get(name).zip(theirs.as_ref()).and_then(|(own, theirs)| own.grown_by(theirs));
            let Some(grown) = grown else {
                let shown =
                    |axis: Option<Axis>| axis.map_or_else(|| "missing".to_owned(), |axis| axis.to_string());
                changes.push(Change {
                    key: self.axis_key(name),
                    old: shown(self.axis(name)),
                    new: shown(theirs),
                });
                continue;
            };
            axes.insert(name.clone(), grown);
        }
        axes
    }

    /// Whether domains are held out may not change.
    fn compare_held_out(&self, new: &Self, changes: &mut Vec<Change>) {
        if self.grid.held_out.is_empty() != new.grid.held_out.is_empty() {
            let label = |domains: &[String]| {
                if domains.is_empty() { "missing".to_owned() } else { domains.join(", ") }
            };
            changes.push(Change {
                key: "grid.held_out".to_owned(),
                old: label(&self.grid.held_out),
                new: label(&new.grid.held_out),
            });
        }
    }
}
