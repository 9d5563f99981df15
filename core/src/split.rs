//! The `in`/`out` split of a domain, bit for bit as DomainBed and the paper's reference code make it (docs/protocol.md, "Data protocol"):
//! NumPy's legacy `RandomState(seed_hash(trial_seed, domain index)).shuffle`, the first `int(0.2 N)` images `out`, the rest `in`.

use md5::{Digest, Md5};

/// The share of a domain's images (or groups of images) that its `out` split holds.
pub const HOLDOUT_FRACTION: f64 = 0.2;

/// The two parts of one domain, as indices into its images in class order, then sorted file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The images that training draws from.
    pub in_: Vec<usize>,
    /// The images that validation reads.
    pub out: Vec<usize>,
}

/// DomainBed's `seed_hash(trial_seed, domain_index)`: MD5 of the Python text of the argument tuple, as an integer, mod 2^31.
pub fn seed_hash(trial_seed: u64, domain_index: u64) -> u32 {
    seed_hash_of_text(&format!("({trial_seed}, {domain_index})"))
}

/// `seed_hash` of an argument tuple given as Python prints it.
pub fn seed_hash_of_text(tuple: &str) -> u32 {
    let digest = Md5::digest(tuple.as_bytes());
    let low = u32::from_be_bytes([digest[12], digest[13], digest[14], digest[15]]);
    // The digest read as one big-endian integer: its value mod 2^31 depends on the last four bytes only.
    low & 0x7fff_ffff
}

/// Splits `n` images (or groups) of the domain with this index under this trial seed.
pub fn split_indices(trial_seed: u64, domain_index: u64, n: usize) -> Split {
    let mut keys: Vec<usize> = (0..n).collect();
    Mt19937::new(seed_hash(trial_seed, domain_index)).shuffle(&mut keys);
    let out_len = (n as f64 * HOLDOUT_FRACTION) as usize;
    let in_ = keys.split_off(out_len);
    Split { in_, out: keys }
}

/// NumPy's legacy generator. A library's MT19937 would give the same words, but the shuffle's masked rejection is specific to NumPy.
struct Mt19937 {
    state: [u32; 624],
    next: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [0_u32; 624];
        state[0] = seed;
        for i in 1..624 {
            let previous = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: 624 }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number in 0..=max by masked rejection, as NumPy's `random_interval`.
    fn interval(&mut self, max: u32) -> u32 {
        let mut mask = max;
        for shift in [1, 2, 4, 8, 16] {
            mask |= mask >> shift;
        }
        loop {
            let draw = self.next_u32() & mask;
            if draw <= max {
                return draw;
            }
        }
    }

    /// Fisher-Yates from the end. Domains have far fewer than 2^32 images, so the 32-bit interval is the one NumPy takes.
    fn shuffle(&mut self, keys: &mut [usize]) {
        for last in (1..keys.len()).rev() {
            let other = self.interval(last as u32) as usize;
            keys.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_hash_gives_domainbeds_numbers() {
        assert_eq!(seed_hash(0, 0), 894_182_419);
        assert_eq!(seed_hash(0, 1), 1_514_274_641);
        assert_eq!(seed_hash_of_text("('VLCS', 'ERM', [0], 0, 0)"), 1_721_972_278);
    }

    #[test]
    fn shuffle_gives_numpys_order() {
        let mut keys: Vec<usize> = (0..10).collect();
        Mt19937::new(894_182_419).shuffle(&mut keys);
        assert_eq!(keys, [2, 3, 8, 1, 4, 5, 0, 9, 6, 7]);
    }

    #[test]
    fn pacs_out_splits_have_the_papers_sizes() {
        for (n, out) in [(2_048, 409), (2_344, 468), (1_670, 334), (3_929, 785)] {
            let split = split_indices(0, 0, n);
            assert_eq!((split.out.len(), split.in_.len()), (out, n - out));
        }
    }

    #[test]
    fn a_split_covers_every_image_once_and_moves_with_its_seed() {
        let split = split_indices(0, 2, 1_000);
        let mut all: Vec<usize> = split.in_.iter().chain(&split.out).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
        assert_ne!(split, split_indices(1, 2, 1_000));
        assert_eq!(split_indices(0, 0, 0).in_.len(), 0);
    }
}
