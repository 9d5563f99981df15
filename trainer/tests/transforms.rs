//! Crop, resize, mirror, colour jitter, grayscale and normalisation against torchvision's tensor functions with the same parameters and
//! Pillow's gray; fixtures/make_transform_fixtures.py made the expected values.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml excuses only functions that are tests themselves, not their helpers"
)]

#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "common/fixtures.rs"]
mod common;

use common::Fixture;
use sortie_data::{BilinearResizer, DecodedImage};
use sortie_trainer::model::Normalisation;
use sortie_trainer::training::{Augmentation, Crop, Jitter, Normaliser, Sample};
use tch::{Device, Tensor};

/// In units of the normalised input, where one level of 255 is about 0.017: single precision, whatever the order of sums.
const TOLERANCE: f64 = 1e-4;
const PIXELS: i64 = 32;

fn image(fixture: &Fixture, index: i64) -> DecodedImage {
    let pixels = fixture.get(&format!("pixels.{index}"));
    let (height, width, _) = pixels.size3().unwrap();
    let bytes: Vec<u8> = Vec::try_from(pixels.flatten(0, -1)).unwrap();
    DecodedImage { height: height as usize, width: width as usize, pixels: bytes.into_boxed_slice() }
}

fn augmentation(row: &[f64]) -> Augmentation {
    let [top, left, height, width] = [0, 1, 2, 3].map(|column| row[column] as usize);
    let jitter = Jitter {
        order: [5, 6, 7, 8].map(|column| row[column] as usize),
        factors: [row[9], row[10], row[11]],
        hue: row[12],
    };
    Augmentation {
        crop: Crop { top, left, height, width },
        flip: row[4] != 0.0,
        jitter,
        grayscale: row[13] != 0.0,
    }
}

fn normaliser() -> Normaliser {
    Normaliser { device: Device::Cpu, pixels: PIXELS, normalisation: Normalisation::IMAGENET }
}

fn images(fixture: &Fixture) -> Vec<DecodedImage> {
    (0..fixture.get("parameters").size()[0]).map(|index| image(fixture, index)).collect()
}

fn difference(input: &Tensor, expected: &Tensor) -> f64 {
    (input - expected).abs().max().double_value(&[])
}

#[test]
fn the_training_transform_is_torchvisions() {
    let fixture = Fixture::read("transforms.safetensors");
    let (parameters, images) = (fixture.doubles("parameters"), images(&fixture));
    // Sizes alternate, so that samples must be grouped by size and put back in order.
    let order = [0, 4, 1, 6, 2, 5, 3, 7];
    let sample = |&index: &usize| {
        let augmentation = augmentation(&parameters[index * 14..index * 14 + 14]);
        Sample { image: images[index].view(), augmentation }
    };
    let samples: Vec<Sample> = order.iter().map(sample).collect();
    let indices = Tensor::from_slice(&order.map(|index| index as i64));
    let difference =
        difference(&normaliser().input(&samples).unwrap(), &fixture.get("train").index_select(0, &indices));
    assert!(difference <= TOLERANCE, "{difference:e}");
}

#[test]
fn the_evaluation_transform_is_torchvisions_rounded_to_eight_bits() {
    let fixture = Fixture::read("transforms.safetensors");
    let mut resizer = BilinearResizer::default();
    let side = PIXELS as usize;
    let resized = images(&fixture)
        .into_iter()
        .flat_map(|image| resizer.resize(image.view(), side, side).unwrap().pixels.into_vec());
    let input = normaliser().plain_input(&resized.collect::<Vec<u8>>()).unwrap();
    let difference = difference(&input, fixture.get("eval"));
    // Two passes that round, half a level each, and a little for Pillow's integer weights.
    let levels = difference * 0.224 * 255.0;
    assert!(levels <= 1.5, "{levels} levels");
}

#[test]
fn an_images_gray_is_pillows_before_it_rounds() {
    let fixture = Fixture::read("transforms.safetensors");
    let side = PIXELS as usize;
    let bytes = |name: &str| Vec::<u8>::try_from(fixture.get(name).flatten(0, -1)).unwrap();
    for (colour, gray) in bytes("colours").chunks(3).zip(bytes("gray")) {
        let pixels = colour.repeat(side * side).into_boxed_slice();
        let image = DecodedImage { height: side, width: side, pixels };
        // Nothing but grayscale.
        let crop = [0.0, 0.0, PIXELS as f64, PIXELS as f64, 0.0];
        let jitter = [0.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 0.0, 1.0];
        let sample =
            Sample { image: image.view(), augmentation: augmentation(&[&crop[..], &jitter].concat()) };
        let input = normaliser().input(&[sample]).unwrap();
        let Normalisation { mean, deviation } = Normalisation::IMAGENET;
        for channel in 0..3 {
            let value = input.double_value(&[0, channel as i64, 7, 7]);
            let level = 255.0 * (value * deviation[channel] + mean[channel]);
            // Pillow rounds; its weights are those numbers in 16 bits.
            assert!((level - f64::from(gray)).abs() < 0.503, "{colour:?}: {level} where Pillow has {gray}");
        }
    }
}
