//! Lists the files of a dataset by name and checks them against the specification. Nothing is decoded here.

use std::fs;
use std::path::{Path, PathBuf};

use sortie_core::trial::{DatasetSpec, SplitBy};

use super::entries::Ignored;
use super::image_files::ImageFile;
use super::listing::list_images;
use super::missing_folder::missing_folder;
use crate::cache::content_digests::{self, Input};
use crate::decoding::{DecodedImage, decode};
use crate::digits::{self, DigitKind, Digits};
use crate::error::DataError;

/// The images of a dataset by domain, in the specification's order of domains. Within a domain files are in class order, then in sorted
/// file order. Splits count in that order. Generated images have the order in which they were assigned to domains.
#[derive(Clone, Debug)]
pub struct DatasetFolder {
    /// `domains[d][i]` is image i of domain d.
    pub domains: Vec<Vec<ImageFile>>,
    pub(crate) source: Source,
}

/// Where images come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Each from its own file below this folder.
    Files(PathBuf),
    /// Made from the digits of MNIST.
    Digits(Box<Digits>),
}

impl DatasetFolder {
    /// Lists a dataset below the data root. RotatedMNIST and ColoredMNIST are made from the files of MNIST, unless there is a folder of
    /// that name.
    ///
    /// # Errors
    /// [`DataError::BadData`] naming the path: a folder of the dataset, a domain or a class is missing, a class has no image in some
    /// domain (unless the specification allows that), a domain has a class that the specification does not know, or `dataset.toml`
    /// demands another split.
    pub fn scan(root: &Path, spec: &DatasetSpec) -> Result<Self, DataError> {
        let folder = root.join(&spec.name);
        if !folder.is_dir() {
            if let Some(kind) = DigitKind::of_dataset(&spec.name) {
                let (domains, digits) = digits::list(root, kind, spec)?;
                return Ok(Self { domains, source: Source::Digits(Box::new(digits)) });
            }
            return Err(missing_folder(root, &spec.name));
        }
        check_dataset_file(&folder, spec.split_by)?;
        let listed = list_images(&folder, spec, &mut Ignored::default())?;
        listed.check(&folder, spec)?;
        Ok(Self { domains: listed.domains, source: Source::Files(folder) })
    }

    /// The files that decide the pixels, and the folder that holds them.
    pub(crate) fn inputs(&self) -> (&Path, Vec<Input<'_>>) {
        match &self.source {
            Source::Files(folder) => {
                let files = self.domains.iter().flatten();
                (folder, files.map(|file| Input { path: &file.path, name: &file.name }).collect())
            }
            Source::Digits(digits) => digits.inputs(),
        }
    }

    /// The digest of the dataset, given those of its inputs.
    pub(crate) fn digest(&self, inputs: &[Input], contents: &[blake3::Hash]) -> String {
        let files = inputs.iter().zip(contents).map(|(input, content)| (input.name, *content));
        match &self.source {
            Source::Files(_) => content_digests::digest_of_all(files),
            Source::Digits(digits) => {
                let recipe = digits.recipe();
                content_digests::digest_of_all(
                    files.chain(std::iter::once((recipe.as_str(), blake3::hash(b"")))),
                )
            }
        }
    }

    /// Reads and decodes an image, or generates it. `content` is the digest that its file must still have. Generated images have none of
    /// their own.
    pub(crate) fn decode(
        &self,
        domain: usize,
        index: usize,
        content: Option<&blake3::Hash>,
    ) -> Result<DecodedImage, DataError> {
        let file = &self.domains[domain][index];
        match &self.source {
            Source::Files(_) => {
                let bytes = content_digests::read(&file.path)?;
                if content.is_some_and(|content| blake3::hash(&bytes) != *content) {
                    return Err(DataError::bad_data(&file.path, "it changed while the dataset was read"));
                }
                decode(&bytes).map_err(|reason| DataError::damaged(&file.path, reason))
            }
            Source::Digits(digits) => digits.image(domain, index),
        }
    }
}

