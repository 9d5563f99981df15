//! The specification of fine-tuning by Sortie's own trainer.

mod methods;
mod resolve;
mod varied;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::methods::{Average, AverageEvery, Ensemble, Methods};
pub use self::varied::{Following, Setting};
use crate::metrics::Method;
use crate::named;
use crate::parameters::Parameters;
use crate::trial::{DatasetSpec, Point};

/// The architecture of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backbone {
    /// ResNet18, 512 penultimate features.
    ResNet18,
    /// ResNet50 with torchvision's weights IMAGENET1K_V1 (the paper's "#1"), 2,048 penultimate features.
    ResNet50V1,
    /// The same network with IMAGENET1K_V2 (the paper's "#2").
    ResNet50V2,
    /// ResNet101, torchvision's IMAGENET1K_V2.
    ResNet101,
    /// ResNet152, torchvision's IMAGENET1K_V2.
    ResNet152,
    /// ViT-B/16, torchvision's IMAGENET1K_V1, 768 penultimate features.
    VitB16,
    /// ViT-L/16, torchvision's IMAGENET1K_V1, 1,024 penultimate features.
    VitL16,
    /// EfficientNet-Lite0, ImageNet, 1,280 penultimate features.
    EfficientNetLite0,
    /// EfficientNet-Lite1.
    EfficientNetLite1,
    /// EfficientNet-Lite2.
    EfficientNetLite2,
    /// DomainBed's small CNN for 28x28 digits, 128 penultimate features; there are no pretrained weights of it.
    MnistCnn,
}
named!(Backbone, "backbone", {
    ResNet18 => "resnet18",
    ResNet50V1 => "resnet50-v1",
    ResNet50V2 => "resnet50-v2",
    ResNet101 => "resnet101",
    ResNet152 => "resnet152",
    VitB16 => "vit-b-16",
    VitL16 => "vit-l-16",
    EfficientNetLite0 => "efficientnet-lite0",
    EfficientNetLite1 => "efficientnet-lite1",
    EfficientNetLite2 => "efficientnet-lite2",
    MnistCnn => "mnist-cnn",
});

impl Backbone {
    /// Side of the square input that the network was made for, in pixels.
    pub fn pixels(self) -> u32 {
        match self {
            Self::EfficientNetLite1 => 240,
            Self::EfficientNetLite2 => 260,
            Self::MnistCnn => 28,
            _ => 224,
        }
    }

    /// Whether it takes no other input size: ViT's position embeddings are made for one.
    pub fn is_of_fixed_size(self) -> bool {
        matches!(self, Self::VitB16 | Self::VitL16)
    }

    /// Whether pretrained weights exist.
    pub fn is_pretrained(self) -> bool {
        self != Self::MnistCnn
    }

    /// Whether it has BatchNorm layers, whose statistics move when it is trained from scratch.
    pub fn has_batch_norm(self) -> bool {
        !matches!(self, Self::VitB16 | Self::VitL16 | Self::MnistCnn)
    }

    /// Whether its last three blocks are convolutional and equally wide, as linear fine-tuning needs (docs/protocol.md, "Model").
    pub fn has_three_wide_blocks(self) -> bool {
        !matches!(self, Self::MnistCnn | Self::ResNet18) && !self.is_of_fixed_size()
    }
}

/// Which weights a trial trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finetune {
    /// All of them, BatchNorm statistics frozen (docs/protocol.md, "Model").
    Full,
    /// A mixture of the last three blocks' outputs and a last layer on it; the backbone stays as it is (paper, section 4.3).
    Linear,
    /// All of them, from random initial values.
    Scratch,
}
named!(Finetune, "kind of fine-tuning", { Full => "full", Linear => "linear", Scratch => "scratch" });

/// How linear fine-tuning normalises the blocks' outputs before it mixes them (docs/protocol.md, "Model").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BlockNorm {
    /// Not at all, as the reference code does; every other kind of fine-tuning has this value.
    #[default]
    None,
    /// By a BatchNorm without weight and bias, our reading of the paper's text.
    Batch,
}
named!(BlockNorm, "normalisation of the blocks", { None => "none", Batch => "batch" });

/// Which statistics the backbone's BatchNorm layers use in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BatchNorm {
    /// Those of the beginning, which never change: of the pretrained weights, or from scratch mean 0 and variance 1.
    #[default]
    Frozen,
    /// The batch's. They move running ones, which evaluation uses.
    Live,
}
named!(BatchNorm, "kind of BatchNorm", { Frozen => "frozen", Live => "live" });

