//! What the training transform does to one image: drawn on the host from the image's counter, before any pixel is touched.

use rand_chacha::ChaCha8Rng;
use sortie_core::random::{permutation, uniform_below, uniform_f64};

const CROP_ATTEMPTS: usize = 10;
const SCALE: (f64, f64) = (0.7, 1.0);
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
const FLIP_PROBABILITY: f64 = 0.5;
const GRAYSCALE_PROBABILITY: f64 = 0.1;
const JITTER_FACTOR: (f64, f64) = (0.7, 1.3);
const HUE_SHIFT: (f64, f64) = (-0.3, 0.3);

/// A rectangle of an image, in pixels of its original size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Crop {
    /// torchvision's `RandomResizedCrop.get_params`: ten attempts at an area and a ratio, then the largest central crop of an allowed
    /// ratio.
    fn draw(rng: &mut ChaCha8Rng, height: usize, width: usize) -> Self {
        let area = (height * width) as f64;
        for _ in 0..CROP_ATTEMPTS {
            let target = area * uniform(rng, SCALE);
            let ratio = uniform(rng, (RATIO.0.ln(), RATIO.1.ln())).exp();
            // Python's round, which the original calls, rounds ties to even.
            let crop_width = (target * ratio).sqrt().round_ties_even() as usize;
            let crop_height = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let top = uniform_below(rng, (height - crop_height + 1) as u64) as usize;
                let left = uniform_below(rng, (width - crop_width + 1) as u64) as usize;
                return Self { top, left, height: crop_height, width: crop_width };
            }
        }
        Self::central(height, width)
    }

    fn central(height: usize, width: usize) -> Self {
        let ratio = width as f64 / height as f64;
        let (crop_height, crop_width) = if ratio < RATIO.0 {
            (((width as f64 / RATIO.0).round_ties_even() as usize).min(height), width)
        } else if ratio > RATIO.1 {
            (height, ((height as f64 * RATIO.1).round_ties_even() as usize).min(width))
        } else {
            (height, width)
        };
        Self {
            top: (height - crop_height) / 2,
            left: (width - crop_width) / 2,
            height: crop_height,
            width: crop_width,
        }
    }
}

/// Torchvision's `ColorJitter` with its draws made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter {
    /// The order of the four changes: 0 brightness, 1 contrast, 2 saturation, 3 hue.
    pub order: [usize; 4],
    /// Factors of brightness, contrast and saturation.
    pub factors: [f64; 3],
    /// Shift of the hue, in turns of the colour wheel.
    pub hue: f64,
}

impl Jitter {
    /// The number of the hue shift among the four changes.
    pub(super) const HUE: usize = 3;
}

/// The training transform of one image (docs/protocol.md, "Data protocol").
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// What is cut out and resized.
    pub crop: Crop,
    /// Whether it is mirrored, left to right.
    pub flip: bool,
    /// How its colours change.
    pub jitter: Jitter,
    /// Whether it then loses its colours.
    pub grayscale: bool,
}

impl Augmentation {
    /// Draws the training transform of an image of this size.
    pub fn draw(rng: &mut ChaCha8Rng, height: usize, width: usize) -> Self {
        let crop = Crop::draw(rng, height, width);
        let flip = uniform_f64(rng) < FLIP_PROBABILITY;
        let order = permutation(rng);
        let factors = std::array::from_fn(|_| uniform(rng, JITTER_FACTOR));
        let hue = uniform(rng, HUE_SHIFT);
        let grayscale = uniform_f64(rng) < GRAYSCALE_PROBABILITY;
        Self { crop, flip, jitter: Jitter { order, factors, hue }, grayscale }
    }
}

fn uniform(rng: &mut ChaCha8Rng, (low, high): (f64, f64)) -> f64 {
    low + (high - low) * uniform_f64(rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::random::{Purpose, stream};

    #[test]
    fn draws_have_the_stated_distribution() {
        const DRAWS: u64 = 4_000;
        let (mut flips, mut grays, mut area, mut first) = (0, 0, 0.0, [0; 4]);
        for position in 0..DRAWS {
            let drawn = Augmentation::draw(&mut stream(5, Purpose::Augmentation, 0, 0, position), 96, 80);
            let Crop { top, left, height, width } = drawn.crop;
            assert!(top + height <= 96 && left + width <= 80);
            let (ratio, share) = (width as f64 / height as f64, (width * height) as f64 / (96.0 * 80.0));
            assert!((0.73..1.36).contains(&ratio) && (0.68..=1.0).contains(&share), "{ratio} {share}");
            let jitter = drawn.jitter;
            assert!(
                jitter.factors.iter().all(|factor| (0.7..1.3).contains(factor))
                    && (-0.3..0.3).contains(&jitter.hue)
            );
            flips += u64::from(drawn.flip);
            grays += u64::from(drawn.grayscale);
            area += share / DRAWS as f64;
            first[jitter.order[0]] += 1;
        }
        assert!((1_850..2_150).contains(&flips) && (320..480).contains(&grays), "{flips} {grays}");
        assert!((0.80..0.86).contains(&area), "{area}");
        assert!(first.iter().all(|&count| (900..1_100).contains(&count)), "{first:?}");
    }

    #[test]
    fn an_image_that_fits_no_ratio_is_cut_in_its_middle() {
        assert_eq!(Crop::central(400, 100), Crop { top: 133, left: 0, height: 133, width: 100 });
        assert_eq!(Crop::central(99, 400), Crop { top: 0, left: 134, height: 99, width: 132 });
        let drawn = Crop::draw(&mut stream(0, Purpose::Augmentation, 0, 0, 0), 1, 500);
        assert_eq!((drawn.height, drawn.width), (1, 1));
    }
}
