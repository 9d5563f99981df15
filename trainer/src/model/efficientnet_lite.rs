//! EfficientNet-Lite: EfficientNet without squeeze-excite, with ReLU6, stem and head not scaled.
//!
//! Names, padding and constants are those of the networks' original weights: TensorFlow's "same" padding, BatchNorm with eps 1e-3,
//! input (x - 127) / 128 for x in 0..=255.

use tch::{Kind, TchError, Tensor};

use super::batch_norm_folding::BatchNormFolding;
use super::convolution::{Convolution, FoldedConvolutions, Geometry, Padding, pooled, prepared};
use super::source::Source;
use super::{ArchitectureInfo, Backbone, NamedTensor, Normalisation, Pass};
use crate::error::TrialError;
use crate::libtorch::relu6;

const BATCH_NORM_EPSILON: f64 = 1e-3;
const STEM_CHANNELS: i64 = 32;
const HEAD_CHANNELS: i64 = 1_280;

/// What is known about every member of the family.
pub(super) const FACTS: ArchitectureInfo = ArchitectureInfo {
    width: HEAD_CHANNELS,
    normalisation: Normalisation { mean: [127.0 / 255.0; 3], deviation: [128.0 / 255.0; 3] },
    classifier: Some("_fc"),
};

/// A run of equal blocks.
#[derive(Clone, Copy)]
struct Stage {
    repeats: usize,
    kernel: i64,
    /// Of the first block; the others have 1.
    stride: i64,
    expansion: i64,
    channels: i64,
}

const fn stage(repeats: usize, kernel: i64, stride: i64, expansion: i64, channels: i64) -> Stage {
    Stage { repeats, kernel, stride, expansion, channels }
}

/// The stages of Lite0, which the others scale.
const STAGES: [Stage; 7] = [
    stage(1, 3, 1, 1, 16),
    stage(2, 3, 2, 6, 24),
    stage(2, 5, 2, 6, 40),
    stage(3, 3, 2, 6, 80),
    stage(3, 5, 1, 6, 112),
    stage(4, 5, 2, 6, 192),
    stage(1, 3, 1, 6, 320),
];

/// How a member of the family differs from Lite0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaling {
    width: f64,
    depth: f64,
}

/// EfficientNet-Lite0.
pub(super) const LITE0: Scaling = Scaling { width: 1.0, depth: 1.0 };
/// EfficientNet-Lite1.
pub(super) const LITE1: Scaling = Scaling { width: 1.0, depth: 1.1 };
/// EfficientNet-Lite2.
pub(super) const LITE2: Scaling = Scaling { width: 1.1, depth: 1.2 };

impl Scaling {
    /// Channels in multiples of 8, the nearest that is not below nine tenths of the exact number. Every stage gets wider, but the first
    /// and the last one keep their single block.
    fn stages(self) -> [Stage; 7] {
        let channels = |exact: f64| {
            let rounded = ((exact + 4.0) as i64 / 8 * 8).max(8);
            if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
        };
        let mut stages = STAGES;
        for (index, stage) in stages.iter_mut().enumerate() {
            stage.channels = channels(stage.channels as f64 * self.width);
            if index != 0 && index != STAGES.len() - 1 {
                stage.repeats = (stage.repeats as f64 * self.depth).ceil() as usize;
            }
        }
        stages
    }
}

/// An EfficientNet-Lite without its classifier.
pub(super) struct EfficientNetLite {
    stem: Convolution,
    blocks: Vec<Block>,
    head: Convolution,
    /// Index of the last stage's only block; the stage before it has at least three, equally wide.
    wide_end: usize,
    /// Their width.
    wide: i64,
    batch_norms: BatchNormFolding,
    compute: Kind,
}

impl EfficientNetLite {
    /// Asks for the tensors of a network.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when a tensor is missing or of another shape.
    pub(super) fn load(source: &mut Source, scaling: Scaling) -> Result<Self, TrialError> {
        let stem = dense(source, "_conv_stem", "_bn0", [3, STEM_CHANNELS], 3, 2)?;
        let mut blocks = Vec::new();
        let mut channels = STEM_CHANNELS;
        let (mut wide_end, mut wide) = (0, channels);
        for stage in scaling.stages() {
            (wide_end, wide) = (blocks.len(), channels);
            for repeat in 0..stage.repeats {
                let stride = if repeat == 0 { stage.stride } else { 1 };
                blocks.push(Block::load(source, blocks.len(), channels, &stage, stride)?);
                channels = stage.channels;
            }
        }
        let head = dense(source, "_conv_head", "_bn1", [channels, HEAD_CHANNELS], 1, 1)?;
        let batch_norms = BatchNormFolding::new(chain(&stem, &blocks, &head), source.batch_norm())?;
        Ok(Self { stem, blocks, head, wide_end, wide, batch_norms, compute: source.compute() })
    }

    fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        chain(&self.stem, &self.blocks, &self.head)
    }
}

fn chain<'a>(
    stem: &'a Convolution,
    blocks: &'a [Block],
    head: &'a Convolution,
) -> impl Iterator<Item = &'a Convolution> {
    std::iter::once(stem).chain(blocks.iter().flat_map(Block::convolutions)).chain(std::iter::once(head))
}

impl Backbone for EfficientNetLite {
    fn width(&self) -> i64 {
        FACTS.width
    }

    fn normalisation(&self) -> Normalisation {
        FACTS.normalisation
    }

    fn features(&self, images: &Tensor, pass: Pass) -> Result<Tensor, TchError> {
        let folded = self.batch_norms.fold(self.convolutions(), pass)?;
        let mut x = relu6(self.stem.forward(&prepared(images, self.compute)?, &folded)?)?;
        for block in &self.blocks {
            x = block.forward(x, &folded)?;
        }
        pooled(&relu6(self.head.forward(&x, &folded)?)?)
    }

    fn block_width(&self) -> Option<i64> {
        Some(self.wide)
    }

    fn block_features(&self, images: &Tensor) -> Result<Option<Tensor>, TchError> {
        let folded = self.batch_norms.fold(self.convolutions(), Pass::Evaluate)?;
        let mut x = relu6(self.stem.forward(&prepared(images, self.compute)?, &folded)?)?;
        let mut outputs = Vec::new();
        for (index, block) in self.blocks[..self.wide_end].iter().enumerate() {
            x = block.forward(x, &folded)?;
            if index + 3 >= self.wide_end {
                outputs.insert(0, pooled(&x)?);
            }
        }
        Tensor::f_stack(&outputs, 0).map(Some)
    }

    fn parameters(&self) -> Vec<NamedTensor> {
        self.convolutions().flat_map(Convolution::parameters).collect()
    }

    fn buffers(&self) -> Vec<NamedTensor> {
        self.convolutions().flat_map(Convolution::buffers).collect()
    }
}

fn dense(
    source: &mut Source,
    convolution: &str,
    norm: &str,
    [inputs, outputs]: [i64; 2],
    kernel: i64,
    stride: i64,
) -> Result<Convolution, TrialError> {
    let geometry = Geometry { inputs, outputs, kernel, stride, groups: 1, padding: Padding::Same };
    Convolution::load(source, convolution, norm, BATCH_NORM_EPSILON, geometry)
}

/// Inverted residual: expand, filter each channel, project; the input is added where shapes agree.
struct Block {
    expand: Option<Convolution>,
    depthwise: Convolution,
    project: Convolution,
    residual: bool,
}

impl Block {
    fn load(
        source: &mut Source,
        index: usize,
        channels: i64,
        stage: &Stage,
        stride: i64,
    ) -> Result<Self, TrialError> {
        let name = |part: &str| format!("_blocks.{index}.{part}");
        let inner = channels * stage.expansion;
        let expand = if stage.expansion == 1 {
            None
        } else {
            Some(dense(source, &name("_expand_conv"), &name("_bn0"), [channels, inner], 1, 1)?)
        };
        let geometry = Geometry {
            inputs: inner,
            outputs: inner,
            kernel: stage.kernel,
            stride,
            groups: inner,
            padding: Padding::Same,
        };
        let depthwise =
            Convolution::load(source, &name("_depthwise_conv"), &name("_bn1"), BATCH_NORM_EPSILON, geometry)?;
        let project = dense(source, &name("_project_conv"), &name("_bn2"), [inner, stage.channels], 1, 1)?;
        Ok(Self { expand, depthwise, project, residual: stride == 1 && channels == stage.channels })
    }

    fn forward(&self, input: Tensor, folded: &FoldedConvolutions) -> Result<Tensor, TchError> {
        let expanded = match &self.expand {
            Some(expand) => &relu6(expand.forward(&input, folded)?)?,
            None => &input,
        };
        let filtered = relu6(self.depthwise.forward(expanded, folded)?)?;
        let mut output = self.project.forward(&filtered, folded)?;
        if self.residual { output.f_add_(&input) } else { Ok(output) }
    }

    fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        self.expand.iter().chain([&self.depthwise, &self.project])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lite1_is_deeper_and_lite2_also_wider() {
        let shape = |scaling: Scaling| scaling.stages().map(|stage| (stage.repeats, stage.channels));
        assert_eq!(shape(LITE0), [(1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320)]);
        assert_eq!(shape(LITE1), [(1, 16), (3, 24), (3, 40), (4, 80), (4, 112), (5, 192), (1, 320)]);
        assert_eq!(shape(LITE2), [(1, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (1, 352)]);
    }
}