/// The number format of the arithmetic. The last layer, the loss and the transforms of images are in IEEE single precision in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// IEEE single precision throughout.
    Fp32,
    /// PyTorch's defaults, which the reference code uses: a GPU may round convolutions to TF32, matrix products are in single precision. On
    /// a CPU the same as fp32.
    Reference,
    /// A GPU may round convolutions and matrix products of the backbone to TF32; on a CPU the same as fp32.
    Tf32,
    /// Weights, momentum, averages and loss in single precision, the backbone's arithmetic in bfloat16.
    Bf16,
}
named!(Precision, "precision", { Fp32 => "fp32", Reference => "reference", Tf32 => "tf32", Bf16 => "bf16" });

/// The rule by which gradients change weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Optimizer {
    /// SGD with momentum, no Nesterov, coupled weight decay.
    Sgd,
    /// Adam with coupled weight decay (L2), betas 0.9 and 0.999, epsilon 1e-8.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
}
named!(Optimizer, "optimizer", { Sgd => "sgd", Adam => "adam", AdamW => "adamw" });

/// The learning rate schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// A factor at each milestone.
    Step,
    /// Half a cosine from the full rate to zero over `steps`.
    Cosine,
}
named!(Schedule, "schedule", { Step => "step", Cosine => "cosine" });

/// How many images of a training step are computed at a time (docs/protocol.md, "Optimisation").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MicroBatch {
    /// So many, in the batch's order; the last part may be smaller.
    Images(u32),
    /// All of them, and after memory was not enough half as many.
    Auto,
}

impl fmt::Display for MicroBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images(images) => write!(f, "{images}"),
            Self::Auto => write!(f, "auto"),
        }
    }
}

/// The transform under which the `out` splits of the training domains are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutTransform {
    /// The training transform, as the paper's reference code does.
    Train,
    /// Resize only.
    Eval,
}
named!(OutTransform, "transform", { Train => "train", Eval => "eval" });

/// The settings that decide a trial's numbers. Of a sweep: what all its trials share, and the first value where its file lists several;
/// [`Settings::at`] gives those of a trial.
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
    /// Side to which images are shrunk once, before everything else, so that their longer side has at most so many pixels; none keeps
    /// them as they are.
    pub cache_pixels: Option<u32>,
    /// The network.
    pub backbone: Backbone,
    /// The name of its pretrained weights below a worker's cache; the backbone's own name unless the sweep says otherwise. Empty when a
    /// trial starts from scratch.
    pub weights: String,
    /// Which weights are trained.
    pub finetune: Finetune,
    /// Of linear fine-tuning only.
    pub block_norm: BlockNorm,
    /// Of the backbone; live only from scratch, and only of a network that has such layers.
    pub batch_norm: BatchNorm,
    /// Number format of the arithmetic.
    pub precision: Precision,
    /// Index of the last step: `steps + 1` updates are made (docs/protocol.md, "Optimisation").
    pub steps: u64,
    /// Images drawn from each training domain at each step.
    pub batch_per_domain: u32,
    /// The parts in which a step's images are computed; all at once if none.
    pub micro_batch: Option<MicroBatch>,
    /// The model is evaluated at steps 0, k, 2k, ... and at the last step.
    pub evaluate_every: u64,
    /// The rule by which gradients change weights.
    pub optimizer: Optimizer,
    /// Momentum of SGD; unused by the others.
    pub momentum: f64,
    /// The learning rate schedule.
    pub schedule: Schedule,
    /// The learning rate is multiplied by `gamma` at each of these steps, ascending; empty under the cosine schedule.
    pub milestones: Vec<u64>,
    /// Factor of the learning rate at each milestone.
    pub gamma: f64,
    /// Whether the trajectory's weights are averaged, from when on.
    pub average: Option<Average>,
    /// Whether the trajectory's logits are summed, from when on.
    pub ensemble: Option<Ensemble>,
    /// Those whose defaults follow from settings that the sweep varies; none of a trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub following: Vec<Following>,
}

impl Settings {
    /// What is evaluated beside the plain weights.
    pub fn methods(&self) -> Methods {
        Methods { average: self.average, ensemble: self.ensemble }
    }

    /// The reference code's settings (docs/protocol.md), for full fine-tuning of this network on this dataset.
    pub fn reference(dataset: DatasetSpec, backbone: Backbone) -> Self {
        Self {
            dataset,
            pixels: backbone.pixels(),
            augment: true,
            out_transform: OutTransform::Train,
            cache_pixels: None,
            backbone,
            weights: backbone.as_str().to_owned(),
            finetune: Finetune::Full,
            block_norm: BlockNorm::None,
            batch_norm: BatchNorm::Frozen,
            precision: Precision::Fp32,
            steps: 10_000,
            batch_per_domain: 32,
            micro_batch: None,
            evaluate_every: 300,
            optimizer: Optimizer::Sgd,
            momentum: 0.9,
            schedule: Schedule::Step,
            milestones: vec![5_000, 10_000],
            gamma: 0.1,
            average: None,
            ensemble: None,
            following: Vec::new(),
        }
    }
}

