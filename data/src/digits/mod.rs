//! RotatedMNIST and ColoredMNIST: `dataset` makes their images, `idx` reads MNIST's files, `rotate` turns a digit as Pillow does.

mod dataset;
mod idx;
mod rotate;
#[cfg(test)]
mod tests;

pub(crate) use dataset::{DigitKind, Digits, SOURCE_FOLDER, list};
