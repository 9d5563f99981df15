//! What trials need of a machine that a worker can look for before it takes one.

use std::fmt;

use crate::trial::Work;

/// At most so many are looked for by a worker at a time.
pub const PREREQUISITES_MAX: usize = 64;

/// Something that a trial needs of its machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prerequisite {
    /// The folder of this dataset below the worker's data root, or what it is made from.
    Dataset(String),
    /// This program, as the command names it.
    Program(String),
}

impl Prerequisite {
    /// Those of trials of this work. A program whose name depends on the trial is none.
    pub fn of(work: &Work) -> Option<Self> {
        match work {
            Work::Finetune(settings) => Some(Self::Dataset(settings.dataset.name.clone())),
            Work::Command(settings) => {
                let program = settings.command.first().filter(|word| !word.contains(['{', '}']));
                program.map(|program| Self::Program(program.clone()))
            }
        }
    }
}

impl fmt::Display for Prerequisite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dataset(name) => write!(f, "dataset {name}"),
            Self::Program(program) => write!(f, "program {program}"),
        }
    }
}

/// A prerequisite that a machine lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it lacks.
    pub prerequisite: Prerequisite,
    /// One line.
    pub reason: String,
}

/// What a worker found when it looked for prerequisites.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is there.
    pub has: Vec<Prerequisite>,
    /// What is not.
    pub lacks: Vec<Missing>,
}

impl Findings {
    /// Whether the worker looked for this one, and found it or not.
    pub fn know(&self, prerequisite: &Prerequisite) -> bool {
        self.has.contains(prerequisite) || self.lack(prerequisite).is_some()
    }

    /// Why the worker lacks this one.
    pub fn lack(&self, prerequisite: &Prerequisite) -> Option<&str> {
        let missing = self.lacks.iter().find(|missing| missing.prerequisite == *prerequisite);
        missing.map(|missing| missing.reason.as_str())
    }
}
