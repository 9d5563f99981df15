//! Everything that decides a trial's numbers.

use serde::{Deserialize, Serialize};

use super::dataset::MissingClasses;
use super::point::Point;
use crate::combine::Combination;
use crate::command::CommandSettings;
use crate::finetune::{AXES, FinetuneSpec, NoParameter, Settings};
use crate::parameters::Scalar;

/// Raised whenever the numbers of a trial with an unchanged specification would change. It is part of every trial's identity.
pub const PROTOCOL_VERSION: u32 = 4;

/// What the trials of a sweep run; everything that they share and that decides their numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Work {
    /// Sortie's own trainer.
    Finetune(Settings),
    /// A program of the user's.
    Command(CommandSettings),
}

impl Work {
    /// The index of the last step, as far as it is known beforehand.
    pub fn steps(&self) -> Option<u64> {
        match self {
            Self::Finetune(settings) => Some(settings.steps),
            Self::Command(settings) => settings.steps,
        }
    }

    /// The domains, in the dataset's order; empty for a command that names none, whose metrics may then name any.
    pub fn domains(&self) -> &[String] {
        match self {
            Self::Finetune(settings) => &settings.dataset.domains,
            Self::Command(settings) => &settings.domains,
        }
    }

    /// The name of the pretrained weights, if the work has any.
    pub fn weights(&self) -> Option<&str> {
        match self {
            Self::Finetune(settings) => Some(settings.weights.as_str()).filter(|weights| !weights.is_empty()),
            Self::Command(_) => None,
        }
    }

    /// Whether domains of its dataset may lack classes; commands read their dataset in their own way.
    pub fn missing_classes(&self) -> MissingClasses {
        match self {
            Self::Finetune(settings) => settings.dataset.missing_classes,
            Self::Command(_) => MissingClasses::default(),
        }
    }

    /// The dataset's name, if the work has one.
    pub fn dataset(&self) -> Option<&str> {
        match self {
            Self::Finetune(settings) => Some(&settings.dataset.name),
            Self::Command(settings) => settings.dataset.as_deref(),
        }
    }
}

/// Everything that decides a trial's numbers. Paths, device, threads and names of sweeps are not in it.
///
/// Built by [`crate::spec::SweepSpec`], which checks every range; stored and sent as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialSpec {
    /// What the trial shares with the rest of its sweep.
    pub work: Work,
    /// Its place in the grid.
    pub point: Point,
    /// The trials that it combines, if it combines any.
    pub combination: Option<Combination>,
}

impl TrialSpec {
    /// The trial as the trainer runs it; none for a command. A combination trains nothing and has one model, so axes in which its members
    /// differ count as 0 there, and the trajectory's methods are left out.
    ///
    /// # Errors
    /// [`NoParameter`] when a hyper-parameter is missing.
    pub fn finetune(&self) -> Result<FinetuneSpec, NoParameter> {
        let Work::Finetune(settings) = &self.work else { return Err(NoParameter("a backbone")) };
        let (mut settings, mut point) = (settings.clone(), self.point.clone());
        if self.combination.is_some() {
            (settings.average, settings.ensemble) = (None, None);
            for axis in AXES {
                point.parameters.entry(axis.to_owned()).or_insert(Scalar::Number(0.0.into()));
            }
        }
        Ok(FinetuneSpec { settings, point: (&point).try_into()? })
    }
}
