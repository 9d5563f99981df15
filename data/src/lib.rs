//! The images of a dataset. They are found in DomainBed's layout, `<root>/<dataset>/<domain>/<class>/<file>`, or made from MNIST's digits.
//! They are digested, split, and decoded once per machine into files that all trial processes map.

mod bench;
mod cache;
mod check;
mod decoding;
mod digits;
mod error;
mod layout;
mod progress;
mod split;

pub use bench::{BenchResult, bench};
pub use cache::{CacheSize, ComputeRows, Images, RESIZED_BYTES_MAX, Resized, SharedArray};
pub use check::{BrokenImage, CheckReport, DomainCount, check};
pub use decoding::{BilinearResizer, DecodedImage, ImageView, decode};
pub use error::DataError;
pub use layout::{
    DatasetFolder, Discovered, Ignored, ImageFile, dataset_at, discover, find, is_generated, read,
};
pub use progress::{NoProgress, Progress};
pub use split::split_domains;
