//! One trial: everything that decides its numbers, and the identity made of exactly that.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::named;

/// Raised whenever the numbers of a trial with an unchanged specification would change. It is part of every trial's identity.
pub const PROTOCOL_VERSION: u32 = 1;

/// A pretrained network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backbone {
    /// EfficientNet-Lite0, ImageNet, 1,280 penultimate features.
    EfficientNetLite0,
}
named!(Backbone, "backbone", { EfficientNetLite0 => "efficientnet-lite0" });

/// Which weights a trial trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finetune {
    /// All of them, BatchNorm statistics frozen (docs/protocol.md, "Model").
    Full,
}
named!(Finetune, "kind of fine-tuning", { Full => "full" });

/// The number format of the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// IEEE single precision throughout.
    Fp32,
}
named!(Precision, "precision", { Fp32 => "fp32" });

/// What the `in`/`out` split deals out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SplitBy {
    /// Single images, each domain by itself (DomainBed's way).
    Image,
    /// File stems, one permutation for all domains: the same object in another style is never on the other side of the split.
    Stem,
}
named!(SplitBy, "split unit", { Image => "image", Stem => "stem" });

/// The transform under which the `out` splits of the training domains are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutTransform {
    /// The training transform, as the paper's reference code does.
    Train,
    /// Resize only.
    Eval,
}
named!(OutTransform, "transform", { Train => "train", Eval => "eval" });

/// A dataset as a trial knows it: by name, never by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// The folder below a worker's data root.
    pub name: String,
    /// Names of the domains, sorted, at least two.
    pub domains: Vec<String>,
    /// Names of the classes, sorted, at least two.
    pub classes: Vec<String>,
    /// What the `in`/`out` split deals out.
    pub split_by: SplitBy,
}

impl DatasetSpec {
    /// The index of a domain in sorted order, which seeds its split and its batches.
    pub fn domain_index(&self, domain: &str) -> Option<usize> {
        self.domains.iter().position(|candidate| candidate == domain)
    }
}

/// What all trials of a sweep have in common and what decides their numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The images.
    pub dataset: DatasetSpec,
    /// Side of the square network input, in pixels.
    pub pixels: u32,
    /// Whether training images pass the random transform (crop, flip, colour jitter, grayscale); otherwise they are only resized.
    pub augment: bool,
    /// How the `out` splits of training domains are evaluated.
    pub out_transform: OutTransform,
    /// The pretrained network.
    pub backbone: Backbone,
    /// Which weights are trained.
    pub finetune: Finetune,
    /// Number format of the arithmetic.
    pub precision: Precision,
    /// Index of the last step: `steps + 1` updates are made (docs/protocol.md, "Optimisation").
    pub steps: u64,
    /// Images drawn from each training domain at each step.
    pub batch_per_domain: u32,
    /// Evaluations happen at steps 0, k, 2k, ... and at the last step.
    pub evaluate_every: u64,
    /// Momentum of SGD (no Nesterov).
    pub momentum: f64,
    /// The learning rate is multiplied by `gamma` at each of these steps, ascending.
    pub milestones: Vec<u64>,
    /// Factor of the learning rate at each milestone.
    pub gamma: f64,
}

/// Where a trial lies in its sweep's grid: the axes that results are grouped by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The domains that training never sees, sorted; one, or two for leave-one-domain-out pairs.
    pub held_out: Vec<String>,
    /// Dropout rate on the penultimate representation, in [0, 1).
    pub dropout: f64,
    /// Learning rate of the backbone.
    pub lr: f64,
    /// Coupled weight decay of every parameter.
    pub weight_decay: f64,
    /// Factor of the last layer's learning rate.
    pub head_lr_factor: f64,
    /// Seed of initialisation, batches, augmentation and dropout.
    pub seed: u64,
    /// Seed of the `in`/`out` split (DomainBed's trial_seed).
    pub split_seed: u64,
}

impl Point {
    /// The held-out domains as tables and filters write them: `sketch`, or `photo+sketch` for a pair.
    pub fn held_out_label(&self) -> String {
        self.held_out.join("+")
    }
}

/// Everything that decides a trial's numbers. Paths, device, threads and names of sweeps are not in it.
///
/// Built by [`crate::spec::SweepSpec`], which checks every range; stored and sent as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialSpec {
    /// What the trial shares with the rest of its sweep.
    pub settings: Settings,
    /// Its place in the grid.
    pub point: Point,
}

