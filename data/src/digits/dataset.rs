//! RotatedMNIST and ColoredMNIST, made from MNIST's files as DomainBed makes them (docs/protocol.md, "Data protocol").
//!
//! The files are `<root>/MNIST/{train,t10k}-{images-idx3,labels-idx1}-ubyte`, each with or without `.gz`, there or in `raw/` below. All
//! digits, training files first, are permuted once and assigned to the domains in rotation: domain d of n has every n-th digit of the
//! permutation, beginning with the d-th, and keeps that order, which is the order that splits count in. DomainBed draws permutation and
//! noise from torch's generators and so has other ones in each of its runs; here they are part of the dataset, from the counters
//! (seed 0, [`Purpose::GeneratedDataset`], domain, step, position): step 0 for the permutation, step 1 for the noise of the digit that
//! comes at `position` in the files, its label's first, then its colour's.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sortie_core::random::{Purpose, stream, uniform_below, uniform_f64};
use sortie_core::trial::DatasetSpec;

use super::{idx, rotate};
use crate::cache::content_digests::{self, Input};
use crate::decoding::DecodedImage;
use crate::error::DataError;
use crate::layout::ImageFile;

/// Raised whenever the same files and settings would give other images or labels.
const RECIPE_VERSION: u32 = 1;
const SEED: u64 = 0;
const LABEL_NOISE: f64 = 0.25;
/// Names of the image and label files, training files first.
pub(super) const FILES: [(&str, &str); 2] = [
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
];

/// Which dataset is made of the digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DigitKind {
    /// Digits turned by the domain's angle in degrees, counter-clockwise; classes are the digits.
    Rotated,
    /// Red or green digits; the class is 1 for digits below 5, flipped with probability 1/4; the colour is green where the class is 1,
    /// flipped with the domain's probability.
    Coloured,
}

impl DigitKind {
    pub(crate) fn of_dataset(name: &str) -> Option<Self> {
        match name {
            "RotatedMNIST" => Some(Self::Rotated),
            "ColoredMNIST" => Some(Self::Coloured),
            _ => None,
        }
    }

    fn classes(self) -> Vec<String> {
        (0..if self == Self::Rotated { 10 } else { 2 }).map(|class: u8| class.to_string()).collect()
    }
}

/// How the images of a dataset are made.
#[derive(Clone, Debug)]
pub(crate) struct Digits {
    kind: DigitKind,
    folder: PathBuf,
    /// Images, labels, images, labels: the path and the name of each.
    files: Vec<(PathBuf, &'static str)>,
    domains: Vec<String>,
    /// Angle or probability, by domain.
    settings: Vec<f64>,
    labels: Vec<u8>,
    /// The digit at each position of the permutation, as a position in the files.
    order: Vec<u32>,
    /// Read when the first image is made: an existing cache needs none.
    images: OnceLock<Result<idx::Images, String>>,
}

/// The folder below the data root that both datasets are made from.
pub(crate) const SOURCE_FOLDER: &str = "MNIST";

/// Lists the images of a dataset that is made from `<root>/MNIST`, by domain, with how they are made.
pub(crate) fn list(
    root: &Path,
    kind: DigitKind,
    spec: &DatasetSpec,
) -> Result<(Vec<Vec<ImageFile>>, Digits), DataError> {
    if spec.classes != kind.classes() {
        return Err(DataError::BadConfig(format!(
            "the classes of {} are {}",
            spec.name,
            kind.classes().join(" ")
        )));
    }
    let settings = spec
        .domains
        .iter()
        .map(|domain| setting(kind, &spec.name, domain))
        .collect::<Result<_, DataError>>()?;
    let folder = root.join(SOURCE_FOLDER);
    let mut files = Vec::new();
    for name in FILES.into_iter().flat_map(|(images, labels)| [images, labels]) {
        files.push((find(&folder, name)?, name));
    }
    let mut labels = Vec::new();
    for (path, _) in files.iter().skip(1).step_by(2) {
        labels.extend(
            idx::labels(&content_digests::read(path)?).map_err(|reason| DataError::bad_data(path, reason))?,
        );
    }
    let order = permutation(labels.len());
    let digits = Digits {
        kind,
        folder,
        files,
        domains: spec.domains.clone(),
        settings,
        labels,
        order,
        images: OnceLock::new(),
    };
    let domains = (0..spec.domains.len()).map(|domain| digits.list_domain(domain)).collect();
    Ok((domains, digits))
}

fn setting(kind: DigitKind, dataset: &str, domain: &str) -> Result<f64, DataError> {
    let value: Option<f64> = domain.parse().ok();
    let (what, allowed) = match kind {
        DigitKind::Rotated => ("an angle in degrees", -360.0..=360.0),
        DigitKind::Coloured => ("a probability", 0.0..=1.0),
    };
    let value = value.filter(|value| allowed.contains(value));
    value.ok_or_else(|| {
        DataError::BadConfig(format!("{domain:?} is no domain of {dataset}: it must be {what}"))
    })
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, DataError> {
    let folders = [folder.to_path_buf(), folder.join("raw")];
    let candidates = folders.iter().flat_map(|folder| [folder.join(name), folder.join(format!("{name}.gz"))]);
    let found = candidates.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| {
        DataError::bad_data(folder, format!("{name} is missing there (and in raw/, and with .gz)"))
    })
}

/// Fisher-Yates from the end.
pub(super) fn permutation(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut rng = stream(SEED, Purpose::GeneratedDataset, 0, 0, 0);
    for last in (1..count).rev() {
        order.swap(last, uniform_below(&mut rng, last as u64 + 1) as usize);
    }
    order
}

impl Digits {
    pub(crate) fn inputs(&self) -> (&Path, Vec<Input<'_>>) {
        (&self.folder, self.files.iter().map(|(path, name)| Input { path, name }).collect())
    }

