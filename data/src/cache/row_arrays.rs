//! Arrays with one row per image: network inputs and features. They are computed once and shared like the decoded images.

use std::path::Path;

use super::Images;
use super::decoded_images::FlatIndex;
use super::shared_file::{Payload, SharedFile, Writer};
use crate::error::DataError;
use crate::progress::NoProgress;

/// Rows that are asked for at once.
const CHUNK: usize = 128;

/// Computes the rows of some images, given as (domain, index), and concatenates them.
pub type ComputeRows<'a, T, E = DataError> = dyn FnMut(&[(usize, usize)]) -> Result<Vec<T>, E> + 'a;

/// Network inputs [n, pixels, pixels, 3] of 8 bits, one per image.
#[derive(Debug)]
pub struct Resized {
    rows: Rows,
}

/// Rows of single-precision numbers [n, width], one per image.
#[derive(Debug)]
pub struct SharedArray {
    rows: Rows,
}

impl Images {
    /// The images under a transform that never changes, mapped; `compute` computes some that are missing, as bytes
    /// [count, pixels, pixels, 3], for up to 128 images (domain, index) at once. It must give every process of the machine the same
    /// bytes, so it computes on the CPU: [`crate::BilinearResizer`] is the evaluation transform.
    ///
    /// # Errors
    /// What `compute` reports, and as [`Images::open`] where the cache cannot be written.
    pub fn resized<E: From<DataError>>(
        &self,
        pixels: u32,
        compute: &mut ComputeRows<u8, E>,
    ) -> Result<Resized, E> {
        let row_bytes = pixels as usize * pixels as usize * 3;
        let path = self.cache_folder().join(format!("resized-{pixels}.bin"));
        Rows::open(self, &path, &format!("resized to {pixels}"), row_bytes, compute)
            .map(|rows| Resized { rows })
    }

    /// An array of `width` numbers per image under the caller's key, which must say everything that decides the numbers besides the
    /// images; `compute` computes rows that are missing, for up to 128 images (domain, index) at once.
    ///
    /// # Errors
    /// What `compute` reports, and as [`Images::open`] where the cache cannot be written.
    pub fn rows<E: From<DataError>>(
        &self,
        key: &str,
        width: usize,
        compute: &mut ComputeRows<f32, E>,
    ) -> Result<SharedArray, E> {
        let identity = format!("rows of {width}: {key}");
        let path = self
            .cache_folder()
            .join(format!("rows-{}.bin", &blake3::hash(identity.as_bytes()).to_hex()[..32]));
        let mut compute = |images: &[(usize, usize)]| {
            compute(images).map(|numbers| bytemuck::cast_slice(&numbers).to_vec())
        };
        Rows::open(self, &path, &identity, width * size_of::<f32>(), &mut compute)
            .map(|rows| SharedArray { rows })
    }
}

impl Resized {
    /// The input of an image: rows from the top, channels interleaved.
    ///
    /// # Errors
    /// [`DataError::Machine`] when the file was damaged after it was made.
    pub fn get(&self, domain: usize, index: usize) -> Result<&[u8], DataError> {
        self.rows.get(domain, index)
    }
}

impl SharedArray {
    /// The row of an image.
    ///
    /// # Errors
    /// [`DataError::Machine`] when the file was damaged after it was made.
    pub fn get(&self, domain: usize, index: usize) -> Result<&[f32], DataError> {
        // Rows begin at multiples of four bytes in a payload that begins at a multiple of 64.
        self.rows.get(domain, index).map(bytemuck::cast_slice)
    }
}

#[derive(Debug)]
struct Rows {
    payload: Payload,
    row_bytes: usize,
    flat_index: FlatIndex,
}

