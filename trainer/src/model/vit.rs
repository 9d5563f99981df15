//! Vision transformers with 16x16 patches, as torchvision builds them: exact GELU, LayerNorm with eps 1e-6 before each part, the class
//! token after the final LayerNorm as the representation.

use tch::{Device, Kind, TchError, Tensor};

use super::matching::Naming;
use super::source::{Initial, Source};
use super::{ArchitectureInfo, Backbone, NamedTensor, Normalisation, Pass};
use crate::error::TrialError;

const PATCH: i64 = 16;
const LAYER_NORM_EPSILON: f64 = 1e-6;

/// A member of the family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    layers: usize,
    heads: i64,
    width: i64,
    /// Inner width of the two-layer perceptron.
    inner: i64,
}

/// ViT-B/16.
pub(super) const VIT_B: Size = Size { layers: 12, heads: 12, width: 768, inner: 3_072 };
/// ViT-L/16.
pub(super) const VIT_L: Size = Size { layers: 24, heads: 16, width: 1_024, inner: 4_096 };

/// Other names of its tensors.
pub(super) const NAMINGS: [Naming; 2] = [
    // In the files of torchvision's first release of these networks.
    Naming { of: "", parts: &[(".mlp.0.", ".mlp.linear_1."), (".mlp.3.", ".mlp.linear_2.")] },
    Naming {
        of: "timm's",
        parts: &[
            ("class_token", "cls_token"),
            ("conv_proj.", "patch_embed.proj."),
            ("encoder.pos_embedding", "pos_embed"),
            ("encoder.layers.encoder_layer_", "blocks."),
            ("encoder.ln.", "norm."),
            (".ln_1.", ".norm1."),
            (".ln_2.", ".norm2."),
            (".self_attention.in_proj_", ".attn.qkv."),
            (".self_attention.out_proj.", ".attn.proj."),
            (".mlp.0.", ".mlp.fc1."),
            (".mlp.3.", ".mlp.fc2."),
            ("heads.head.", "head."),
        ],
    },
];

impl Size {
    /// What is known about it.
    pub(super) const fn facts(self) -> ArchitectureInfo {
        ArchitectureInfo {
            width: self.width,
            normalisation: Normalisation::IMAGENET,
            classifier: Some("heads.head"),
        }
    }
}

/// A vision transformer without its classifier.
pub(super) struct Vit {
    size: Size,
    class_token: NamedTensor,
    patches: Affine,
    positions: NamedTensor,
    layers: Vec<Layer>,
    norm: Affine,
    compute: Kind,
}

impl Vit {
    /// Asks for the tensors of a network for square images of so many pixels a side, to which its position embeddings belong.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when a tensor is missing or of another shape.
    pub(super) fn load(source: &mut Source, size: Size, pixels: i64) -> Result<Self, TrialError> {
        let Size { layers, width, .. } = size;
        let class_token = source.parameter("class_token".into(), &[1, 1, width], Initial::Constant(0.0))?;
        // torchvision cuts this normal distribution off at 2, which is 55 deviations away.
        let kernel = Initial::Normal((1.0 / (3 * PATCH * PATCH) as f64).sqrt());
        let zero = Initial::Constant(0.0);
        let patches = Affine::load(source, "conv_proj.", &[width, 3, PATCH, PATCH], kernel, zero)?;
        let tokens = (pixels / PATCH).pow(2) + 1;
        let positions =
            source.parameter("encoder.pos_embedding".into(), &[1, tokens, width], Initial::Normal(0.02))?;
        let layer = |index| Layer::load(source, &format!("encoder.layers.encoder_layer_{index}."), size);
        let layers = (0..layers).map(layer).collect::<Result<_, _>>()?;
        let norm = Affine::norm(source, "encoder.ln.", width)?;
        Ok(Self { size, class_token, patches, positions, layers, norm, compute: source.compute() })
    }
}

impl Backbone for Vit {
    fn width(&self) -> i64 {
        self.size.width
    }

    fn normalisation(&self) -> Normalisation {
        self.size.facts().normalisation
    }

    fn features(&self, images: &Tensor, _: Pass) -> Result<Tensor, TchError> {
        let images = super::convolution::prepared(images, self.compute)?;
        let [weight, bias] = self.patches.cast(self.compute)?;
        let patches = images.f_conv2d(&weight, Some(&bias), [PATCH; 2], [0, 0], [1, 1], 1)?;
        let (n, width, _, _) = patches.size4()?;
        // Tokens stay in single precision between the layers; only products are in the narrower format.
        let patches = patches.f_flatten(2, 3)?.f_transpose(1, 2)?.f_to_kind(Kind::Float)?;
        let class_token = self.class_token.tensor.f_expand([n, 1, width], false)?;
        let mut x = Tensor::f_cat(&[class_token, patches], 1)?.f_add(&self.positions.tensor)?;
        for layer in &self.layers {
            x = layer.forward(x, self.size.heads, self.compute)?;
        }
        // LayerNorm works on each token by itself, and only the first one is needed.
        self.norm.normalise(&x.f_select(1, 0)?)
    }

    fn block_width(&self) -> Option<i64> {
        None
    }

    fn block_features(&self, _: &Tensor) -> Result<Option<Tensor>, TchError> {
        Ok(None)
    }

