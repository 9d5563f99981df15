//! Colour jitter, grayscale and normalisation of many images at once.
//!
//! Brightness, contrast and saturation are blends, so each is a 3x3 matrix on the colours plus an offset; at each of the four positions
//! of the random order one batched product serves all images, whichever change each image has there. Only a hue shift is not linear: its
//! images are taken out of the batch and put back. Values are those of torchvision's tensor functions, but for an image's gray, which is
//! Pillow's, as in the reference code.

use tch::{Device, Kind, TchError, Tensor};

use super::{Augmentation, Jitter};
use crate::model::Normalisation;

/// Weights of red, green and blue in an image's gray: those of Pillow's `convert("L")`, before it rounds. torchvision's functions for
/// tensors have .2989 for red.
const GRAY: [f32; 3] = [0.299, 0.587, 0.114];

/// Applies jitter to [n, 3, height, width] in [0, 1], each image by its own draws.
pub(super) fn jitter(images: Tensor, augmentations: &[Augmentation]) -> Result<Tensor, TchError> {
    let (n, _, height, width) = images.size4()?;
    let device = images.device();
    let gray = Tensor::f_from_slice(&GRAY)?.f_to_device(device)?;
    let mut x = images.f_view([n, 3, height * width])?;
    for position in 0..4 {
        let blends = Blends::collect(augmentations, position);
        let matrices = on_device(&blends.matrices, &[n, 3, 3], device)?;
        x = if blends.mean_shares.iter().any(|&share| share != 0.0) {
            let mean_gray = x.f_mean_dim([2].as_slice(), false, Kind::Float)?.f_mv(&gray)?;
            let offsets = mean_gray.f_mul(&on_device(&blends.mean_shares, &[n], device)?)?;
            offsets.f_view([n, 1, 1])?.f_baddbmm(&matrices, &x, 1.0, 1.0)?
        } else {
            matrices.f_bmm(&x)?
        };
        x = x.f_clamp_(0.0, 1.0)?;
        if !blends.hue_images.is_empty() {
            let indices = Tensor::f_from_slice(&blends.hue_images)?.f_to_device(device)?;
            let shifts = on_device(&blends.hue_shifts, &[-1, 1], device)?;
            let shifted = shift_hue(&x.f_index_select(0, &indices)?, &shifts)?;
            x = x.f_index_copy_(0, &indices, &shifted)?;
        }
    }
    x.f_view([n, 3, height, width])
}

/// What happens to each image at one position of its order.
struct Blends {
    /// 3x3 per image, row by row.
    matrices: Vec<f32>,
    /// How much of the image's mean gray is added.
    mean_shares: Vec<f32>,
    hue_images: Vec<i64>,
    hue_shifts: Vec<f32>,
}

impl Blends {
    fn collect(augmentations: &[Augmentation], position: usize) -> Self {
        let mut blends = Self {
            matrices: Vec::new(),
            mean_shares: Vec::new(),
            hue_images: Vec::new(),
            hue_shifts: Vec::new(),
        };
        for (image, augmentation) in augmentations.iter().enumerate() {
            let (mut own, mut gray, mut mean) = (1.0, 0.0, 0.0);
            let jitter = &augmentation.jitter;
            let change = jitter.order[position];
            if change == Jitter::HUE {
                blends.hue_images.push(image as i64);
                blends.hue_shifts.push(jitter.hue as f32);
            } else {
                own = jitter.factors[change] as f32;
                // Brightness blends with black, contrast with the mean gray, saturation with each pixel's own gray.
                mean = if change == 1 { 1.0 - own } else { 0.0 };
                gray = if change == 2 { 1.0 - own } else { 0.0 };
            }
            for row in 0..3 {
                blends
                    .matrices
                    .extend((0..3).map(|column| gray * GRAY[column] + if row == column { own } else { 0.0 }));
            }
            blends.mean_shares.push(mean);
        }
        blends
    }
}

/// Shifts the hue of [m, 3, pixels] by `shifts` [m, 1], in turns of the colour wheel.
fn shift_hue(x: &Tensor, shifts: &Tensor) -> Result<Tensor, TchError> {
    let (red, green, blue) = (x.f_select(1, 0)?, x.f_select(1, 1)?, x.f_select(1, 2)?);
    let value = red.f_maximum(&green)?.f_maximum(&blue)?;
    let chroma = value.f_sub(&red.f_minimum(&green)?.f_minimum(&blue)?)?;
    // Where there is no chroma the differences below are zero too, and any finite factor will do.
    let inverse = chroma.f_clamp_min(1e-12)?.f_reciprocal_()?;
    let towards_red = green.f_sub(&blue)?.f_mul_(&inverse)?;
    let towards_green = blue.f_sub(&red)?.f_mul_(&inverse)?.f_add_scalar_(2.0)?;
    let towards_blue = red.f_sub(&green)?.f_mul_(&inverse)?.f_add_scalar_(4.0)?;
    let others = towards_green.f_where_self(&value.f_eq_tensor(&green)?, &towards_blue)?;
    let mut hue = towards_red.f_where_self(&value.f_eq_tensor(&red)?, &others)?;
    // In sixths of a turn from here on; a colour is `value - chroma * trapezoid(hue + offset)`.
    let hue = hue.f_add_(&shifts.f_mul_scalar(6.0)?)?;
    let mut channels = Vec::with_capacity(3);
    for offset in [5.0, 3.0, 1.0] {
        let angle = hue.f_add_scalar(offset)?.f_remainder_(6.0)?;
        let mut trapezoid = angle.f_neg()?.f_add_scalar_(4.0)?.f_minimum(&angle)?.f_clamp_(0.0, 1.0)?;
        channels.push(trapezoid.f_mul_(&chroma)?.f_neg_()?.f_add_(&value)?);
    }
    Tensor::f_stack(&channels, 1)
}

/// Grayscale where drawn, then normalisation: [n, 3, height, width] in [0, 1] to the network's input, in channels-last order, which
/// convolutions on a CPU need to be fast.
pub(super) fn normalise(
    images: &Tensor,
    augmentations: &[Augmentation],
    normalisation: &Normalisation,
) -> Result<Tensor, TchError> {
    let (n, _, height, width) = images.size4()?;
    let mut matrices = Vec::with_capacity(augmentations.len() * 9);
    for augmentation in augmentations {
        // Transposed: the colours multiply from the left, so that the product comes out pixel by pixel.
        for (input, gray) in GRAY.into_iter().enumerate() {
            matrices.extend((0..3).map(|output| {
                let weight = if augmentation.grayscale { gray } else { f32::from(u8::from(input == output)) };
                weight / normalisation.deviation[output] as f32
            }));
        }
    }
    let offsets: Vec<f32> = (0..3)
        .map(|channel| (-normalisation.mean[channel] / normalisation.deviation[channel]) as f32)
        .collect();
    let device = images.device();
    let matrices = on_device(&matrices, &[n, 3, 3], device)?;
    let pixels = images.f_view([n, 3, height * width])?.f_transpose(1, 2)?;
    let x = on_device(&offsets, &[1, 1, 3], device)?.f_baddbmm(&pixels, &matrices, 1.0, 1.0)?;
    x.f_view([n, height, width, 3])?.f_permute([0, 3, 1, 2])
}

fn on_device(values: &[f32], shape: &[i64], device: Device) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(values)?.f_to_device(device)?.f_view(shape)
}
