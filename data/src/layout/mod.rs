//! The folder layout of a dataset: `dataset_folder` lists the files that a specification names, `discover` lists what a folder
//! holds, and both find images with `image_files`.

mod dataset_folder;
mod discover;
mod image_files;

pub use dataset_folder::DatasetFolder;
pub use discover::{Discovered, discover};
pub use image_files::ImageFile;
