//! Fine-tuning of a pretrained network by Sortie's own trainer: what decides its numbers.

use serde::{Deserialize, Serialize};

use crate::named;
use crate::parameters::Parameters;
use crate::trial::{DatasetSpec, Point};

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

/// The axes that fine-tuning has, besides the held-out domain and the seeds, in the order in which a trial's identity lists them.
pub const AXES: [&str; 4] = ["dropout", "lr", "weight_decay", "head_lr_factor"];

/// A fine-tuning trial with its hyper-parameters as typed values: what the trainer runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneSpec {
    /// What the trial shares with the rest of its sweep.
    pub settings: Settings,
    /// Its place in the grid.
    pub point: FinetunePoint,
}

/// Where a fine-tuning trial lies in its sweep's grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetunePoint {
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

/// A point that lacks a hyper-parameter of fine-tuning, or has one that is no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trial has no number for {0}, which fine-tuning needs")]
pub struct NoParameter(pub &'static str);

impl TryFrom<&Point> for FinetunePoint {
    type Error = NoParameter;

    fn try_from(point: &Point) -> Result<Self, NoParameter> {
        let number = |name: &'static str| point.parameters.get(name).and_then(|value| value.as_number()).ok_or(NoParameter(name));
        Ok(Self {
            held_out: point.held_out.clone(),
            dropout: number("dropout")?,
            lr: number("lr")?,
            weight_decay: number("weight_decay")?,
            head_lr_factor: number("head_lr_factor")?,
            seed: point.seed,
            split_seed: point.split_seed,
        })
    }
}

impl From<&FinetunePoint> for Point {
    fn from(point: &FinetunePoint) -> Self {
        let FinetunePoint { held_out, dropout, lr, weight_decay, head_lr_factor, seed, split_seed } = point;
        let values = AXES.into_iter().zip([dropout, lr, weight_decay, head_lr_factor]);
        let parameters: Parameters = values.map(|(axis, value)| (axis.to_owned(), crate::parameters::Scalar::Number(*value))).collect();
        Self { held_out: held_out.clone(), parameters, seed: *seed, split_seed: *split_seed }
    }
}

impl FinetuneSpec {
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
}

#[cfg(test)]
mod tests {
    use crate::trial::tests::example;

    #[test]
    fn the_paper_schedule_is_lr_then_a_tenth_then_a_hundredth() {
        let spec = example().finetune().unwrap();
        assert_eq!(spec.lr_at(4_999), 1e-3);
        assert_eq!(spec.lr_at(5_000), 1e-3 * 0.1);
        assert_eq!(spec.lr_at(9_999), 1e-3 * 0.1);
        assert_eq!(spec.lr_at(10_000), 1e-3 * 0.1 * 0.1);
    }

    #[test]
    fn the_paper_evaluates_35_times() {
        let steps: Vec<u64> = example().finetune().unwrap().evaluation_steps().collect();
        assert_eq!(steps.len(), 35);
        assert_eq!((steps[0], steps[1], steps[33], steps[34]), (0, 300, 9_900, 10_000));
    }
}
