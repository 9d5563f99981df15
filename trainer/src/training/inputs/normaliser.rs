//! Draws the images of a batch, and turns images into network inputs.

use std::collections::BTreeMap;

use sortie_core::random::{Purpose, stream, uniform_below};
use tch::{Device, Kind, TchError, Tensor};

use super::{Augmentation, colour, resize};
use crate::libtorch;
use crate::model::Normalisation;
use sortie_data::ImageView;

/// Pixels of original images that are transformed at once: as single precision, about 100 MB.
const PIXELS_AT_ONCE_MAX: usize = 8 << 20;

/// The indices that a step draws from a training domain's `in` split, with replacement (docs/protocol.md, "Data protocol").
pub fn draw_batch(seed: u64, domain: usize, step: u64, in_split: &[usize], count: u32) -> Vec<usize> {
    let mut rng = stream(seed, Purpose::Batch, domain as u32, step, 0);
    (0..count).map(|_| in_split[uniform_below(&mut rng, in_split.len() as u64) as usize]).collect()
}

/// An image and its random transform.
pub struct Sample<'a> {
    /// Pixels as they are cached.
    pub image: ImageView<'a>,
    /// Drawn for this image's size.
    pub augmentation: Augmentation,
}

/// Makes network inputs on a device.
#[derive(Clone, Debug)]
pub struct Normaliser {
    /// Where the work is done and the result lies.
    pub device: Device,
    /// Side of the network's input.
    pub pixels: i64,
    /// What the network expects.
    pub normalisation: Normalisation,
}

impl Normaliser {
    /// The network input [n, 3, pixels, pixels], channels last, of some samples, in their order.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn input(&self, samples: &[Sample]) -> Result<Tensor, TchError> {
        let _exact = libtorch::WithoutTf32::begin()?;
        // Products need images of one size; most datasets have only one.
        let mut by_size: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (index, sample) in samples.iter().enumerate() {
            by_size.entry((sample.image.height, sample.image.width)).or_default().push(index);
        }
        let (mut groups, mut order) = (Vec::new(), Vec::with_capacity(samples.len()));
        for ((height, width), indices) in by_size {
            for indices in indices.chunks((PIXELS_AT_ONCE_MAX / (height * width)).max(1)) {
                groups.push(self.same_size(samples, indices, height, width)?);
                order.extend_from_slice(indices);
            }
        }
        let resized = if groups.len() == 1 { groups.remove(0) } else { Tensor::f_cat(&groups, 0)? };
        let resized = self.reorder(resized, &order)?;
        let augmentations: Vec<Augmentation> = samples.iter().map(|sample| sample.augmentation).collect();
        let jittered = colour::jitter(resized, &augmentations)?;
        colour::normalise(&jittered, &augmentations, &self.normalisation)
    }

    /// The network input [n, 3, pixels, pixels], channels last, of images that have its size already: bytes [n, pixels, pixels, 3].
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn plain_input(&self, bytes: &[u8]) -> Result<Tensor, TchError> {
        let images = Tensor::f_from_slice(bytes)?.f_to_device(self.device)?.f_view([
            -1,
            self.pixels,
            self.pixels,
            3,
        ])?;
        let Normalisation { mean, deviation } = self.normalisation;
        // (x / 255 - mean) / deviation as one multiplication and one addition.
        let row = |values: [f64; 3]| {
            Tensor::f_from_slice(&values.map(|value| value as f32))?.f_to_device(self.device)
        };
        let scale = row(deviation.map(|deviation| 1.0 / (255.0 * deviation)))?;
        let offset = row(std::array::from_fn(|channel| -mean[channel] / deviation[channel]))?;
        offset.f_addcmul(&images.f_to_kind(Kind::Float)?, &scale)?.f_permute([0, 3, 1, 2])
    }

    fn same_size(
        &self,
        samples: &[Sample],
        indices: &[usize],
        height: usize,
        width: usize,
    ) -> Result<Tensor, TchError> {
        let mut bytes = Vec::with_capacity(indices.len() * height * width * 3);
        let mut augmentations = Vec::with_capacity(indices.len());
        for &index in indices {
            bytes.extend_from_slice(samples[index].image.pixels);
            augmentations.push(samples[index].augmentation);
        }
        let images = Tensor::f_from_slice(&bytes)?.f_to_device(self.device)?;
        let images = images.f_view([indices.len() as i64, height as i64, width as i64, 3])?;
        resize::resize(&images, &augmentations, self.pixels)
    }

    /// Puts row `k`, which belongs to sample `order[k]`, back into the order of the samples.
    fn reorder(&self, rows: Tensor, order: &[usize]) -> Result<Tensor, TchError> {
        if order.is_sorted() {
            return Ok(rows);
        }
        let mut rows_of_samples = vec![0_i64; order.len()];
        for (row, &sample) in order.iter().enumerate() {
            rows_of_samples[sample] = row as i64;
        }
        rows.f_index_select(0, &Tensor::f_from_slice(&rows_of_samples)?.f_to_device(self.device)?)
    }
}
