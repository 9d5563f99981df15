//! The pixels of a dataset, decoded once per machine into one file that every trial process maps.
//!
//! # The file
//!
//! `<cache>/images/<key>/images.bin` is a shared file (see [`super::shared_file`] for its header) whose payload is the pixels of all
//! images, in any order, and at its end a table with 16 bytes per image, by domain and index: offset in the payload (u64), height (u32),
//! width (u32). The key is a digest of the dataset's digest, `cache_pixels` and the decoder's version, so another content, another size
//! or another decoder never meets an old file. The pages belong to the system's page cache. All processes share them, and the
//! system evicts them when memory runs short, so there is no memory limit to configure.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::content_digests;
use super::shared_file::{Payload, SharedFile, Writer};
use crate::decoding::{BilinearResizer, DECODER_VERSION, ImageView};
use crate::error::DataError;
use crate::layout::{DatasetFolder, ImageFile};
use crate::progress::{Progress, go_on};

const TABLE_ENTRY_BYTES: usize = 16;

/// The images of a dataset.
#[derive(Debug)]
pub struct Images {
    domains: Vec<Vec<ImageFile>>,
    flat_index: FlatIndex,
    digest: String,
    folder: PathBuf,
    decoded: Decoded,
}

impl Images {
    /// Opens the cache of a dataset's images, after building it in the current rayon pool where it is missing.
    ///
    /// `cache_pixels` shrinks images whose longer side is longer than that. All files are looked at for a change, but only new or
    /// changed ones are read.
    ///
    /// # Errors
    /// [`DataError::BadData`] naming the first file, in sorted order, that cannot be read or decoded; [`DataError::Other`] where the
    /// cache folder cannot be written, a full disk above all, or the work was cancelled.
    pub fn open(
        folder: DatasetFolder,
        cache_dir: &Path,
        cache_pixels: Option<u32>,
        progress: &dyn Progress,
    ) -> Result<Self, DataError> {
        let (data_folder, inputs) = folder.inputs();
        let contents = content_digests::digests(&inputs, data_folder, cache_dir, progress)?;
        let digest = folder.digest(&inputs, &contents);
        let identity =
            format!("images of {digest}, cache_pixels {cache_pixels:?}, decoder {DECODER_VERSION}");
        let key = blake3::hash(identity.as_bytes()).to_hex();
        let cache = cache_dir.join("images").join(&key[..32]);
        let file = SharedFile::new(cache.join("images.bin"), &identity);
        let flat_index = FlatIndex::new(&folder);
        let build = |writer: &Writer| build(writer, &folder, &contents, cache_pixels, progress);
        let decoded =
            file.open_or_build(progress, |payload| Decoded::parse(payload, flat_index.count()), build)?;
        Ok(Self { domains: folder.domains, flat_index, digest, folder: cache, decoded })
    }

    /// BLAKE3 over the relative paths and contents of all files, in hexadecimal digits; for generated images over those that they are
    /// made from, and the recipe.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How many images a domain has.
    pub fn len(&self, domain: usize) -> usize {
        self.domains[domain].len()
    }

    /// The class of an image.
    pub fn label(&self, domain: usize, index: usize) -> usize {
        self.domains[domain][index].label
    }

    /// The files of a domain, in the order that splits count in.
    pub fn files(&self, domain: usize) -> impl Iterator<Item = &ImageFile> {
        self.domains[domain].iter()
    }

    /// The pixels of an image, at its original size unless `cache_pixels` shrank it.
    ///
    /// # Errors
    /// [`DataError::Machine`] when the cache was damaged after it was made.
    pub fn pixels(&self, domain: usize, index: usize) -> Result<ImageView<'_>, DataError> {
        self.decoded.image(self.flat_index.position(domain, index))
    }

    /// The folder that everything made from these images is cached in.
    pub fn cache_folder(&self) -> &Path {
        &self.folder
    }

    /// Every image as (domain, index), domain by domain.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, usize)> {
        self.domains
            .iter()
            .enumerate()
            .flat_map(|(domain, files)| (0..files.len()).map(move |index| (domain, index)))
    }

    pub(crate) fn flat_index(&self) -> &FlatIndex {
        &self.flat_index
    }

    /// How many images all domains have together.
    pub fn count(&self) -> usize {
        self.flat_index.count()
    }

    /// Bytes of the file that holds the decoded images.
    pub fn cached_bytes(&self) -> u64 {
        self.decoded.payload.file_bytes()
    }
}

