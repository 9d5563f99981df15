//! The names of settings that a sweep may vary, and of those whose defaults follow from them.

use crate::named;

/// A setting of which a sweep file may list several values. It is an axis then, under the setting's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setting {
    /// The random transform of training images.
    Augment,
    /// The network.
    Backbone,
    /// Images of each training domain at each step.
    BatchPerDomain,
    /// Which weights are trained.
    Finetune,
    /// The rule by which gradients change weights.
    Optimizer,
    /// Side of the network input.
    Pixels,
    /// Number format of the arithmetic.
    Precision,
    /// The learning rate schedule.
    Schedule,
    /// Index of the last step.
    Steps,
    /// The pretrained weights.
    Weights,
}
named!(Setting, "setting", {
    Augment => "augment",
    Backbone => "backbone",
    BatchPerDomain => "batch_per_domain",
    Finetune => "finetune",
    Optimizer => "optimizer",
    Pixels => "pixels",
    Precision => "precision",
    Schedule => "schedule",
    Steps => "steps",
    Weights => "weights",
});

impl Setting {
    /// The setting whose values are on the axis of this name, if it is one.
    pub fn on_axis(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|setting| setting.as_str() == name)
    }

    /// Where it stands in a sweep file, as `table.key`.
    pub fn key(self) -> String {
        let table = match self {
            Self::Augment | Self::Pixels => "data",
            Self::Backbone | Self::Finetune | Self::Weights => "model",
            _ => "train",
        };
        format!("{table}.{self}")
    }
}

/// A setting that the file of a sweep does not name, and whose default follows from settings that the sweep varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Following {
    /// On, but for networks that are made for digits.
    Augment,
    /// Live from scratch in networks that have BatchNorm layers, else frozen.
    BatchNorm,
    /// That of the schedule.
    Gamma,
    /// Half of the steps, and all.
    Milestones,
    /// That of the optimizer.
    Momentum,
    /// What the backbone was made for.
    Pixels,
    /// Those of the backbone's name.
    Weights,
}
named!(Following, "setting that follows from others", {
    Augment => "augment",
    BatchNorm => "batch_norm",
    Gamma => "gamma",
    Milestones => "milestones",
    Momentum => "momentum",
    Pixels => "pixels",
    Weights => "weights",
});

impl Following {
    /// The settings that its default follows from.
    pub fn sources(self) -> &'static [Setting] {
        match self {
            Self::Augment | Self::Pixels => &[Setting::Backbone],
            Self::BatchNorm | Self::Weights => &[Setting::Backbone, Setting::Finetune],
            Self::Gamma => &[Setting::Schedule],
            Self::Milestones => &[Setting::Schedule, Setting::Steps],
            Self::Momentum => &[Setting::Optimizer],
        }
    }
}
