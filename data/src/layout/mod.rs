//! The folder layout of a dataset: `dataset_folder` lists the files that a specification names, `discover` lists what a folder holds.

pub(crate) mod dataset_folder;
mod discover;

pub use dataset_folder::{DatasetFolder, ImageFile};
pub use discover::{Discovered, discover};