    /// Everything but the files that decides images, labels and their order, for the dataset's digest.
    pub(crate) fn recipe(&self) -> String {
        format!("recipe {RECIPE_VERSION}: {:?} {}", self.kind, self.domains.join(" "))
    }

    fn list_domain(&self, domain: usize) -> Vec<ImageFile> {
        let digits = self.order.iter().skip(domain).step_by(self.domains.len());
        let file = |&digit: &u32| {
            let label = match self.kind {
                DigitKind::Rotated => usize::from(self.labels[digit as usize]),
                DigitKind::Coloured => usize::from(self.noisy(domain, digit).0),
            };
            let stem = format!("{digit:05}");
            let name = format!("{}/{label}/{stem}", self.domains[domain]);
            ImageFile { path: self.folder.join(&name), name, label, stem }
        };
        digits.map(file).collect()
    }

    /// The class of a coloured digit, and whether it is green.
    fn noisy(&self, domain: usize, digit: u32) -> (bool, bool) {
        let mut rng = stream(SEED, Purpose::GeneratedDataset, domain as u32, 1, u64::from(digit));
        let class = (self.labels[digit as usize] < 5) ^ (uniform_f64(&mut rng) < LABEL_NOISE);
        (class, class ^ (uniform_f64(&mut rng) < self.settings[domain]))
    }

    /// Makes an image.
    pub(crate) fn image(&self, domain: usize, index: usize) -> Result<DecodedImage, DataError> {
        let images = self.images.get_or_init(|| self.read()).as_ref();
        let images = images.map_err(|reason| DataError::bad_data(&self.folder, reason))?;
        let digit = self.order[index * self.domains.len() + domain];
        let (height, width) = (images.height, images.width);
        let gray = &images.pixels[digit as usize * height * width..][..height * width];
        let pixels: Vec<u8> = match self.kind {
            DigitKind::Rotated => {
                let turned = rotate::rotate(gray, height, width, self.settings[domain]);
                turned.into_iter().flat_map(|value| [value; 3]).collect()
            }
            DigitKind::Coloured => {
                let green = self.noisy(domain, digit).1;
                gray.iter().flat_map(|&value| if green { [0, value, 0] } else { [value, 0, 0] }).collect()
            }
        };
        Ok(DecodedImage { height, width, pixels: pixels.into_boxed_slice() })
    }

    fn read(&self) -> Result<idx::Images, String> {
        let mut all = idx::Images::default();
        for (path, _) in self.files.iter().step_by(2) {
            let read = content_digests::read(path).map_err(|error| error.to_string())?;
            all.append(idx::Images::parse(&read).map_err(|reason| format!("{}: {reason}", path.display()))?)?;
        }
        if all.count != self.labels.len() {
            return Err(format!("there are {} images, but {} labels", all.count, self.labels.len()));
        }
        Ok(all)
    }
}
