//! A checked sweep, and how it is extended.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::axis::{self, Axis};
use super::error::{Change, SpecError};
use super::{check, combine, file};
use crate::combine::Combine;
use crate::keep::Keep;
use crate::requirements::Requirements;
use crate::selection::Selection;
use crate::trial::{DatasetSpec, PROTOCOL_VERSION, Work};

/// A sweep file, checked: every trial that it plans can run as far as the file alone can tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepSpec {
    /// The name by which commands know the sweep.
    pub name: String,
    /// The version of the numbers under which its trials were named: [`crate::trial::PROTOCOL_VERSION`] of the build that stored it. A
    /// build of another version would compute other numbers, so it runs none of them.
    pub protocol: u32,
    /// The selection methods whose trials the sweep plans.
    pub select: Vec<Selection>,
    /// What all its trials share.
    pub work: Work,
    /// Which workers may run them. No part of any trial's identity.
    pub require: Requirements,
    /// The artifacts that are kept of them. No part of any trial's identity.
    pub keep: Keep,
    /// What differs between them.
    pub grid: Grid,
    /// Ensembles and averages over them, which are trials too.
    #[serde(default)]
    pub combine: Vec<Combine>,
    /// For `sortie verify`: the first attempt at each trial kills itself after the update of this step.
    pub kill_at: Option<u64>,
}

/// The axes of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Every axis but the replicates below, by name.
    pub axes: BTreeMap<String, Axis>,
    /// Held-out domains, one trial each; empty only for commands that hold out none.
    pub held_out: Vec<String>,
    /// Seeds of initialisation, batches, augmentation and dropout.
    pub seeds: Vec<u64>,
    /// Seeds of the `in`/`out` split.
    pub splits: Vec<u64>,
}

impl SweepSpec {
    /// Reads a sweep file. `discovered` is what a folder of images shows of a dataset that the file only names.
    ///
    /// # Errors
    /// [`SpecError`], one line that names the key, the value and what is allowed.
    pub fn parse(text: &str, discovered: Option<&DatasetSpec>) -> Result<Self, SpecError> {
        check::sweep(file::SweepFile::parse(text)?, discovered)
    }

    /// Why this build does not run the trials that are left, in one line; none if it does.
    pub fn outdated(&self) -> Option<String> {
        let (name, theirs) = (&self.name, self.protocol);
        (theirs != PROTOCOL_VERSION).then(|| {
            format!(
                "sweep {name} was planned under version {theirs} of the numbers and this build makes version {PROTOCOL_VERSION}: submit it again under another name"
            )
        })
    }

    /// The differences between two sweeps besides their names.
    pub fn differences(&self, other: &Self) -> Vec<Change> {
        let mut changes = check::differences(&self.work, &other.work);
        let mut note = |key: &str, old: String, new: String| {
            if old != new {
                changes.push(Change { key: key.to_owned(), old, new });
            }
        };
        fn json(value: &impl Serialize) -> String {
            serde_json::to_string(value).unwrap_or_default()
        }
        note("version of the numbers", self.protocol.to_string(), other.protocol.to_string());
        note("select", json(&self.select), json(&other.select));
        note("require", json(&self.require), json(&other.require));
        note("keep", json(&self.keep), json(&other.keep));
        note("kill_at", json(&self.kill_at), json(&other.kill_at));
        let missing = || "missing".to_owned();
        let axes: BTreeSet<&String> = self.grid.axes.keys().chain(other.grid.axes.keys()).collect();
        for name in axes {
            let shown = |sweep: &Self| sweep.grid.axes.get(name).map_or_else(missing, Axis::to_string);
            note(&format!("grid.{name}"), shown(self), shown(other));
        }
        note("grid.held_out", json(&self.grid.held_out), json(&other.grid.held_out));
        note("grid.seeds", json(&self.grid.seeds), json(&other.grid.seeds));
        note("grid.splits", json(&self.grid.splits), json(&other.grid.splits));
        let combines: BTreeSet<&String> =
            self.combine.iter().chain(&other.combine).map(|combine| &combine.name).collect();
        for name in combines {
            let shown = |sweep: &Self| {
                sweep
                    .combine
                    .iter()
                    .find(|combine| combine.name == *name)
                    .map_or_else(missing, Combine::to_string)
            };
            note(&format!("combine.{name}"), shown(self), shown(other));
        }
        changes
    }

