//! A sweep: what a user's file says, checked and made exact.
//!
//! [`mod@file`] reads the TOML strictly; this module checks every value, names what is wrong in one line, and turns the file into a
//! [`SweepSpec`], from which [`crate::grid`] plans trials.

mod axis;
mod check;
pub mod file;

use serde::{Deserialize, Serialize};

pub use axis::Axis;

use crate::selection::Selection;
use crate::trial::{DatasetSpec, Settings};

/// A sweep file, checked: every trial that it plans can run as far as the file alone can tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepSpec {
    /// The name by which commands know the sweep.
    pub name: String,
    /// The selection methods whose trials the sweep plans.
    pub select: Vec<Selection>,
    /// What all its trials share.
    pub settings: Settings,
    /// What differs between them.
    pub grid: Grid,
}

/// The axes of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Dropout rates.
    pub dropout: Axis,
    /// Learning rates of the backbone.
    pub lr: Axis,
    /// Weight decays.
    pub weight_decay: Axis,
    /// Factors of the last layer's learning rate.
    pub head_lr_factor: Axis,
    /// Held-out domains, one trial each.
    pub held_out: Vec<String>,
    /// Seeds of initialisation, batches, augmentation and dropout.
    pub seeds: Vec<u64>,
    /// Seeds of the `in`/`out` split.
    pub splits: Vec<u64>,
}

/// Why a sweep was refused, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text is no TOML, or has a key or a type that no sweep file has.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A value is out of its range.
    #[error("{key} = {value} is not allowed: {allowed}")]
    Value {
        /// The key, as `table.key`.
        key: &'static str,
        /// The value, as a user would write it.
        value: String,
        /// What would be right.
        allowed: String,
    },
    /// The dataset is not in the catalogue, and nothing says what it holds.
    #[error(
        "data.dataset = {name:?} is not in the built-in catalogue ({known}): list `domains` and `classes` under [data], or pass --data ROOT to read them from ROOT/{name}"
    )]
    UnknownDataset {
        /// The dataset's name.
        name: String,
        /// The catalogue's names.
        known: String,
    },
    /// The same name was submitted before with other values of keys that are no axes.
    #[error("sweep {sweep:?} exists with other fixed values: {}; give the new one another name", list(changes))]
    Changed {
        /// The sweep's name.
        sweep: String,
        /// What differs.
        changes: Vec<Change>,
    },
}

/// A fixed value that differs from the stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, as commands and tables name it.
    pub key: String,
    /// Its stored value.
    pub old: String,
    /// Its value in the file.
    pub new: String,
}

fn list(changes: &[Change]) -> String {
    let one = |Change { key, old, new }: &Change| format!("{key} is {old} there and {new} here");
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl SweepSpec {
    /// Reads a sweep file. `discovered` is what a folder of images told of a dataset that the file only names.
    ///
    /// # Errors
    /// [`SpecError`], one line that names the key, the value and what is allowed.
    pub fn parse(text: &str, discovered: Option<&DatasetSpec>) -> Result<Self, SpecError> {
        check::sweep(file::SweepFile::parse(text)?, discovered)
    }

    /// What a second submission under one name leads to: this specification, with the axes of both. Values that the new file no
    /// longer lists stay, since their trials may have run.
    ///
    /// # Errors
    /// [`SpecError::Changed`] when a fixed value differs.
    pub fn grown_by(&self, new: &Self) -> Result<Self, SpecError> {
        let mut changes = check::differences(&self.settings, &new.settings);
        let mut axis = |key: &str, old: &Axis, new: &Axis| {
            old.grown_by(new).unwrap_or_else(|| {
                changes.push(Change { key: format!("grid.{key}"), old: old.to_string(), new: new.to_string() });
                old.clone()
            })
        };
        let grid = Grid {
            dropout: axis("dropout", &self.grid.dropout, &new.grid.dropout),
            lr: axis("lr", &self.grid.lr, &new.grid.lr),
            weight_decay: axis("weight_decay", &self.grid.weight_decay, &new.grid.weight_decay),
            head_lr_factor: axis("head_lr_factor", &self.grid.head_lr_factor, &new.grid.head_lr_factor),
            held_out: axis::union(&self.grid.held_out, &new.grid.held_out),
            seeds: axis::union(&self.grid.seeds, &new.grid.seeds),
            splits: axis::union(&self.grid.splits, &new.grid.splits),
        };
        if !changes.is_empty() {
            return Err(SpecError::Changed { sweep: self.name.clone(), changes });
        }
        let select = axis::union(&self.select, &new.select);
        Ok(Self { name: self.name.clone(), select, settings: self.settings.clone(), grid })
    }
}