/// The position of each image when all are counted, domain by domain.
#[derive(Clone, Debug)]
pub(crate) struct FlatIndex {
    /// `starts[d]` images lie in the domains before d; the last number counts all.
    starts: Vec<usize>,
}

impl FlatIndex {
    fn new(folder: &DatasetFolder) -> Self {
        let mut starts = vec![0];
        for files in &folder.domains {
            starts.push(starts[starts.len() - 1] + files.len());
        }
        Self { starts }
    }

    /// # Panics
    /// When the domain has no such image. Reading an image of the next domain instead would be worse.
    pub(crate) fn position(&self, domain: usize, index: usize) -> usize {
        let position = self.starts[domain] + index;
        assert!(position < self.starts[domain + 1], "domain {domain} has no image {index}");
        position
    }

    pub(crate) fn count(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }
}

/// The mapped file and its table.
#[derive(Debug)]
struct Decoded {
    payload: Payload,
    table: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    height: u32,
    width: u32,
}

impl Entry {
    fn to_bytes(self) -> [u8; TABLE_ENTRY_BYTES] {
        let mut bytes = [0; TABLE_ENTRY_BYTES];
        bytes[0..8].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.height.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.width.to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; TABLE_ENTRY_BYTES]) -> Self {
        let (offset, sides) =
            (bytes[..8].as_array().copied().unwrap_or_default(), bytes[8..].as_chunks::<4>().0);
        Self {
            offset: u64::from_ne_bytes(offset),
            height: u32::from_ne_bytes(sides[0]),
            width: u32::from_ne_bytes(sides[1]),
        }
    }

    /// The bytes of the payload that are this image, if they lie before `end`.
    fn range(self, end: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(self.offset).ok()?;
        let bytes = (self.height as usize).checked_mul(self.width as usize)?.checked_mul(3)?;
        let stop = start.checked_add(bytes)?;
        (bytes > 0 && stop <= end).then_some(start..stop)
    }
}

impl Decoded {
    fn parse(payload: Payload, count: usize) -> Option<Self> {
        let end = payload.len().checked_sub(count * TABLE_ENTRY_BYTES)?;
        let table = payload.get(end..payload.len()).ok()?;
        let table: Vec<Entry> = table.as_chunks().0.iter().map(Entry::from_bytes).collect();
        table.iter().all(|entry| entry.range(end).is_some()).then_some(Self { payload, table })
    }

    fn image(&self, position: usize) -> Result<ImageView<'_>, DataError> {
        let entry = self.table[position];
        // Checked when the file was opened.
        let range = entry.range(self.payload.len()).unwrap_or_default();
        let pixels = self.payload.get(range)?;
        Ok(ImageView { height: entry.height as usize, width: entry.width as usize, pixels })
    }
}