impl TrialSpec {
    /// The steps after whose update the model is evaluated, ascending.
    pub fn evaluation_steps(&self) -> impl Iterator<Item = u64> + '_ {
        (0..=self.settings.steps).filter(|&step| self.is_evaluation_step(step))
    }

    /// Whether the model is evaluated after the update of this step.
    pub fn is_evaluation_step(&self, step: u64) -> bool {
        step == self.settings.steps || step.is_multiple_of(self.settings.evaluate_every)
    }

    /// The backbone's learning rate at a step: `lr * gamma^(milestones reached)`.
    pub fn lr_at(&self, step: u64) -> f64 {
        let reached = self.settings.milestones.iter().filter(|&&milestone| step >= milestone).count();
        // One factor at a time, as PyTorch's MultiStepLR multiplies, so that rounding is the same.
        (0..reached).fold(self.point.lr, |lr, _| lr * self.settings.gamma)
    }

    /// The domains that are trained on, with their index in the dataset.
    pub fn training_domains(&self) -> impl Iterator<Item = (usize, &str)> {
        let domains = self.settings.dataset.domains.iter().enumerate().map(|(index, name)| (index, name.as_str()));
        domains.filter(|(_, name)| !self.is_held_out(name))
    }

    /// Whether training never sees this domain.
    pub fn is_held_out(&self, domain: &str) -> bool {
        self.point.held_out.iter().any(|held_out| held_out == domain)
    }

    /// The identity of the trial: a hash of the canonical text of its specification.
    pub fn id(&self) -> TrialId {
        let hash = blake3::hash(self.canonical().as_bytes());
        let mut id = [0_u8; TrialId::BYTES];
        id.copy_from_slice(&hash.as_bytes()[..TrialId::BYTES]);
        TrialId(id)
    }

    /// One `key=value` line per fact, in a fixed order. Floats in their shortest exact form, strings as JSON, so that neither the
    /// notation (1e-3, 0.001) nor the order of keys in a file can change a trial's identity.
    fn canonical(&self) -> String {
        // Destructured, so that a new field cannot be forgotten here.
        let Self { settings, point } = self;
        let Settings { dataset, pixels, augment, out_transform, backbone, finetune, precision, .. } = settings;
        let Settings { steps, batch_per_domain, evaluate_every, momentum, milestones, gamma, .. } = settings;
        let Point { held_out, dropout, lr, weight_decay, head_lr_factor, seed, split_seed } = point;
        let DatasetSpec { name, domains, classes, split_by } = dataset;
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn fmt::Display| {
            let _ = writeln!(text, "{key}={value}");
        };
        line("protocol", &PROTOCOL_VERSION);
        line("dataset.name", &json(name));
        line("dataset.domains", &json(domains));
        line("dataset.classes", &json(classes));
        line("dataset.split_by", split_by);
        line("pixels", pixels);
        line("augment", augment);
        line("out_transform", out_transform);
        line("backbone", backbone);
        line("finetune", finetune);
        line("precision", precision);
        line("steps", steps);
        line("batch_per_domain", batch_per_domain);
        line("evaluate_every", evaluate_every);
        line("momentum", &float(*momentum));
        line("milestones", &json(milestones));
        line("gamma", &float(*gamma));
        line("held_out", &json(held_out));
        line("dropout", &float(*dropout));
        line("lr", &float(*lr));
        line("weight_decay", &float(*weight_decay));
        line("head_lr_factor", &float(*head_lr_factor));
        line("seed", seed);
        line("split_seed", split_seed);
        text
    }
}

/// Strings and integers always encode: JSON refuses only maps with odd keys, and there are none here.
fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The shortest text that reads back as exactly this number; zero has no sign.
fn float(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:e}") }
}

/// The identity of a trial: 128 bits of BLAKE3, written as 32 hexadecimal digits. Equal specifications have equal ids, whatever
/// sweep, machine or file they come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrialId([u8; TrialId::BYTES]);

impl TrialId {
    const BYTES: usize = 16;

    /// The first eight digits: what tables show. Any unique prefix names a trial in commands.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrialId({self})")
    }
}

/// A text that is no trial id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a trial id; it must be 32 hexadecimal digits")]
pub struct BadTrialId(String);

impl FromStr for TrialId {
    type Err = BadTrialId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadTrialId(text.to_owned());
        if text.len() != 2 * Self::BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut id = [0_u8; Self::BYTES];
        for (index, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> TrialSpec {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let settings = Settings {
            dataset: DatasetSpec {
                name: "PACS".into(),
                domains: words("art_painting cartoon photo sketch"),
                classes: words("dog elephant giraffe guitar horse house person"),
                split_by: SplitBy::Image,
            },
            pixels: 224,
            augment: true,
            out_transform: OutTransform::Train,
            backbone: Backbone::EfficientNetLite0,
            finetune: Finetune::Full,
            precision: Precision::Fp32,
            steps: 10_000,
            batch_per_domain: 32,
            evaluate_every: 300,
            momentum: 0.9,
            milestones: vec![5_000, 10_000],
            gamma: 0.1,
        };
        let point =
            Point { held_out: words("sketch"), dropout: 0.9, lr: 1e-3, weight_decay: 1e-4, head_lr_factor: 1.0, seed: 0, split_seed: 0 };
        TrialSpec { settings, point }
    }

    #[test]
    fn the_identity_is_pinned() {
        // If this changes, stored results no longer match the trials that a sweep file plans.
        assert_eq!(example().id().to_string(), "94f9de813446924ef6b1cf831eaa3ef4");
    }

    #[test]
    fn an_id_reads_back_and_bad_ones_are_refused() {
        let id = example().id();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "12", "zz", &"é".repeat(16), &"g".repeat(32)] {
            assert!(bad.parse::<TrialId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_paper_schedule_is_lr_then_a_tenth_then_a_hundredth() {
        let spec = example();
        assert_eq!(spec.lr_at(4_999), 1e-3);
        assert_eq!(spec.lr_at(5_000), 1e-3 * 0.1);
        assert_eq!(spec.lr_at(9_999), 1e-3 * 0.1);
        assert_eq!(spec.lr_at(10_000), 1e-3 * 0.1 * 0.1);
    }

    #[test]
    fn the_paper_evaluates_35_times() {
        let steps: Vec<u64> = example().evaluation_steps().collect();
        assert_eq!(steps.len(), 35);
        assert_eq!((steps[0], steps[1], steps[33], steps[34]), (0, 300, 9_900, 10_000));
    }

    #[test]
    fn a_stored_specification_reads_back_exactly() {
        let mut spec = example();
        (spec.point.lr, spec.point.weight_decay) = (0.1 + 0.2, 5e-324);
        let stored = serde_json::to_string(&spec).unwrap();
        let read: TrialSpec = serde_json::from_str(&stored).unwrap();
        assert_eq!(read.id(), spec.id());
        assert_eq!(read, spec);
    }
}
