//! Decoding and resizing against Pillow, which the reference code reads images with; fixtures/make_image_fixtures.py and
//! fixtures/make_odd_images.py made files and expected values. Real images where SORTIE_TEST_DATA has them.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml excuses only functions that are tests themselves, not their helpers"
)]

use safetensors::SafeTensors;
use sortie_data::{BilinearResizer, DecodedImage, decode};

/// Levels of 255 by which a pixel may differ: decoders may round the cosine transform and the chroma differently.
const LEVELS_MAX: u8 = 6;
const LEVELS_MEAN_MAX: f64 = 0.5;
/// Kinds that are refused by name rather than read as something else.
const REFUSED: [(&str, &str); 3] =
    [("gray16.png", "L16"), ("gray16.tif", "L16"), ("palette.tif", "RGBPalette")];

/// Odd images that Pillow reads and Sortie refuses, with a word of the reason; docs/protocol.md names each kind.
const DIFFERENT: [(&str, &str); 3] = [
    ("truncated.png", "unexpected end of file"),
    ("jpeg2000_named.jpg", "no image format"),
    ("avif_named.jpg", "Avif"),
];

/// The bytes by name of a file beside the tests.
struct Fixture(Vec<u8>);

impl Fixture {
    fn read(name: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        Self(std::fs::read(path).unwrap())
    }

    fn tensor<T>(&self, name: &str, read: impl FnOnce(&[usize], &[u8]) -> T) -> T {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(tensor.dtype(), safetensors::Dtype::U8);
        read(tensor.shape(), tensor.data())
    }
}

fn bytes(fixture: &Fixture, name: &str) -> Vec<u8> {
    fixture.tensor(name, |_, data| data.to_vec())
}

fn image(fixture: &Fixture, name: &str) -> DecodedImage {
    fixture.tensor(name, |shape, data| DecodedImage {
        height: shape[0],
        width: shape[1],
        pixels: data.to_vec().into(),
    })
}

/// The largest and the mean difference.
fn difference(actual: &[u8], expected: &[u8]) -> (u8, f64) {
    assert_eq!(actual.len(), expected.len());
    let differences = || actual.iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
    (differences().max().unwrap(), differences().map(f64::from).sum::<f64>() / actual.len() as f64)
}

#[test]
fn every_kind_of_file_is_decoded_as_pillow_does_or_refused_by_name() {
    let fixture = Fixture::read("images.safetensors");
    let names = bytes(&fixture, "names");
    let names: Vec<&str> = std::str::from_utf8(&names).unwrap().split(' ').collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let decoded = decode(&bytes(&fixture, &format!("file.{name}")));
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            let error = decoded.unwrap_err();
            assert!(error.contains(reason) && error.lines().count() == 1, "{name}: {error}");
            continue;
        }
        let (decoded, expected) = (decoded.unwrap(), image(&fixture, &format!("pixels.{name}")));
        assert_eq!((decoded.height, decoded.width), (expected.height, expected.width), "{name}");
        let (most, mean) = difference(&decoded.pixels, &expected.pixels);
        println!("{name}: at most {most}, {mean:.3} on average");
        if !name.starts_with("truncated") {
            let limit = if name.ends_with("jpg") { LEVELS_MAX } else { 1 };
            assert!(most <= limit && mean <= LEVELS_MEAN_MAX, "{name}: {most}, {mean}");
        }
    }
}