    fn parameters(&self) -> Vec<NamedTensor> {
        let mut parameters = vec![self.class_token.share()];
        parameters.extend(self.patches.parameters());
        parameters.push(self.positions.share());
        for Layer { norm_1, qkv, out, norm_2, linear_1, linear_2 } in &self.layers {
            parameters.extend(
                [norm_1, qkv, out, norm_2, linear_1, linear_2].into_iter().flat_map(Affine::parameters),
            );
        }
        parameters.extend(self.norm.parameters());
        parameters
    }

    fn buffers(&self) -> Vec<NamedTensor> {
        Vec::new()
    }
}

/// Self-attention, then a perceptron, each behind a LayerNorm and beside a shortcut.
struct Layer {
    norm_1: Affine,
    /// Queries, keys and values in one product.
    qkv: Affine,
    out: Affine,
    norm_2: Affine,
    linear_1: Affine,
    linear_2: Affine,
}

impl Layer {
    fn load(source: &mut Source, prefix: &str, Size { width, inner, .. }: Size) -> Result<Self, TrialError> {
        // Xavier's uniform distribution, PyTorch's default for the projection behind the attention, tiny biases in the perceptron.
        let xavier = |outputs: i64, inputs: i64| Initial::Uniform((6.0 / (outputs + inputs) as f64).sqrt());
        let (zero, tiny) = (Initial::Constant(0.0), Initial::Normal(1e-6));
        let name = |part: &str| format!("{prefix}{part}");
        let projection = Initial::Uniform((1.0 / width as f64).sqrt());
        Ok(Self {
            norm_1: Affine::norm(source, &name("ln_1."), width)?,
            qkv: Affine::load(
                source,
                &name("self_attention.in_proj_"),
                &[3 * width, width],
                xavier(3 * width, width),
                zero,
            )?,
            out: Affine::load(source, &name("self_attention.out_proj."), &[width, width], projection, zero)?,
            norm_2: Affine::norm(source, &name("ln_2."), width)?,
            linear_1: Affine::load(source, &name("mlp.0."), &[inner, width], xavier(inner, width), tiny)?,
            linear_2: Affine::load(source, &name("mlp.3."), &[width, inner], xavier(width, inner), tiny)?,
        })
    }

    fn forward(&self, x: Tensor, heads: i64, compute: Kind) -> Result<Tensor, TchError> {
        let (n, tokens, width) = x.size3()?;
        let qkv = self.qkv.linear(&self.norm_1.normalise(&x)?, compute)?;
        // [n, tokens, 3 * width] to three times [n, heads, tokens, width / heads].
        let qkv = qkv.f_view([n, tokens, 3, heads, width / heads])?.f_permute([2, 0, 3, 1, 4])?;
        let mixed = attention(&qkv.f_select(0, 0)?, &qkv.f_select(0, 1)?, &qkv.f_select(0, 2)?)?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([n, tokens, width])?;
        let x = x.f_add(&self.out.linear(&mixed, compute)?)?;
        let inner = self.linear_1.linear(&self.norm_2.normalise(&x)?, compute)?.f_gelu("none")?;
        x.f_add(&self.linear_2.linear(&inner, compute)?)
    }
}

/// softmax(q k^T / sqrt(width)) v.
fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor, TchError> {
    if q.device() == Device::Cpu {
        return Tensor::f_scaled_dot_product_attention(q, k, v, None::<&Tensor>, 0.0, false, None, false);
    }
    // The fused kernels of a GPU add up gradients in no fixed order, and a trial must be the same every time.
    let width = q.size().last().copied().unwrap_or(1) as f64;
    let scores = q.f_mul_scalar(1.0 / width.sqrt())?.f_matmul(&k.f_transpose(-2, -1)?)?;
    scores.f_softmax(-1, Kind::Float)?.f_to_kind(v.kind())?.f_matmul(v)
}

/// Weight and bias of one module: a linear layer, a LayerNorm or the patches' convolution.
struct Affine {
    weight: NamedTensor,
    bias: NamedTensor,
}

impl Affine {
    fn load(
        source: &mut Source,
        prefix: &str,
        shape: &[i64],
        weight: Initial,
        bias: Initial,
    ) -> Result<Self, TrialError> {
        let weight = source.parameter(format!("{prefix}weight"), shape, weight)?;
        Ok(Self { weight, bias: source.parameter(format!("{prefix}bias"), &shape[..1], bias)? })
    }

    fn norm(source: &mut Source, prefix: &str, width: i64) -> Result<Self, TrialError> {
        Self::load(source, prefix, &[width], Initial::Constant(1.0), Initial::Constant(0.0))
    }

    fn cast(&self, kind: Kind) -> Result<[Tensor; 2], TchError> {
        Ok([self.weight.tensor.f_to_kind(kind)?, self.bias.tensor.f_to_kind(kind)?])
    }

    fn linear(&self, x: &Tensor, compute: Kind) -> Result<Tensor, TchError> {
        let [weight, bias] = self.cast(compute)?;
        x.f_to_kind(compute)?.f_linear(&weight, Some(&bias))
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (&self.weight.tensor, &self.bias.tensor);
        x.f_layer_norm(weight.size(), Some(weight), Some(bias), LAYER_NORM_EPSILON, true)
    }

    fn parameters(&self) -> [NamedTensor; 2] {
        [self.weight.share(), self.bias.share()]
    }
}