    /// The same sweep with this many seeds: further ones count on from the largest.
    ///
    /// # Errors
    /// [`SpecError::Value`] for fewer than there are, [`SpecError::TooLarge`] when the grid becomes too large.
    pub fn with_seeds(&self, count: u64) -> Result<Self, SpecError> {
        let own = self.grid.seeds.len() as u64;
        if count < own {
            return check::wrong(
                "seeds",
                count,
                format!("at least {own}, for sweep {} has so many and loses none", self.name),
            );
        }
        let mut grown = self.clone();
        let next = self.grid.seeds.iter().max().map_or(0, |seed| seed.saturating_add(1));
        // The size is checked first, so that a huge list is never made.
        grown.grid.seeds.extend(
            (next..=u64::MAX)
                .take(usize::try_from(count - own).unwrap_or(usize::MAX).min(check::AXIS_VALUES_MAX)),
        );
        grown.protocol = PROTOCOL_VERSION;
        check::size(&grown)?;
        Ok(grown)
    }

    /// What a second submission under one name leads to: this specification, with the axes of both. Values that the new file no
    /// longer lists stay, since their trials may have run. Requirements and `[keep]`, which change no result, are the new file's.
    ///
    /// # Errors
    /// [`SpecError::Changed`] when a fixed value differs, [`SpecError::TooLarge`] when the grid becomes too large.
    pub fn grown_by(&self, new: &Self) -> Result<Self, SpecError> {
        let mut changes = check::differences(&self.work, &new.work);
        if self.protocol != new.protocol {
            let (old, new) = (self.protocol.to_string(), new.protocol.to_string());
            changes.push(Change { key: "version of the numbers".to_owned(), old, new });
        }
        let axes = self.grown_axes(new, &mut changes);
        self.compare_held_out(new, &mut changes);
        let grid = Grid {
            axes,
            held_out: axis::union(&self.grid.held_out, &new.grid.held_out),
            seeds: axis::union(&self.grid.seeds, &new.grid.seeds),
            splits: axis::union(&self.grid.splits, &new.grid.splits),
        };
        let combine = combine::grown(self, new, &mut changes);
        if !changes.is_empty() {
            return Err(SpecError::Changed { sweep: self.name.clone(), changes });
        }
        let select = axis::union(&self.select, &new.select);
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
            grid,
            combine,
            kill_at: self.kill_at,
        };
        check::size(&grown)?;
        Ok(grown)
    }

    /// The axes of both; notes those that the two sweeps do not share, and fixed values that differ.
    fn grown_axes(&self, new: &Self, changes: &mut Vec<Change>) -> BTreeMap<String, Axis> {
        let mut axes = self.grid.axes.clone();
        for (name, axis) in &new.grid.axes {
            match axes.get_mut(name) {
                None => changes.push(Change {
                    key: format!("grid.{name}"),
                    old: "missing".to_owned(),
                    new: axis.to_string(),
                }),
                Some(old) => match old.grown_by(axis) {
                    None => changes.push(Change {
                        key: format!("grid.{name}"),
                        old: old.to_string(),
                        new: axis.to_string(),
                    }),
                    Some(grown) => *old = grown,
                },
            }
        }
        for (name, axis) in self.grid.axes.iter().filter(|(name, _)| !new.grid.axes.contains_key(*name)) {
            changes.push(Change {
                key: format!("grid.{name}"),
                old: axis.to_string(),
                new: "missing".to_owned(),
            });
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
