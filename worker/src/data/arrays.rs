//! Arrays with one row per image that never change once they were computed: network inputs and features, shared like the images.

use std::path::Path;

use super::Images;
use super::images::Places;
use super::progress::Quiet;
use super::shared_file::{Payload, SharedFile, Writer};
use crate::error::TrialError;

/// Rows that are asked for at once.
const CHUNK: usize = 128;

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
    /// The images under a transform that never changes, mapped; `make` computes some that are missing, as bytes
    /// [count, pixels, pixels, 3], for up to 128 images (domain, index) at once. It must give every process of the machine the same
    /// bytes, so it computes on the CPU: [`super::BilinearResizer`] is the evaluation transform.
    ///
    /// # Errors
    /// What `make` reports, and as [`Images::open`] where the cache cannot be written.
    pub fn resized(
        &self,
        pixels: u32,
        make: &mut dyn FnMut(&[(usize, usize)]) -> Result<Vec<u8>, TrialError>,
    ) -> Result<Resized, TrialError> {
        let row_bytes = pixels as usize * pixels as usize * 3;
        let path = self.cache_folder().join(format!("resized-{pixels}.bin"));
        Rows::open(self, &path, &format!("resized to {pixels}"), row_bytes, make).map(|rows| Resized { rows })
    }

    /// An array of `width` numbers per image under the caller's key, which must say everything that decides the numbers besides the
    /// images; `make` computes rows that are missing, for up to 128 images (domain, index) at once.
    ///
    /// # Errors
    /// What `make` reports, and as [`Images::open`] where the cache cannot be written.
    pub fn rows(
        &self,
        key: &str,
        width: usize,
        make: &mut dyn FnMut(&[(usize, usize)]) -> Result<Vec<f32>, TrialError>,
    ) -> Result<SharedArray, TrialError> {
        let identity = format!("rows of {width}: {key}");
        let path = self.cache_folder().join(format!("rows-{}.bin", &blake3::hash(identity.as_bytes()).to_hex()[..32]));
        let mut make = |images: &[(usize, usize)]| make(images).map(|numbers| bytemuck::cast_slice(&numbers).to_vec());
        Rows::open(self, &path, &identity, width * size_of::<f32>(), &mut make).map(|rows| SharedArray { rows })
    }
}

impl Resized {
    /// The input of an image: rows from the top, channels interleaved.
    pub fn get(&self, domain: usize, index: usize) -> &[u8] {
        self.rows.get(domain, index)
    }
}

impl SharedArray {
    /// The row of an image.
    pub fn get(&self, domain: usize, index: usize) -> &[f32] {
        // Rows begin at multiples of four bytes in a payload that begins at a multiple of 64.
        bytemuck::cast_slice(self.rows.get(domain, index))
    }
}

#[derive(Debug)]
struct Rows {
    payload: Payload,
    row_bytes: usize,
    places: Places,
}

impl Rows {
    fn open(
        images: &Images,
        path: &Path,
        what: &str,
        row_bytes: usize,
        make: &mut dyn FnMut(&[(usize, usize)]) -> Result<Vec<u8>, TrialError>,
    ) -> Result<Self, TrialError> {
        let count = images.count();
        let identity = format!("{what}; {}", images.cache_folder().file_name().unwrap_or_default().display());
        let parse = |payload: Payload| {
            let complete = payload.len() == count * row_bytes;
            complete.then(|| Self { payload, row_bytes, places: images.places().clone() })
        };
        let build = |writer: &Writer| {
            let all: Vec<_> = images.all().collect();
            for chunk in all.chunks(CHUNK) {
                let made = make(chunk)?;
                if made.len() != chunk.len() * row_bytes {
                    let reason = format!("{} bytes were computed for {} rows of {row_bytes} ({what})", made.len(), chunk.len());
                    return Err(TrialError::Other(reason));
                }
                writer.append(&made)?;
            }
            Ok(())
        };
        SharedFile::new(path.to_path_buf(), &identity).open_or_build(&Quiet, parse, build)
    }

    fn get(&self, domain: usize, index: usize) -> &[u8] {
        let start = self.places.of(domain, index) * self.row_bytes;
        &self.payload[start..start + self.row_bytes]
    }
}