#[test]
fn odd_images_are_what_pillow_makes_of_them_or_refused_by_name() {
    let fixture = Fixture::read("odd_images.safetensors");
    let names = bytes(&fixture, "names");
    let (mut refused, mut read) = (Vec::new(), 0);
    for name in std::str::from_utf8(&names).unwrap().split(' ') {
        let decoded = decode(&bytes(&fixture, &format!("file.{name}")));
        let pixels = format!("pixels.{name}");
        let pillow_reads = SafeTensors::deserialize(&fixture.0).unwrap().tensor(&pixels).is_ok();
        let different = DIFFERENT.iter().find(|(different, _)| *different == name);
        if !pillow_reads || different.is_some() {
            let reason = decoded.unwrap_err();
            assert!(
                reason.contains(different.map_or("no image format", |(_, word)| word)),
                "{name}: {reason}"
            );
            refused.push(name);
            continue;
        }
        let (decoded, expected) =
            (decoded.unwrap_or_else(|reason| panic!("{name}: {reason}")), image(&fixture, &pixels));
        assert_eq!((decoded.height, decoded.width), (expected.height, expected.width), "{name}");
        let limit = if decode_is_exact(&fixture, name) { 0 } else { LEVELS_MAX };
        let (most, _) = difference(&decoded.pixels, &expected.pixels);
        assert!(most <= limit, "{name}: {most}");
        read += 1;
    }
    assert_eq!(refused.len(), 3 + DIFFERENT.len(), "{refused:?}");
    assert!(read > 15, "{read}");
}

/// Only JPEGs leave room for rounding.
fn decode_is_exact(fixture: &Fixture, name: &str) -> bool {
    !bytes(fixture, &format!("file.{name}")).starts_with(&[0xff, 0xd8])
}

#[test]
fn what_a_truncated_jpeg_lacks_is_gray() {
    let fixture = Fixture::read("images.safetensors");
    let (decoded, expected) =
        (decode(&bytes(&fixture, "file.truncated.jpg")).unwrap(), image(&fixture, "pixels.truncated.jpg"));
    // The row of blocks in which the data end, here the third, differs between decoders.
    let (row, block) = (decoded.width * 3, 8);
    assert!(
        difference(&decoded.pixels[..2 * block * row], &expected.pixels[..2 * block * row]).0 <= LEVELS_MAX
    );
    assert!(decoded.pixels[3 * block * row..].iter().all(|&value| value == 128));
    assert!(expected.pixels[3 * block * row..].iter().all(|&value| value == 128));
    // A progressive one is blurred instead; libjpeg smooths it further.
    let (decoded, expected) = (
        decode(&bytes(&fixture, "file.truncated_progressive.jpg")).unwrap(),
        "pixels.truncated_progressive.jpg",
    );
    assert!(difference(&decoded.pixels, &bytes(&fixture, expected)).1 < 4.0);
    // Without any picture data there is nothing to be gray around.
    assert!(decode(&bytes(&fixture, "file.truncated.jpg")[..100]).is_err());
}

#[test]
fn damaged_files_end_in_an_image_or_in_one_line() {
    for file in ["images.safetensors", "odd_images.safetensors"] {
        damage(&Fixture::read(file));
    }
}

fn damage(fixture: &Fixture) {
    let names = bytes(fixture, "names");
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for name in std::str::from_utf8(&names).unwrap().split(' ') {
        let whole = bytes(fixture, &format!("file.{name}"));
        for _ in 0..if whole.is_empty() { 0 } else { 30 } {
            let mut damaged = whole.clone();
            for _ in 0..=random(4) {
                let position = random(damaged.len());
                damaged[position] = random(256) as u8;
            }
            damaged.truncate(if random(2) == 0 { damaged.len() } else { 1 + random(damaged.len()) });
            match decode(&damaged) {
                Ok(image) => assert_eq!(image.pixels.len(), image.height * image.width * 3, "{name}"),
                Err(reason) => assert!(!reason.is_empty(), "{name}"),
            }
        }
    }
}

#[test]
fn resizing_is_pillows() {
    let fixture = Fixture::read("images.safetensors");
    let original = image(&fixture, "pixels.rgb.png");
    let mut resizer = BilinearResizer::default();
    for (height, width) in [(16, 16), (20, 45), (64, 50), (7, 90)] {
        let resized = resizer.resize(original.view(), height, width).unwrap();
        let (most, mean) =
            difference(&resized.pixels, &bytes(&fixture, &format!("resized.{height}x{width}")));
        println!("{height} x {width}: at most {most}, {mean:.3} on average");
        assert!(most <= 2 && mean < 0.2, "{most} {mean}");
    }
}
