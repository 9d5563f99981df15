//! Randomness from counters.
//!
//! Every random number of a trial comes from a stream named by (seed, purpose, domain, step, position): never from the trial's id and
//! never from how many numbers were drawn before. So two trials that differ only in their dropout rate share split, batches,
//! augmentation and head initialisation, and step `k` is the same however often the trial was interrupted before it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for. The discriminants are part of every trial's numbers: never reuse or change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Which images of a training domain a step draws (with replacement).
    Batch = 1,
    /// The training transform of one image of a training batch.
    Augmentation = 2,
    /// The training transform of one image of an `out` split at an evaluation.
    EvaluationAugmentation = 3,
    /// The Bernoulli mask over the penultimate representation.
    Dropout = 4,
    /// The initial values of the new last layer.
    HeadInitialisation = 5,
    /// The initial values of the backbone of a trial that starts from scratch.
    BackboneInitialisation = 6,
    /// Datasets that are generated, not read: the order of the digits, the noise of labels and colours.
    GeneratedDataset = 7,
    /// Resampling of results for intervals: no part of any trial.
    Resampling = 8,
    /// Settings that a sweep draws at random, once.
    RandomSearch = 9,
}

/// The stream of one counter: ChaCha8 keyed by exactly these five values.
///
/// `domain` is the index of the domain in the dataset's sorted list, `step` the training step, `position` the image's position in the
/// batch or split; a purpose that has no use for one of them passes 0.
pub fn stream(seed: u64, purpose: Purpose, domain: u32, step: u64, position: u64) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    key[0..8].copy_from_slice(&seed.to_le_bytes());
    key[8..12].copy_from_slice(&(purpose as u32).to_le_bytes());
    key[12..16].copy_from_slice(&domain.to_le_bytes());
    key[16..24].copy_from_slice(&step.to_le_bytes());
    key[24..32].copy_from_slice(&position.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A number in [0, 1) with 53 random bits.
pub fn uniform_f64(rng: &mut ChaCha8Rng) -> f64 {
    // A f64 has 53 bits of precision, so every value of this form is exact and equally likely.
    (rng.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// A number in [0, 1) with 24 random bits: cheaper, for masks of many elements.
pub fn uniform_f32(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 * (1.0 / (1_u32 << 24) as f32)
}

/// A number in 0..bound, unbiased (rejection of the incomplete last interval). A bound of 0 gives 0.
pub fn uniform_below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    if bound <= 1 {
        return 0;
    }
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let draw = rng.next_u64();
        if draw < limit {
            return draw % bound;
        }
    }
}

/// A uniformly random order of 0..N (Fisher-Yates).
pub fn permutation<const N: usize>(rng: &mut ChaCha8Rng) -> [usize; N] {
    let mut order = std::array::from_fn(|index| index);
    for last in (1..N).rev() {
        let other = uniform_below(rng, last as u64 + 1) as usize;
        order.swap(last, other);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_each_of_its_five_values_and_on_nothing_else() {
        let draw =
            |seed, purpose, domain, step, position| stream(seed, purpose, domain, step, position).next_u64();
        let base = draw(1, Purpose::Batch, 2, 3, 4);
        assert_eq!(base, draw(1, Purpose::Batch, 2, 3, 4));
        for other in [
            draw(2, Purpose::Batch, 2, 3, 4),
            draw(1, Purpose::Dropout, 2, 3, 4),
            draw(1, Purpose::Batch, 3, 3, 4),
            draw(1, Purpose::Batch, 2, 4, 4),
            draw(1, Purpose::Batch, 2, 3, 5),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn the_stream_is_pinned() {
        // These values are part of every stored result: if they change, `trial::PROTOCOL_VERSION` must be raised.
        let mut rng = stream(7, Purpose::Dropout, 0, 11, 0);
        assert_eq!([rng.next_u32(), rng.next_u32()], PINNED);
    }
    const PINNED: [u32; 2] = [1_561_265_207, 3_877_235_257];

    #[test]
    fn uniform_numbers_fill_their_range() {
        let mut rng = stream(0, Purpose::Batch, 0, 0, 0);
        let mut seen = [0_u32; 5];
        for _ in 0..5_000 {
            seen[uniform_below(&mut rng, 5) as usize] += 1;
            assert!((0.0..1.0).contains(&uniform_f64(&mut rng)));
            assert!((0.0..1.0).contains(&uniform_f32(&mut rng)));
        }
        assert!(seen.iter().all(|&count| (850..1_150).contains(&count)), "{seen:?}");
        assert_eq!(uniform_below(&mut rng, 0), 0);
    }

    #[test]
    fn permutations_hold_every_index_once() {
        let mut order: [usize; 4] = permutation(&mut stream(3, Purpose::Augmentation, 0, 0, 0));
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
    }
}
