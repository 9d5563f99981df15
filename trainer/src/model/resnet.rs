//! ResNet, as torchvision builds it: the stride of a bottleneck is in its 3x3 convolution. Weights V1 and V2 are one architecture.

use tch::{Kind, TchError, Tensor};

use super::batch_norm_folding::BatchNormFolding;
use super::convolution::{Convolution, FoldedConvolutions, Geometry, Padding, pooled, prepared};
use super::source::Source;
use super::{ArchitectureInfo, Backbone, NamedTensor, Normalisation, Pass};
use crate::error::TrialError;

const BATCH_NORM_EPSILON: f64 = 1e-5;
const STEM_CHANNELS: i64 = 64;

/// A member of the family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    /// Blocks of each of the four layers.
    blocks: [usize; 4],
    /// Whether a block is 1x1, 3x3, 1x1 with a fourfold output, or 3x3, 3x3.
    bottleneck: bool,
}

/// ResNet18.
pub(super) const RESNET18: Depth = Depth { blocks: [2, 2, 2, 2], bottleneck: false };
/// ResNet50.
pub(super) const RESNET50: Depth = Depth { blocks: [3, 4, 6, 3], bottleneck: true };
/// ResNet101.
pub(super) const RESNET101: Depth = Depth { blocks: [3, 4, 23, 3], bottleneck: true };
/// ResNet152.
pub(super) const RESNET152: Depth = Depth { blocks: [3, 8, 36, 3], bottleneck: true };

impl Depth {
    const fn expansion(self) -> i64 {
        if self.bottleneck { 4 } else { 1 }
    }

    /// What is known about it.
    pub(super) const fn facts(self) -> ArchitectureInfo {
        ArchitectureInfo {
            width: 512 * self.expansion(),
            normalisation: Normalisation::IMAGENET,
            classifier: Some("fc"),
        }
    }
}

/// A ResNet without its classifier.
pub(super) struct ResNet {
    depth: Depth,
    stem: Convolution,
    blocks: Vec<Block>,
    batch_norms: BatchNormFolding,
    compute: Kind,
}

impl ResNet {
    /// Asks for the tensors of a network.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when a tensor is missing or of another shape.
    pub(super) fn load(source: &mut Source, depth: Depth) -> Result<Self, TrialError> {
        let stem = convolution(source, "", 1, [3, STEM_CHANNELS], 7, 2)?;
        let mut blocks = Vec::new();
        let mut channels = STEM_CHANNELS;
        for (layer, &repeats) in depth.blocks.iter().enumerate() {
            let inner = STEM_CHANNELS << layer;
            for repeat in 0..repeats {
                let stride = if repeat == 0 && layer > 0 { 2 } else { 1 };
                let prefix = format!("layer{}.{repeat}.", layer + 1);
                blocks.push(Block::load(
                    source,
                    &prefix,
                    [channels, inner, inner * depth.expansion()],
                    stride,
                    depth.bottleneck,
                )?);
                channels = inner * depth.expansion();
            }
        }
        let batch_norms = BatchNormFolding::new(chain(&stem, &blocks), source.batch_norm())?;
        Ok(Self { depth, stem, blocks, batch_norms, compute: source.compute() })
    }

    fn stem(&self, images: &Tensor, folded: &FoldedConvolutions) -> Result<Tensor, TchError> {
        let x = self.stem.forward(&prepared(images, self.compute)?, folded)?.f_relu_()?;
        x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)
    }

    fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        chain(&self.stem, &self.blocks)
    }
}

fn chain<'a>(stem: &'a Convolution, blocks: &'a [Block]) -> impl Iterator<Item = &'a Convolution> {
    std::iter::once(stem).chain(blocks.iter().flat_map(Block::convolutions))
}

impl Backbone for ResNet {
    fn width(&self) -> i64 {
        self.depth.facts().width
    }

    fn normalisation(&self) -> Normalisation {
        self.depth.facts().normalisation
    }

    fn features(&self, images: &Tensor, pass: Pass) -> Result<Tensor, TchError> {
        let folded = self.batch_norms.fold(self.convolutions(), pass)?;
        let mut x = self.stem(images, &folded)?;
        for block in &self.blocks {
            x = block.forward(&x, &folded)?;
        }
        pooled(&x)
    }

    /// The blocks after the last resolution change; ResNet18 has only two of them.
    fn block_width(&self) -> Option<i64> {
        (self.depth.blocks[3] >= 3).then(|| self.width())
    }

    fn block_features(&self, images: &Tensor) -> Result<Option<Tensor>, TchError> {
        if self.block_width().is_none() {
            return Ok(None);
        }
        let folded = self.batch_norms.fold(self.convolutions(), Pass::Evaluate)?;
        let mut x = self.stem(images, &folded)?;
        let mut outputs = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &folded)?;
            if index + 3 >= self.blocks.len() {
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

/// `{prefix}conv{number}` and `{prefix}bn{number}`.
fn convolution(
    source: &mut Source,
    prefix: &str,
    number: usize,
    [inputs, outputs]: [i64; 2],
    kernel: i64,
    stride: i64,
) -> Result<Convolution, TrialError> {
    let geometry = Geometry { inputs, outputs, kernel, stride, groups: 1, padding: Padding::Symmetric };
    Convolution::load(
        source,
        &format!("{prefix}conv{number}"),
        &format!("{prefix}bn{number}"),
        BATCH_NORM_EPSILON,
        geometry,
    )
}

/// Convolutions with ReLU between them, the input or its projection added, ReLU.
struct Block {
    path: Vec<Convolution>,
    downsample: Option<Convolution>,
}

impl Block {
    fn load(
        source: &mut Source,
        prefix: &str,
        [inputs, inner, outputs]: [i64; 3],
        stride: i64,
        bottleneck: bool,
    ) -> Result<Self, TrialError> {
        let path = if bottleneck {
            vec![
                convolution(source, prefix, 1, [inputs, inner], 1, 1)?,
                convolution(source, prefix, 2, [inner, inner], 3, stride)?,
                convolution(source, prefix, 3, [inner, outputs], 1, 1)?,
            ]
        } else {
            vec![
                convolution(source, prefix, 1, [inputs, inner], 3, stride)?,
                convolution(source, prefix, 2, [inner, outputs], 3, 1)?,
            ]
        };
        let downsample = if stride != 1 || inputs != outputs {
            let geometry =
                Geometry { inputs, outputs, kernel: 1, stride, groups: 1, padding: Padding::Symmetric };
            let name = |part: usize| format!("{prefix}downsample.{part}");
            Some(Convolution::load(source, &name(0), &name(1), BATCH_NORM_EPSILON, geometry)?)
        } else {
            None
        };
        Ok(Self { path, downsample })
    }

    fn forward(&self, input: &Tensor, folded: &FoldedConvolutions) -> Result<Tensor, TchError> {
        let mut x = input.shallow_clone();
        for (index, convolution) in self.path.iter().enumerate() {
            x = convolution.forward(&x, folded)?;
            if index + 1 < self.path.len() {
                x = x.f_relu_()?;
            }
        }
        let mut x = match &self.downsample {
            Some(downsample) => x.f_add_(&downsample.forward(input, folded)?)?,
            None => x.f_add_(input)?,
        };
        x.f_relu_()
    }

    fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        self.path.iter().chain(&self.downsample)
    }
}
