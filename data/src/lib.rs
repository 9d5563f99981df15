//! The images of a dataset: found in DomainBed's layout, `<root>/<dataset>/<domain>/<class>/<file>`, or made from MNIST's digits;
//! digested, split, and decoded once per machine into files that all trial processes map.

mod arrays;
mod bench;
mod check;
mod contents;
mod decode;
mod digits;
mod discover;
mod error;
mod folder;
mod idx;
mod images;
mod jpeg;
mod progress;
mod resize;
mod rotate;
mod shared_file;
mod split;

pub use arrays::{Make, Resized, SharedArray};
pub use bench::{BenchResult, bench};
pub use check::{Broken, CheckReport, DomainCount, check};
pub use decode::{DecodedImage, ImageView, decode};
pub use discover::{Discovered, discover};
pub use error::DataError;
pub use folder::{DatasetFolder, ImageFile};
pub use images::Images;
pub use progress::{Progress, Quiet};
pub use resize::BilinearResizer;
pub use split::split_domains;