fn build(
    writer: &Writer,
    folder: &DatasetFolder,
    contents: &[blake3::Hash],
    cache_pixels: Option<u32>,
    progress: &dyn Progress,
) -> Result<(), DataError> {
    let images: Vec<_> = folder
        .domains
        .iter()
        .enumerate()
        .flat_map(|(d, files)| (0..files.len()).map(move |i| (d, i)))
        .collect();
    progress.begin("decoding", images.len() as u64);
    let cached = |resizer: &mut BilinearResizer, position: usize| {
        go_on(progress)?;
        let (domain, index) = images[position];
        let image = folder.decode(domain, index, contents.get(position))?;
        let image = match cache_pixels {
            Some(side_max) => resizer.shrink(image, side_max),
            None => Ok(image),
        };
        let image =
            image.map_err(|reason| DataError::damaged(&folder.domains[domain][index].path, reason))?;
        let offset = writer.append(&image.pixels)?;
        progress.advance(1);
        Ok(Entry { offset, height: image.height as u32, width: image.width as u32 })
    };
    let positions = (0..images.len()).into_par_iter();
    let entries: Vec<Result<Entry, DataError>> =
        positions.map_init(BilinearResizer::default, cached).collect();
    let mut table = Vec::with_capacity(entries.len() * TABLE_ENTRY_BYTES);
    for entry in entries {
        // The first fault in file order, whichever thread found one first.
        table.extend_from_slice(&entry?.to_bytes());
    }
    writer.append(&table).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoProgress;
    use sortie_core::trial::{DatasetSpec, Layout, MissingClasses, SplitBy};
    use std::fs;

    fn folder(root: &Path) -> DatasetFolder {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let spec = DatasetSpec {
            name: "T".into(),
            domains: words("a b"),
            classes: words("x y"),
            split_by: SplitBy::Image,
            layout: Layout::default(),
            missing_classes: MissingClasses::default(),
        };
        for (index, (domain, class)) in
            [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")].into_iter().enumerate()
        {
            let folder = root.join("T").join(domain).join(class);
            fs::create_dir_all(&folder).unwrap();
            let image = image::RgbImage::from_pixel(4 + index as u32, 3, image::Rgb([index as u8, 2, 3]));
            let path = folder.join("1.png");
            if !path.exists() {
                image.save(path).unwrap();
            }
        }
        DatasetFolder::scan(root, &spec).unwrap()
    }

    fn open(root: &Path, cache_pixels: Option<u32>) -> Result<Images, DataError> {
        Images::open(folder(root), &root.join("cache"), cache_pixels, &NoProgress)
    }

    #[test]
    fn pixels_are_those_of_the_files_and_come_from_the_cache_the_next_time() {
        let root = tempfile::tempdir().unwrap();
        let first = open(root.path(), None).unwrap();
        assert_eq!((first.len(1), first.label(1, 1), first.count()), (2, 1, 4));
        for (index, (domain, image)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
            let view = first.pixels(domain, image).unwrap();
            assert_eq!((view.height, view.width), (3, 4 + index));
            assert!(view.pixels.as_chunks::<3>().0.iter().all(|&pixel| pixel == [index as u8, 2, 3]));
        }
        let file = first.cache_folder().join("images.bin");
        let made = fs::metadata(&file).unwrap().modified().unwrap();
        let second = open(root.path(), None).unwrap();
        assert_eq!(second.digest(), first.digest());
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), made);
        // Damage in the table of images is seen when the file is opened, and what was mapped before stays as it was.
        let mut bytes = fs::read(&file).unwrap();
        let first_width = bytes.len() - 4 - 4 * TABLE_ENTRY_BYTES + 12;
        bytes[first_width] ^= 1;
        fs::write(root.path().join("bad"), bytes).unwrap();
        fs::rename(root.path().join("bad"), &file).unwrap();
        assert_eq!(open(root.path(), None).unwrap().pixels(1, 1).unwrap(), first.pixels(1, 1).unwrap());
    }

    #[test]
    fn content_names_and_size_decide_which_cache_it_is() {
        let root = tempfile::tempdir().unwrap();
        let original = open(root.path(), None).unwrap();
        let small = open(root.path(), Some(5)).unwrap();
        assert_eq!(original.digest(), small.digest());
        assert_ne!(original.cache_folder(), small.cache_folder());
        assert_eq!((small.pixels(1, 1).unwrap().height, small.pixels(1, 1).unwrap().width), (2, 5));
        assert_eq!(small.pixels(0, 0).unwrap(), original.pixels(0, 0).unwrap());
        fs::rename(root.path().join("T/a/x/1.png"), root.path().join("T/a/x/2.png")).unwrap();
        fs::remove_file(root.path().join("T/a/x/2.png")).unwrap();
        image::RgbImage::new(2, 2).save(root.path().join("T/a/x/1.png")).unwrap();
        let changed = open(root.path(), None).unwrap();
        assert_ne!(changed.digest(), original.digest());
        assert_eq!((changed.pixels(0, 0).unwrap().height, original.pixels(0, 0).unwrap().height), (2, 3));
    }

    #[test]
    fn a_corrupt_image_is_named_by_path_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        folder(root.path());
        fs::write(root.path().join("T/b/x/1.png"), b"\x89PNG\r\n\x1a\n but no more").unwrap();
        let error = open(root.path(), None).unwrap_err().to_string();
        assert!(error.contains("T/b/x/1.png") && error.lines().count() == 1, "{error}");
        let caches =
            fs::read_dir(root.path().join("cache/images")).unwrap().map(|entry| entry.unwrap().path());
        for file in
            caches.filter(|path| !path.ends_with("index")).flat_map(|path| fs::read_dir(path).unwrap())
        {
            assert_eq!(file.unwrap().file_name(), "images.lock");
        }
    }
}
