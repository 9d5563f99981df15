//! A training step in parts: the gradients of its images add up, so that fewer of them need memory at a time.

use sortie_core::finetune::MicroBatch;
use tch::Tensor;
#[cfg(debug_assertions)]
use tch::{Device, Kind, TchError};

use crate::error::TrialError;

/// The images of a step, or those of one part of it: from which one on, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) from: i64,
    pub(super) count: i64,
}

/// How many images of a step are computed at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MicroBatches {
    /// All of them if none.
    count: Option<u32>,
    /// Whether fewer are tried when memory was not enough.
    adapts: bool,
}

impl MicroBatches {
    /// As a specification says.
    pub(super) fn new(setting: Option<MicroBatch>) -> Self {
        match setting {
            None => Self { count: None, adapts: false },
            Some(MicroBatch::Images(count)) => Self { count: Some(count), adapts: false },
            Some(MicroBatch::Auto) => Self { count: None, adapts: true },
        }
    }

    /// Goes on as an attempt did that had come to so many.
    pub(super) fn restore(&mut self, count: Option<u32>) {
        if self.adapts {
            self.count = count;
        }
    }

    /// What memory made of "auto"; none while it is enough for whole batches.
    pub(super) fn adapted(&self) -> Option<u32> {
        self.count.filter(|_| self.adapts)
    }

    /// The mean loss of a step of `images` images and its gradient, a flat buffer. `compute` gives those of a part. With one part they are
    /// its own, to the byte; with several they are the same but for rounding. After an out-of-memory the step begins again with half as
    /// many at a time, where the specification allows it; nothing is drawn anew.
    pub(super) fn compute(
        &mut self,
        images: i64,
        mut compute: impl FnMut(Part) -> Result<(Tensor, Tensor), TrialError>,
    ) -> Result<(Tensor, Tensor), TrialError> {
        loop {
            let count = self.count.map_or(images, |count| i64::from(count).min(images)).max(1);
            match sum_of_parts(images, count, &mut compute) {
                Err(TrialError::OutOfMemory(reason)) if self.adapts && count > 1 => {
                    let half = (count + 1) / 2;
                    eprintln!("out of memory with {count} images at a time, going on with {half}: {reason}");
                    self.count = u32::try_from(half).ok();
                }
                result => return result,
            }
        }
    }
}

fn sum_of_parts(
    images: i64,
    count: i64,
    compute: &mut impl FnMut(Part) -> Result<(Tensor, Tensor), TrialError>,
) -> Result<(Tensor, Tensor), TrialError> {
    if count >= images {
        return compute(Part { from: 0, count: images });
    }
    let mut sum: Option<(Tensor, Tensor)> = None;
    let mut from = 0;
    while from < images {
        let part = Part { from, count: count.min(images - from) };
        let (loss, mut gradient) = compute(part)?;
        // A part's mean counts by its share of the images.
        let share = part.count as f64 / images as f64;
        let (loss, _) = (loss.f_mul_scalar(share)?, gradient.f_mul_scalar_(share)?);
        sum = Some(match sum {
            None => (loss, gradient),
            Some((all, mut gradients)) => {
                let _ = gradients.f_add_(&gradient)?;
                (all.f_add(&loss)?, gradients)
            }
        });
        from += part.count;
    }
    sum.ok_or_else(|| TrialError::Other("a training step without images".to_owned()))
}

