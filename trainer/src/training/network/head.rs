//! The initial values of the last layer.

use sortie_core::random::{Purpose, stream, uniform_f64};

/// PyTorch's default initialisation of `Linear`: weight (row by row) and bias uniform within 1/sqrt(width).
pub fn initial_head(seed: u64, width: i64, classes: usize) -> (Vec<f32>, Vec<f32>) {
    let mut rng = stream(seed, Purpose::HeadInitialisation, 0, 0, 0);
    let bound = 1.0 / (width as f64).sqrt();
    let mut draw =
        |count: usize| (0..count).map(|_| (bound * (2.0 * uniform_f64(&mut rng) - 1.0)) as f32).collect();
    let weight = draw(classes * width as usize);
    (weight, draw(classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_pytorchs_default_and_moves_with_the_seed() {
        let (weight, bias) = initial_head(3, 1_280, 7);
        let bound = 1.0 / 1_280_f32.sqrt();
        assert_eq!((weight.len(), bias.len()), (7 * 1_280, 7));
        assert!(weight.iter().chain(&bias).all(|value| value.abs() <= bound));
        let deviation = (weight.iter().map(|value| value * value).sum::<f32>() / weight.len() as f32).sqrt();
        assert!((deviation / bound - 1.0 / 3_f32.sqrt()).abs() < 0.02, "{deviation}");
        assert_ne!(initial_head(3, 1_280, 7), initial_head(4, 1_280, 7));
    }
}
