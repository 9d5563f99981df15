//! Dropout: the mask of a step, drawn on the host, and its application.

use sortie_core::random::{Purpose, stream, uniform_f32};
use tch::{TchError, Tensor};

/// The inverted dropout mask of a step, row by row: 0 with probability `rate`, else 1 / (1 - rate). None at rate 0.
pub fn dropout_mask(seed: u64, step: u64, rate: f64, elements: usize) -> Option<Vec<f32>> {
    if rate == 0.0 {
        return None;
    }
    let mut rng = stream(seed, Purpose::Dropout, 0, step, 0);
    let scale = (1.0 / (1.0 - rate)) as f32;
    Some((0..elements).map(|_| if f64::from(uniform_f32(&mut rng)) < rate { 0.0 } else { scale }).collect())
}

/// Applies dropout: multiplies the representation [n, width] by its mask. Without a mask nothing changes.
pub(super) fn apply(features: Tensor, mask: Option<&Tensor>) -> Result<Tensor, TchError> {
    match mask {
        Some(mask) => features.f_mul(mask),
        None => Ok(features),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_keeps_the_mean_and_depends_on_the_step() {
        assert_eq!(dropout_mask(1, 0, 0.0, 10), None);
        let mask = dropout_mask(1, 0, 0.9, 50_000).unwrap();
        let mean = mask.iter().map(|&value| f64::from(value)).sum::<f64>() / 50_000.0;
        assert!((0.95..1.05).contains(&mean), "{mean}");
        assert!(mask.iter().all(|&value| value == 0.0 || (value - 10.0).abs() < 1e-4));
        assert_ne!(Some(mask), dropout_mask(1, 1, 0.9, 50_000));
    }
}
