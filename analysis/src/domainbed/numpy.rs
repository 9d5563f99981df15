//! Sums as NumPy forms them, to the last bit: tables round them, and a different last bit can become a different digit.

/// Blocks up to this size are summed in eight interleaved parts, larger ones are halved.
const BLOCK: usize = 128;
const PARTS: usize = 8;

/// `numpy.sum` of an array.
pub(super) fn sum(values: &[f64]) -> f64 {
    let n = values.len();
    if n < PARTS {
        return values.iter().sum();
    }
    if n <= BLOCK {
        let (parts, rest) = values.as_chunks::<PARTS>();
        let mut sums = [0.0; PARTS];
        for part in parts {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += value;
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        let whole = ((a + b) + (c + d)) + ((e + f) + (g + h));
        return rest.iter().fold(whole, |sum, value| sum + value);
    }
    let half = n / 2 / PARTS * PARTS;
    sum(&values[..half]) + sum(&values[half..])
}

/// `numpy.mean` of an array; NaN of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    sum(values) / values.len() as f64
}

/// `numpy.std` of an array: the population's.
pub(super) fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: Vec<f64> = values.iter().map(|value| (value - mean) * (value - mean)).collect();
    self::mean(&squares).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_numpys_to_the_last_bit() {
        // numpy.sum, numpy.mean and numpy.std of [1 / (i + 1) for i in range(n)].
        for (n, expected) in [
            (1, [1.0, 1.0, 0.0]),
            (3, [1.8333333333333333, 0.611111111111111, 0.28327886186626583]),
            (7, [2.5928571428571425, 0.37040816326530607, 0.28065779881738834]),
            (8, [2.7178571428571425, 0.3397321428571428, 0.27479051590069165]),
            (9, [2.8289682539682537, 0.31432980599647264, 0.2688532620690492]),
            (20, [3.597739657143682, 0.1798869828571841, 0.2178275363543148]),
            (128, [5.433147092589173, 0.04244646166085291, 0.10482627500383898]),
            (129, [5.440899030573669, 0.042177511864912164, 0.10446350626007432]),
            (300, [6.282663880299504, 0.02094221293433168, 0.07094677343195521]),
            (1000, [7.485470860550345, 0.007485470860550345, 0.039848491723996425]),
        ] {
            let values: Vec<f64> = (0..n).map(|i| 1.0 / f64::from(i + 1)).collect();
            assert_eq!([sum(&values), mean(&values), deviation(&values)], expected, "{n}");
        }
    }
}
