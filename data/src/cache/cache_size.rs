//! How much disk a dataset's cache will take, before it is made.

use rayon::prelude::*;
use serde::Serialize;

use crate::decoding::{BilinearResizer, DecodedImage};
use crate::layout::DatasetFolder;

/// Images that are decoded to tell the size of all.
const SAMPLE_MAX: usize = 200;
/// The most bytes of images under the evaluation transform that are kept. A larger dataset is resized at each use, which costs little compared
/// with reading so much data.
pub const RESIZED_BYTES_MAX: u64 = 16 << 30;

/// The disk that the cache of a dataset takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CacheSize {
    /// Images of the dataset.
    pub images: u64,
    /// Bytes of the decoded images and of those under the evaluation transform, as far as they are kept.
    pub bytes: u64,
    /// Whether every image was looked at. Else the size is that of evenly spaced ones, times the number of all.
    pub is_exact: bool,
}

impl DatasetFolder {
    /// The disk that [`crate::Images::open`] will take with these `cache_pixels`, and [`crate::Images::resized`] with these `pixels`. At most
    /// 200 images are decoded, in the current rayon pool; those that cannot be are left out. None if no image can be decoded.
    pub fn cache_size(&self, cache_pixels: Option<u32>, pixels: u32) -> Option<CacheSize> {
        let all: Vec<_> = self
            .domains
            .iter()
            .enumerate()
            .flat_map(|(domain, files)| (0..files.len()).map(move |index| (domain, index)))
            .collect();
        let step = all.len().div_ceil(SAMPLE_MAX).max(1);
        let sample: Vec<_> = all.iter().step_by(step).collect();
        let decoded = |resizer: &mut BilinearResizer, &&(domain, index): &&(usize, usize)| -> Option<u64> {
            let image: DecodedImage = self.decode(domain, index, None).ok()?;
            let image = match cache_pixels {
                Some(side_max) => resizer.shrink(image, side_max).ok()?,
                None => image,
            };
            Some(image.pixels.len() as u64)
        };
        let sizes: Vec<u64> =
            sample.par_iter().map_init(BilinearResizer::default, decoded).flatten_iter().collect();
        let (images, known) = (all.len() as u64, sizes.len() as u64);
        // At most 200 sizes of at most 768 MiB, times at most 2^32 images.
        let sum = u128::from(sizes.iter().sum::<u64>()) * u128::from(images) / u128::from(known.max(1));
        let resized = images * u64::from(pixels).pow(2) * 3;
        let bytes = u64::try_from(sum).ok()? + if resized > RESIZED_BYTES_MAX { 0 } else { resized };
        (known > 0).then_some(CacheSize { images, bytes, is_exact: known == images })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Images, NoProgress, discover};
    use std::fs;

    #[test]
    fn the_size_is_that_of_the_files_that_are_made() {
        let root = tempfile::tempdir().unwrap();
        for (count, domain) in [(30, "a"), (25, "b")] {
            let folder = root.path().join("T").join(domain).join("x");
            fs::create_dir_all(&folder).unwrap();
            for index in 0..count {
                image::RgbImage::new(20 + index, 40).save(folder.join(format!("{index:02}.png"))).unwrap();
            }
        }
        let folder = || discover(&root.path().join("T")).unwrap().folder;
        for cache_pixels in [None, Some(30)] {
            let size = folder().cache_size(cache_pixels, 16).unwrap();
            let images =
                Images::open(folder(), &root.path().join("cache"), cache_pixels, &NoProgress).unwrap();
            let resized = 55 * 16 * 16 * 3;
            // The file has a header, checksums, and a table with 16 bytes for each image.
            let beside = images.cached_bytes() - (size.bytes - resized);
            assert_eq!((size.images, size.is_exact), (55, true));
            assert!((55 * 16..55 * 16 + 10_000).contains(&beside), "{beside}");
        }
    }

    #[test]
    fn of_many_images_some_are_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("T/a/x");
        fs::create_dir_all(&folder).unwrap();
        for index in 0..401 {
            image::RgbImage::new(4, 4).save(folder.join(format!("{index}.png"))).unwrap();
        }
        let size = discover(&root.path().join("T")).unwrap().folder.cache_size(None, 4).unwrap();
        assert_eq!(size, CacheSize { images: 401, bytes: 401 * (48 + 48), is_exact: false });
    }
}