/// A file `dataset.toml` may say which images show the same object. A trial with another split would leak objects from `in` to `out`.
pub(super) fn check_dataset_file(dataset: &Path, split_by: SplitBy) -> Result<(), DataError> {
    let path = &dataset.join("dataset.toml");
    if !path.exists() {
        return Ok(());
    }
    let group = group(path)?;
    let expected = split_by.as_str();
    if group != expected {
        let reason = format!("it says group = {group:?}, but the trial splits by {expected:?}");
        return Err(DataError::bad_data(path, reason));
    }
    Ok(())
}

/// What a `dataset.toml` says about the split.
pub(crate) fn group(path: &Path) -> Result<String, DataError> {
    let text = fs::read_to_string(path).map_err(|error| DataError::bad_data(path, error))?;
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| DataError::bad_data(path, error.message()))?;
    match table.get("group") {
        None => Ok(SplitBy::Image.as_str().to_owned()),
        Some(value) => {
            value.as_str().map(str::to_owned).ok_or_else(|| DataError::bad_data(path, "group is not a text"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::trial::{Layout, MissingClasses};

    fn spec(split_by: SplitBy) -> DatasetSpec {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        DatasetSpec {
            name: "Tiny".into(),
            domains: words("ink oil"),
            classes: words("cat dog"),
            split_by,
            layout: Layout::default(),
            missing_classes: MissingClasses::default(),
        }
    }

    /// Two domains of two classes of two files; the files are empty, for nothing is decoded here.
    fn tiny() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (domain, class, file) in [("ink", "cat"), ("ink", "dog"), ("oil", "cat"), ("oil", "dog")]
            .iter()
            .flat_map(|(d, c)| ["b.png", "a.JPG"].map(|f| (*d, *c, f)))
        {
            let folder = root.path().join("Tiny").join(domain).join(class);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), b"").unwrap();
            fs::write(folder.join("notes.txt"), b"").unwrap();
        }
        root
    }

    #[test]
    fn files_are_listed_in_class_order_then_sorted() {
        let folder = DatasetFolder::scan(tiny().path(), &spec(SplitBy::Image)).unwrap();
        let names: Vec<&str> = folder.domains[1].iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["oil/cat/a.JPG", "oil/cat/b.png", "oil/dog/a.JPG", "oil/dog/b.png"]);
        assert_eq!(folder.domains[1][2].label, 1);
        assert_eq!(folder.domains[1][2].stem, "a");
    }

    #[test]
    fn what_is_missing_is_named_by_path() {
        let refused = |change: &dyn Fn(&Path), end: &str, reason: &str| {
            let root = tiny();
            change(&root.path().join("Tiny"));
            let error = DatasetFolder::scan(root.path(), &spec(SplitBy::Image)).unwrap_err().to_string();
            assert!(error.contains(end) && error.contains(reason) && error.lines().count() == 1, "{error}");
        };
        refused(&|tiny| fs::remove_dir_all(tiny).unwrap(), "Tiny", "the dataset's folder is missing");
        refused(
            &|tiny| fs::remove_dir_all(tiny.join("oil")).unwrap(),
            "Tiny/oil",
            "the domain's folder is missing",
        );
        refused(
            &|tiny| fs::remove_dir_all(tiny.join("oil/dog")).unwrap(),
            "Tiny/oil/dog",
            "the class is missing",
        );
        refused(&|tiny| fs::create_dir(tiny.join("ink/fox")).unwrap(), "Tiny/ink/fox", "not among those");
        let empty = |tiny: &Path| {
            fs::remove_file(tiny.join("ink/cat/a.JPG")).unwrap();
            fs::remove_file(tiny.join("ink/cat/b.png")).unwrap();
        };
        refused(&empty, "Tiny/ink/cat", "no image");
    }

    #[test]
    fn a_dataset_that_groups_by_stem_is_not_split_by_image() {
        let root = tiny();
        fs::write(root.path().join("Tiny/dataset.toml"), "name = \"Tiny\"\ngroup = \"stem\"\n").unwrap();
        let error = DatasetFolder::scan(root.path(), &spec(SplitBy::Image)).unwrap_err().to_string();
        assert!(error.contains("dataset.toml") && error.contains("stem"), "{error}");
        assert!(DatasetFolder::scan(root.path(), &spec(SplitBy::Stem)).is_ok());
    }
}
