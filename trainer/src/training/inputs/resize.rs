//! Crop, bilinear resize with antialiasing and mirroring of many images at once, as two matrix products per image.
//!
//! torchvision resizes one image at a time, because crops differ in size. A resize along one dimension is a matrix, though, and crop and
//! mirror only change its entries: so a batch of images of one original size needs two batched products, on any device.

use tch::{Device, Kind, TchError, Tensor};

use super::Augmentation;

/// Resizes images [n, height, width, 3] (bytes) to [n, 3, pixels, pixels] in [0, 1], each by its own crop and mirroring.
pub(super) fn resize(
    images: &Tensor,
    augmentations: &[Augmentation],
    pixels: i64,
) -> Result<Tensor, TchError> {
    let (n, height, width, _) = images.size4()?;
    let device = images.device();
    let images = images.f_to_kind(Kind::Float)?;
    let rows = Axis::collect(augmentations, |a| (a.crop.top, a.crop.height, false))
        .weights(height, pixels, device)?;
    let columns = Axis::collect(augmentations, |a| (a.crop.left, a.crop.width, a.flip))
        .weights(width, pixels, device)?;
    let rows = rows.f_mul_scalar(1.0 / 255.0)?;
    // [n, pixels, height] x [n, height, width * 3], then the same along the other dimension, which is brought to the front.
    let x = rows.f_bmm(&images.f_view([n, height, width * 3])?)?;
    let x = x.f_view([n, pixels, width, 3])?.f_permute([0, 2, 1, 3])?.f_reshape([n, width, pixels * 3])?;
    let x = columns.f_bmm(&x)?.f_view([n, pixels, pixels, 3])?;
    x.f_permute([0, 3, 2, 1])?.f_contiguous()
}

/// Where each image's crop begins along one dimension, how long it is, and whether it is mirrored.
struct Axis {
    starts: Vec<f32>,
    lengths: Vec<f32>,
    /// Output position i reads from `origin + direction * i`.
    origins: Vec<bool>,
}

impl Axis {
    fn collect(augmentations: &[Augmentation], part: impl Fn(&Augmentation) -> (usize, usize, bool)) -> Self {
        let mut axis = Self { starts: Vec::new(), lengths: Vec::new(), origins: Vec::new() };
        for (start, length, flip) in augmentations.iter().map(part) {
            axis.starts.push(start as f32);
            axis.lengths.push(length as f32);
            axis.origins.push(flip);
        }
        axis
    }

    /// The matrices [n, pixels, size]: each row a triangle around its output pixel's centre, as wide as the larger of one input and one
    /// output pixel, cut at the crop's edges and normalised to sum 1.
    fn weights(&self, size: i64, pixels: i64, device: Device) -> Result<Tensor, TchError> {
        let column = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device)?.f_view([-1, 1, 1]);
        let scales: Vec<f32> = self.lengths.iter().map(|length| length / pixels as f32).collect();
        let supports: Vec<f32> = scales.iter().map(|scale| scale.max(1.0)).collect();
        let mut centres = Vec::with_capacity(scales.len() * pixels as usize);
        for ((&scale, &start), &flip) in scales.iter().zip(&self.starts).zip(&self.origins) {
            for output in 0..pixels {
                let position = if flip { pixels - 1 - output } else { output };
                centres.push(start + scale * (position as f32 + 0.5));
            }
        }
        let centres = Tensor::f_from_slice(&centres)?.f_to_device(device)?.f_view([-1, pixels, 1])?;
        let inputs = Tensor::f_arange(size, (Kind::Float, device))?.f_view([1, 1, size])?;
        let starts = column(&self.starts)?;
        let inside = inputs
            .f_ge_tensor(&starts)?
            .f_logical_and(&inputs.f_lt_tensor(&starts.f_add(&column(&self.lengths)?)?)?)?;
        let mut distances =
            inputs.f_add_scalar(0.5)?.f_sub(&centres)?.f_abs_()?.f_div_(&column(&supports)?)?;
        let mut weights = distances.f_neg_()?.f_add_scalar_(1.0)?.f_clamp_min_(0.0)?.f_mul_(&inside)?;
        let sums = weights.f_sum_dim_intlist([2].as_slice(), true, None)?;
        weights.f_div_(&sums)
    }
}
