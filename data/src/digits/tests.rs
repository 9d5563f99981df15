//! The digits' datasets, from small files of MNIST's format.

use std::io::Write as _;
use std::path::Path;

use sortie_core::catalogue;
use sortie_core::trial::DatasetSpec;

use super::dataset::{FILES, permutation};
use crate::{DatasetFolder, Images, NoProgress, check, discover};

const TRAIN: usize = 60;
const TEST: usize = 40;

/// Digit i has label i mod 10; its pixels are 100 + i, but for a black first row.
fn write_mnist(root: &Path, below: &str, compress: bool) {
    let folder = root.join("MNIST").join(below);
    std::fs::create_dir_all(&folder).unwrap();
    for ((images, labels), range) in FILES.into_iter().zip([0..TRAIN, TRAIN..TRAIN + TEST]) {
        let header =
            |words: &[usize]| words.iter().flat_map(|&word| (word as u32).to_be_bytes()).collect::<Vec<u8>>();
        let mut pixels = header(&[0x0803, range.len(), 28, 28]);
        let mut classes = header(&[0x0801, range.len()]);
        for digit in range {
            pixels.extend((0..784).map(|pixel| if pixel < 28 { 0 } else { 100 + digit as u8 }));
            classes.push((digit % 10) as u8);
        }
        for (name, content) in [(images, pixels), (labels, classes)] {
            if compress {
                let file = std::fs::File::create(folder.join(format!("{name}.gz"))).unwrap();
                let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
                encoder.write_all(&content).unwrap();
                encoder.finish().unwrap();
            } else {
                std::fs::write(folder.join(name), content).unwrap();
            }
        }
    }
}

fn open(root: &Path, name: &str) -> Images {
    let folder = DatasetFolder::scan(root, &catalogue::find(name).unwrap()).unwrap();
    Images::open(folder, &root.join("cache"), None, &NoProgress).unwrap()
}

#[test]
fn every_digit_is_in_one_domain_turned_by_its_angle() {
    let root = tempfile::tempdir().unwrap();
    write_mnist(root.path(), "", false);
    let images = open(root.path(), "RotatedMNIST");
    let mut seen = Vec::new();
    for (domain, expected) in [17, 17, 17, 17, 16, 16].into_iter().enumerate() {
        assert_eq!(images.len(domain), expected);
        for (index, file) in images.files(domain).enumerate() {
            let digit: usize = file.stem.parse().unwrap();
            seen.push(digit);
            assert_eq!(images.label(domain, index), digit % 10);
            let view = images.pixels(domain, index).unwrap();
            assert_eq!((view.height, view.width), (28, 28));
            let centre = 3 * (14 * 28 + 14);
            assert_eq!(view.pixels[centre..centre + 3], [100 + digit as u8; 3]);
            let black = view.pixels[..28 * 3].iter().filter(|&&value| value == 0).count();
            assert_eq!(black == 28 * 3, domain == 0, "domain {domain}: {black}");
        }
    }
    assert_ne!(&seen[..6], [0, 6, 12, 18, 24, 30]);
    seen.sort_unstable();
    assert_eq!(seen, (0..TRAIN + TEST).collect::<Vec<_>>());
}

#[test]
fn colours_and_labels_are_noisy_as_stated() {
    let root = tempfile::tempdir().unwrap();
    write_mnist(root.path(), "raw", true);
    let images = open(root.path(), "ColoredMNIST");
    let mut flipped = 0;
    for (domain, colour_noise) in [0.1, 0.2, 0.9].into_iter().enumerate() {
        let mut other_colour = 0;
        for (index, file) in images.files(domain).enumerate() {
            let digit: usize = file.stem.parse().unwrap();
            let (label, pixel) =
                (images.label(domain, index), &images.pixels(domain, index).unwrap().pixels[28 * 3..][..3]);
            flipped += usize::from((digit % 10 < 5) != (label == 1));
            let green = pixel[1] > 0;
            assert_eq!(pixel, if green { [0, 100 + digit as u8, 0] } else { [100 + digit as u8, 0, 0] });
            other_colour += usize::from(green != (label == 1));
        }
        let share = other_colour as f64 / images.len(domain) as f64;
        assert!((share - colour_noise).abs() < 0.17, "domain {domain}: {share}");
    }
    assert!((15..=35).contains(&flipped), "{flipped}");
}

#[test]
fn the_dataset_is_the_same_compressed_or_not_and_pinned() {
    let (plain, compressed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_mnist(plain.path(), "", false);
    write_mnist(compressed.path(), "raw", true);
    let digests =
        [plain.path(), compressed.path()].map(|root| open(root, "ColoredMNIST").digest().to_owned());
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], open(plain.path(), "RotatedMNIST").digest());
    // Part of stored results: if this order changes, RECIPE_VERSION must be raised.
    assert_eq!(permutation(10), PINNED_ORDER);
    let report = check(discover(&plain.path().join("RotatedMNIST")).unwrap(), &NoProgress).unwrap();
    assert!(report.broken_count == 0 && report.n == 100, "{report:?}");
}
const PINNED_ORDER: [u32; 10] = [9, 7, 3, 8, 5, 4, 1, 0, 2, 6];

#[test]
fn what_is_wrong_is_named() {
    let root = tempfile::tempdir().unwrap();
    let rotated = catalogue::find("RotatedMNIST").unwrap();
    let scan = |spec: &DatasetSpec| DatasetFolder::scan(root.path(), spec).unwrap_err().to_string();
    assert!(scan(&rotated).contains("train-images-idx3-ubyte is missing"));
    write_mnist(root.path(), "", false);
    assert!(
        scan(&DatasetSpec { domains: vec!["0".into(), "left".into()], ..rotated.clone() })
            .contains("an angle in degrees")
    );
    assert!(
        scan(&DatasetSpec { classes: vec!["1".into(), "2".into()], ..rotated.clone() }).contains("0 1 2 3")
    );
    let labels = root.path().join("MNIST/t10k-labels-idx1-ubyte");
    std::fs::write(&labels, "short").unwrap();
    assert!(scan(&rotated).contains("t10k-labels-idx1-ubyte: the file is too short"));
    std::fs::write(&labels, [0, 0, 8, 1, 0, 0, 0, 1, 7]).unwrap();
    let folder = DatasetFolder::scan(root.path(), &rotated).unwrap();
    let error = Images::open(folder, &root.path().join("cache"), None, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("100 images, but 61 labels") && error.lines().count() == 1, "{error}");
}
