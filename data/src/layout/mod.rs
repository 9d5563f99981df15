//! The folder of a dataset. One reader serves whoever asks: `entries` lists a folder without what is ignored, `image_files` finds images,
//! `listing` lists those of a specification, `levels` says where images lie that are not where they should be. `dataset_folder` is what
//! trials read, `discover` what a sweep file leaves open.

mod dataset_folder;
mod discover;
mod entries;
mod image_files;
mod levels;
mod listing;
mod missing_folder;

pub use dataset_folder::DatasetFolder;
pub use discover::{Discovered, dataset_at, discover, find, is_generated, read};
pub use entries::Ignored;
pub use image_files::ImageFile;
