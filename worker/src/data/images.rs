//! The pixels of a dataset: every file is read, digested and decoded once at the start, and kept in memory as far as a budget allows.

use std::borrow::Cow;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::{DatasetFolder, DecodedImage, ImageFile, decode};
use crate::error::TrialError;

const FILE_BYTES_MAX: u64 = 512 << 20;
/// Used where the machine does not tell how much memory it has.
const BUDGET_BYTES_FALLBACK: u64 = 2 << 30;

/// The images of a dataset.
pub struct Images {
    domains: Vec<Vec<Entry>>,
    digest: String,
}

struct Entry {
    file: ImageFile,
    /// None when the budget was used up: then the file is decoded again at each use.
    kept: Option<DecodedImage>,
}

impl Images {
    /// Reads and decodes all files in parallel; at most `budget_bytes` of pixels are kept.
    ///
    /// # Errors
    /// [`TrialError::BadData`] naming the first file, in sorted order, that cannot be read or decoded.
    pub fn load(folder: DatasetFolder, budget_bytes: u64) -> Result<Self, TrialError> {
        let left = AtomicU64::new(budget_bytes);
        let mut hasher = blake3::Hasher::new();
        let mut domains = Vec::with_capacity(folder.domains.len());
        for files in folder.domains {
            let read: Vec<_> = files.into_par_iter().map(|file| read_entry(file, &left)).collect();
            let mut entries = Vec::with_capacity(read.len());
            // In file order whatever thread was first, so that digest and error message do not depend on the thread count.
            for result in read {
                let (entry, content) = result?;
                hasher.update(entry.file.name.as_bytes());
                hasher.update(b"\0");
                hasher.update(content.as_bytes());
                entries.push(entry);
            }
            domains.push(entries);
        }
        Ok(Self { domains, digest: hasher.finalize().to_hex().to_string() })
    }

    /// BLAKE3 over the relative paths and contents of all files, in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How many images a domain has.
    pub fn len(&self, domain: usize) -> usize {
        self.domains[domain].len()
    }

    /// The class of an image.
    pub fn label(&self, domain: usize, index: usize) -> usize {
        self.domains[domain][index].file.label
    }

    /// The files of a domain, in the order that splits count in.
    pub fn files(&self, domain: usize) -> impl Iterator<Item = &ImageFile> {
        self.domains[domain].iter().map(|entry| &entry.file)
    }

    /// The pixels of an image at its original size.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when a file that did not fit the budget can no longer be read.
    pub fn pixels(&self, domain: usize, index: usize) -> Result<Cow<'_, DecodedImage>, TrialError> {
        let Entry { file, kept } = &self.domains[domain][index];
        match kept {
            Some(image) => Ok(Cow::Borrowed(image)),
            None => Ok(Cow::Owned(read_image(file)?.0)),
        }
    }
}

fn read_entry(file: ImageFile, left: &AtomicU64) -> Result<(Entry, blake3::Hash), TrialError> {
    let (image, digest) = read_image(&file)?;
    let bytes = image.pixels.len() as u64;
    let fits = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok();
    Ok((Entry { file, kept: fits.then_some(image) }, digest))
}

fn read_image(file: &ImageFile) -> Result<(DecodedImage, blake3::Hash), TrialError> {
    let bad = |reason: String| TrialError::bad_data(&file.path, reason);
    let length = fs::metadata(&file.path).map_err(|error| bad(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(bad(format!("{length} bytes are more than the {FILE_BYTES_MAX} that an image may have")));
    }
    let bytes = fs::read(&file.path).map_err(|error| bad(error.to_string()))?;
    Ok((decode(&bytes).map_err(bad)?, blake3::hash(&bytes)))
}

/// Half of the memory that the machine has available now: the rest is for the network's activations.
pub fn default_budget_bytes() -> u64 {
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:").map(str::to_owned))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    available.map_or(BUDGET_BYTES_FALLBACK, |kib| kib * 1024 / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::finetune::SplitBy;
    use sortie_core::trial::DatasetSpec;

    fn folder(root: &std::path::Path) -> DatasetFolder {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let spec = DatasetSpec { name: "T".into(), domains: words("a b"), classes: words("x y"), split_by: SplitBy::Image };
        for (index, (domain, class)) in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")].into_iter().enumerate() {
            let folder = root.join("T").join(domain).join(class);
            fs::create_dir_all(&folder).unwrap();
            let image = image::RgbImage::from_pixel(4, 3, image::Rgb([index as u8, 2, 3]));
            let path = folder.join("1.png");
            if !path.exists() {
                image.save(path).unwrap();
            }
        }
        DatasetFolder::scan(root, &spec).unwrap()
    }

    #[test]
    fn a_small_budget_changes_neither_pixels_nor_digest() {
        let root = tempfile::tempdir().unwrap();
        let (all, few) = (Images::load(folder(root.path()), 1 << 20).unwrap(), Images::load(folder(root.path()), 40).unwrap());
        assert_eq!(all.digest(), few.digest());
        assert_eq!((all.len(1), all.label(1, 1)), (2, 1));
        for (domain, index) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_eq!(all.pixels(domain, index).unwrap(), few.pixels(domain, index).unwrap());
        }
        assert!(matches!(few.pixels(1, 1).unwrap(), Cow::Owned(_)));
        fs::rename(root.path().join("T/a/x/1.png"), root.path().join("T/a/x/2.png")).unwrap();
        assert_ne!(Images::load(folder(root.path()), 40).unwrap().digest(), all.digest());
    }

    #[test]
    fn a_corrupt_image_is_named_by_path() {
        let root = tempfile::tempdir().unwrap();
        folder(root.path());
        fs::write(root.path().join("T/b/x/1.png"), b"\x89PNG\r\n\x1a\n but no more").unwrap();
        let error = Images::load(folder(root.path()), 1 << 20).err().unwrap().to_string();
        assert!(error.contains("T/b/x/1.png") && error.lines().count() == 1, "{error}");
    }
}