impl Rows {
    fn open<E: From<DataError>>(
        images: &Images,
        path: &Path,
        what: &str,
        row_bytes: usize,
        compute: &mut ComputeRows<u8, E>,
    ) -> Result<Self, E> {
        let count = images.count();
        let identity = format!("{what}; {}", images.cache_folder().file_name().unwrap_or_default().display());
        let parse = |payload: Payload| {
            let complete = payload.len() == count * row_bytes;
            complete.then(|| Self { payload, row_bytes, flat_index: images.flat_index().clone() })
        };
        let build = |writer: &Writer| {
            let all: Vec<_> = images.all().collect();
            for chunk in all.chunks(CHUNK) {
                let computed = compute(chunk)?;
                if computed.len() != chunk.len() * row_bytes {
                    let reason = format!(
                        "{} bytes were computed for {} rows of {row_bytes} ({what})",
                        computed.len(),
                        chunk.len()
                    );
                    return Err(DataError::Other(reason).into());
                }
                writer.append(&computed)?;
            }
            Ok(())
        };
        SharedFile::new(path.to_path_buf(), &identity).open_or_build(&NoProgress, parse, build)
    }

    fn get(&self, domain: usize, index: usize) -> Result<&[u8], DataError> {
        let start = self.flat_index.position(domain, index) * self.row_bytes;
        self.payload.get(start..start + self.row_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BilinearResizer, discover};

    fn images(root: &Path) -> Images {
        for (index, domain) in ["a", "b"].into_iter().enumerate() {
            let folder = root.join("T").join(domain).join("x");
            std::fs::create_dir_all(&folder).unwrap();
            for image in 0..2_u8 {
                let pixel = image::Rgb([10 * index as u8 + image, 0, 0]);
                image::RgbImage::from_pixel(5, 7, pixel).save(folder.join(format!("{image}.png"))).unwrap();
            }
        }
        let folder = discover(&root.join("T")).unwrap().folder;
        Images::open(folder, &root.join("cache"), None, &NoProgress).unwrap()
    }

    #[test]
    fn inputs_are_computed_once_and_found_by_domain_and_index() {
        let root = tempfile::tempdir().unwrap();
        let images = images(root.path());
        let mut asked = 0;
        let mut resizer = BilinearResizer::default();
        let mut compute = |wanted: &[(usize, usize)]| {
            asked += wanted.len();
            let resized = wanted.iter().map(|&(domain, index)| {
                resizer.resize(images.pixels(domain, index).unwrap(), 3, 3).unwrap().pixels
            });
            Ok(resized.collect::<Vec<_>>().concat())
        };
        for _ in 0..2 {
            let resized = images.resized::<DataError>(3, &mut compute).unwrap();
            assert_eq!(
                [(0, 0), (0, 1), (1, 0), (1, 1)]
                    .map(|(domain, index)| resized.get(domain, index).unwrap()[24]),
                [0, 1, 10, 11]
            );
            assert_eq!(resized.get(1, 1).unwrap().len(), 27);
        }
        assert_eq!(asked, 4);
        assert!(
            images
                .resized::<DataError>(4, &mut |_| Ok(vec![0]))
                .unwrap_err()
                .to_string()
                .contains("1 bytes were computed")
        );
    }

    #[test]
    fn rows_belong_to_their_key() {
        let root = tempfile::tempdir().unwrap();
        let images = images(root.path());
        let mut compute = |wanted: &[(usize, usize)]| {
            Ok(wanted.iter().flat_map(|&(d, i)| [d as f32, i as f32, 0.5]).collect())
        };
        let rows = images.rows::<DataError>("first", 3, &mut compute).unwrap();
        assert_eq!(rows.get(1, 0).unwrap(), [1.0, 0.0, 0.5]);
        let again = images.rows::<DataError>("first", 3, &mut |_| panic!("they are there")).unwrap();
        assert_eq!(again.get(1, 1).unwrap(), [1.0, 1.0, 0.5]);
        let other = images.rows::<DataError>("second", 1, &mut |wanted| Ok(vec![9.0; wanted.len()])).unwrap();
        assert_eq!(other.get(0, 0).unwrap(), [9.0]);
        let stop = images.rows::<DataError>("third", 1, &mut |_| Err(DataError::Other("stop".into())));
        assert_eq!(stop.unwrap_err().to_string(), "stop");
    }

    #[test]
    #[should_panic(expected = "domain 0 has no image 2")]
    fn a_neighbouring_domain_is_never_read() {
        let root = tempfile::tempdir().unwrap();
        let images = images(root.path());
        images
            .rows::<DataError>("r", 1, &mut |wanted| Ok(vec![9.0; wanted.len()]))
            .unwrap()
            .get(0, 2)
            .unwrap();
    }
}
