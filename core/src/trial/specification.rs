//! Everything that decides a trial's numbers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::dataset::MissingClasses;
use super::point::Point;
use crate::combine::Combination;
use crate::command::CommandSettings;
use crate::finetune::{AXES, FinetuneSpec, Methods, NoParameter, Settings};
use crate::parameters::{Parameters, Scalar};

/// Raised whenever the numbers of a trial with an unchanged specification would change. It is part of every trial's identity.
pub const PROTOCOL_VERSION: u32 = 4;

/// What a trial runs, or what the trials of a sweep do: everything but its place in the grid that decides its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Work {
    /// Sortie's own trainer.
    Finetune(Settings),
    /// A program of the user's.
    Command(CommandSettings),
}

impl Work {
    /// The work of a trial of the sweep that has this one: settings that the sweep varies have the trial's values.
    pub fn at(&self, parameters: &Parameters) -> Cow<'_, Self> {
        match self {
            Self::Finetune(settings) => match settings.at(parameters) {
                Cow::Borrowed(_) => Cow::Borrowed(self),
                Cow::Owned(own) => Cow::Owned(Self::Finetune(own)),
            },
            Self::Command(_) => Cow::Borrowed(self),
        }
    }

    /// The index of the last step, as far as it is known beforehand.
    pub fn steps(&self) -> Option<u64> {
        match self {
            Self::Finetune(settings) => Some(settings.steps),
            Self::Command(settings) => settings.steps,
        }
    }

    /// What is evaluated beside the plain weights; none for a command, which reports what it reports.
    pub fn methods(&self) -> Option<Methods> {
        match self {
            Self::Finetune(settings) => Some(settings.methods()),
            Self::Command(_) => None,
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

    /// The names of all folders that the trial reads below the data root: the dataset's, and those of its domains and classes.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        let below = match self {
            Self::Finetune(settings) => [&settings.dataset.domains[..], &settings.dataset.classes],
            Self::Command(settings) => [&settings.domains[..], &[]],
        };
        self.dataset().into_iter().chain(below.into_iter().flatten().map(String::as_str))
    }
}

/// Everything that decides a trial's numbers. Paths, device, threads and names of sweeps are not in it.
///
/// Built by [`crate::spec::SweepSpec`], which checks every range; stored and sent as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialSpec {
    /// What it runs, with its own values of settings that its sweep varies.
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
