//! The file format of MNIST: big-endian, a magic number (type, number of dimensions), the dimensions, the bytes.

const SIDE_PIXELS_MAX: usize = 1_024;

/// Gray images of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Images {
    pub(crate) count: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// `count * height * width` bytes.
    pub(crate) pixels: Vec<u8>,
}

impl Images {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let ([count, height, width], pixels) = header(bytes, 0x0803)?;
        if !(1..=SIDE_PIXELS_MAX).contains(&height) || !(1..=SIDE_PIXELS_MAX).contains(&width) {
            return Err(format!("images of {height} x {width} pixels are not supported"));
        }
        Ok(Self { count, height, width, pixels: exactly(pixels, count.saturating_mul(height * width))? })
    }

    /// Adds those of another file behind.
    pub(crate) fn append(&mut self, other: Self) -> Result<(), String> {
        if self.count > 0 && (self.height, self.width) != (other.height, other.width) {
            return Err("the images of the two files differ in size".into());
        }
        (self.height, self.width) = (other.height, other.width);
        self.count += other.count;
        self.pixels.extend(other.pixels);
        Ok(())
    }
}

/// Labels 0 to 9.
pub(crate) fn labels(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let ([count], labels) = header(bytes, 0x0801)?;
    let labels = exactly(labels, count)?;
    match labels.iter().find(|&&label| label > 9) {
        Some(label) => Err(format!("label {label} is not a digit")),
        None => Ok(labels),
    }
}

fn header<const N: usize>(bytes: &[u8], magic: u32) -> Result<([usize; N], &[u8]), String> {
    let (words, _) = bytes.as_chunks::<4>();
    if words.len() <= N {
        return Err("the file is too short to be an IDX file".into());
    }
    let word = |index: usize| u32::from_be_bytes(words[index]);
    if word(0) != magic {
        return Err(format!(
            "the file begins with {:#010x}, not with {magic:#010x} as an IDX file of its kind",
            word(0)
        ));
    }
    Ok((std::array::from_fn(|index| word(index + 1) as usize), &bytes[4 * (N + 1)..]))
}

fn exactly(bytes: &[u8], expected: usize) -> Result<Vec<u8>, String> {
    if bytes.len() == expected {
        Ok(bytes.to_vec())
    } else {
        Err(format!("it has {} bytes of data instead of {expected}", bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_refused_in_words() {
        let file = |magic: u32, sizes: &[u32], data: usize| {
            let mut bytes: Vec<u8> =
                std::iter::once(&magic).chain(sizes).flat_map(|word| word.to_be_bytes()).collect();
            bytes.extend((0..data).map(|value| value as u8));
            bytes
        };
        let images = Images::parse(&file(0x0803, &[2, 2, 3], 12)).unwrap();
        assert_eq!((images.count, images.height, images.width, images.pixels[11]), (2, 2, 3, 11));
        assert_eq!(labels(&file(0x0801, &[3], 3)).unwrap(), [0, 1, 2]);
        let refused = |bytes: &[u8], reason: &str| {
            let error = Images::parse(bytes).unwrap_err();
            assert!(error.contains(reason), "{error}");
        };
        refused(b"", "too short");
        refused(&file(0x0801, &[2, 2, 3], 12), "not with 0x00000803");
        refused(&file(0x0803, &[2, 2, 3], 11), "11 bytes of data instead of 12");
        refused(&file(0x0803, &[2, 0, 3], 0), "not supported");
        refused(&file(0x0803, &[u32::MAX, 1_000, 1_000], 5), "instead of");
        assert!(labels(&file(0x0801, &[11], 11)).unwrap_err().contains("label 10"));
        let mut all = Images::default();
        all.append(images.clone()).unwrap();
        all.append(images.clone()).unwrap();
        assert_eq!((all.count, all.pixels.len()), (4, 24));
        assert!(all.append(Images { width: 2, ..images }).is_err());
    }
}