/// The axes that fine-tuning has, besides the held-out domain and the seeds, in the order in which a trial's identity lists them.
pub const AXES: [&str; 4] = ["dropout", "lr", "weight_decay", "head_lr_factor"];

/// A fine-tuning trial with its hyper-parameters as typed values: what the trainer runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneSpec {
    /// Its settings.
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
        let number = |name: &'static str| {
            point.parameters.get(name).and_then(|value| value.as_number()).ok_or(NoParameter(name))
        };
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
        let parameters: Parameters = values
            .map(|(axis, value)| (axis.to_owned(), crate::parameters::Scalar::Number((*value).into())))
            .collect();
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

    /// Whether the weights after this step's update enter the average.
    pub fn is_averaged(&self, step: u64) -> bool {
        let Some(Average { from, every }) = self.settings.average else { return false };
        step >= from
            && match every {
                AverageEvery::Steps(steps) => (step - from).is_multiple_of(steps),
                AverageEvery::Evaluation => self.is_evaluation_step(step),
            }
    }

    /// Whether the logits of the evaluation at this step enter the ensemble.
    pub fn is_in_ensemble(&self, step: u64) -> bool {
        self.settings.ensemble.is_some_and(|ensemble| step >= ensemble.from) && self.is_evaluation_step(step)
    }

    /// The images of a training step.
    pub fn batch(&self) -> u64 {
        u64::from(self.settings.batch_per_domain) * self.training_domains().count() as u64
    }

    /// The methods that this trial evaluates, plain first.
    pub fn methods(&self) -> Vec<Method> {
        let methods = self.settings.methods();
        Method::ALL.iter().copied().filter(|method| methods.has(*method)).collect()
    }

    /// The backbone's learning rate at a step: `lr * gamma^(milestones reached)`, or `lr * (1 + cos(pi * step / (steps + 1))) / 2`.
    pub fn lr_at(&self, step: u64) -> f64 {
        if self.settings.schedule == Schedule::Cosine {
            // PyTorch's CosineAnnealingLR with T_max = steps + 1 updates and eta_min = 0, in closed form.
            let turn = std::f64::consts::PI * step as f64 / (self.settings.steps + 1) as f64;
            return self.point.lr * (1.0 + turn.cos()) / 2.0;
        }
        let reached = self.settings.milestones.iter().filter(|&&milestone| step >= milestone).count();
        // One factor at a time, as PyTorch's MultiStepLR multiplies, so that rounding is the same.
        (0..reached).fold(self.point.lr, |lr, _| lr * self.settings.gamma)
    }

    /// The domains that are trained on, with their index in the dataset.
    pub fn training_domains(&self) -> impl Iterator<Item = (usize, &str)> {
        let domains =
            self.settings.dataset.domains.iter().enumerate().map(|(index, name)| (index, name.as_str()));
        domains.filter(|(_, name)| !self.is_held_out(name))
    }

    /// Whether training never sees this domain.
    pub fn is_held_out(&self, domain: &str) -> bool {
        self.point.held_out.iter().any(|held_out| held_out == domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn the_cosine_falls_from_the_full_rate_to_almost_nothing() {
        let mut spec = example().finetune().unwrap();
        spec.settings.schedule = Schedule::Cosine;
        assert_eq!(spec.lr_at(0), 1e-3);
        assert!((spec.lr_at(5_000) - 5e-4).abs() < 1e-7 && spec.lr_at(10_000) < 1e-10);
    }

    #[test]
    fn the_trajectory_is_averaged_from_its_first_step_on() {
        let mut spec = example().finetune().unwrap();
        assert!(!spec.is_averaged(10_000) && !spec.is_in_ensemble(10_000));
        spec.settings.average = Some(Average { from: 300, every: AverageEvery::Steps(7) });
        let averaged: Vec<u64> = (0..320).filter(|&step| spec.is_averaged(step)).collect();
        assert_eq!(averaged, [300, 307, 314]);
        spec.settings.average = Some(Average { from: 301, every: AverageEvery::Evaluation });
        assert_eq!((0..=10_000).filter(|&step| spec.is_averaged(step)).count(), 33);
        spec.settings.ensemble = Some(Ensemble { from: 300 });
        assert_eq!((0..=10_000).filter(|&step| spec.is_in_ensemble(step)).count(), 34);
        assert_eq!(spec.methods(), [Method::Plain, Method::Average, Method::Ensemble]);
    }

    #[test]
    fn the_paper_evaluates_35_times() {
        let steps: Vec<u64> = example().finetune().unwrap().evaluation_steps().collect();
        assert_eq!(steps.len(), 35);
        assert_eq!((steps[0], steps[1], steps[33], steps[34]), (0, 300, 9_900, 10_000));
    }
}