/// A hook for tests: libtorch's memory is not enough for more than SORTIE_TEST_IMAGES_MAX images at a time. Only builds with debug
/// assertions have it, which are never shipped.
#[cfg(debug_assertions)]
pub(super) fn allocate_as_tests_ask(images: i64) -> Result<(), TchError> {
    let enough = std::env::var("SORTIE_TEST_IMAGES_MAX").ok().and_then(|text| text.parse::<i64>().ok());
    if enough.is_some_and(|enough| images > enough) {
        // No machine has so much, so the error is libtorch's own.
        let _ = Tensor::f_empty([1_i64 << 60], (Kind::Float, Device::Cpu))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of some numbers and twice that mean, as loss and gradient of a part; out of memory with more than `enough` of them.
    fn compute(
        numbers: &[f32],
        enough: i64,
        parts: &mut Vec<Part>,
        part: Part,
    ) -> Result<(Tensor, Tensor), TrialError> {
        if part.count > enough {
            return Err(TrialError::OutOfMemory("no room".into()));
        }
        parts.push(part);
        let mean = Tensor::from_slice(numbers).narrow(0, part.from, part.count).mean(Kind::Float);
        Ok((mean.copy(), (mean * 2.0).view([1])))
    }

    fn part(from: i64, count: i64) -> Part {
        Part { from, count }
    }

    #[test]
    fn parts_add_up_to_the_mean_of_all() {
        let numbers: Vec<f32> = (0..10).map(|n| (n as f32 * 0.7).sin()).collect();
        let mean = numbers.iter().sum::<f32>() / 10.0;
        for (setting, expected) in [
            (None, vec![part(0, 10)]),
            (Some(MicroBatch::Images(10)), vec![part(0, 10)]),
            (Some(MicroBatch::Images(64)), vec![part(0, 10)]),
            (Some(MicroBatch::Images(4)), vec![part(0, 4), part(4, 4), part(8, 2)]),
            (Some(MicroBatch::Images(9)), vec![part(0, 9), part(9, 1)]),
            (Some(MicroBatch::Auto), vec![part(0, 10)]),
        ] {
            let (mut parts, mut micro_batches) = (Vec::new(), MicroBatches::new(setting));
            let (loss, gradient) =
                micro_batches.compute(10, |part| compute(&numbers, 10, &mut parts, part)).unwrap();
            assert_eq!((parts, micro_batches.adapted()), (expected, None), "{setting:?}");
            for (found, expected) in [(loss, mean), (gradient, 2.0 * mean)] {
                assert!(
                    (found.double_value(&[0].as_slice()[..found.dim()]) - f64::from(expected)).abs() < 1e-6
                );
            }
        }
    }

    #[test]
    fn memory_that_is_not_enough_halves_the_parts_for_good() {
        let numbers = [1.0; 9];
        let mut micro_batches = MicroBatches::new(Some(MicroBatch::Auto));
        let mut parts = Vec::new();
        // 9, 5, then 3 at a time.
        let _ = micro_batches.compute(9, |part| compute(&numbers, 3, &mut parts, part)).unwrap();
        assert_eq!((parts, micro_batches.adapted()), (vec![part(0, 3), part(3, 3), part(6, 3)], Some(3)));
        // More memory later changes nothing: a resumed attempt would not know of it.
        let mut parts = Vec::new();
        let _ = micro_batches.compute(9, |part| compute(&numbers, 9, &mut parts, part)).unwrap();
        assert_eq!(parts.len(), 3);
        let mut resumed = MicroBatches::new(Some(MicroBatch::Auto));
        resumed.restore(micro_batches.adapted());
        assert_eq!(resumed, micro_batches);
        // Not enough for one image.
        let error = micro_batches.compute(9, |part| compute(&numbers, 0, &mut Vec::new(), part));
        assert!(matches!(error, Err(TrialError::OutOfMemory(_))) && micro_batches.adapted() == Some(1));
    }

    #[test]
    fn a_number_that_the_specification_names_is_kept() {
        let mut fixed = MicroBatches::new(Some(MicroBatch::Images(4)));
        let error = fixed.compute(9, |part| compute(&[1.0; 9], 3, &mut Vec::new(), part));
        assert!(matches!(error, Err(TrialError::OutOfMemory(_))));
        fixed.restore(Some(2));
        assert_eq!(fixed, MicroBatches::new(Some(MicroBatch::Images(4))));
    }
}
