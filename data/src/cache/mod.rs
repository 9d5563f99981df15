//! The files that all trial processes of a machine share: `shared_file` is the format, `decoded_images` has the pixels of a dataset,
//! `checksums` finds damage in it, `row_arrays` has network inputs and features, `content_digests` remembers the digests of image files, `cache_size` says what disk all this will take.

mod cache_size;
mod checksums;
pub(crate) mod content_digests;
mod decoded_images;
mod row_arrays;
mod shared_file;

pub use cache_size::{CacheSize, RESIZED_BYTES_MAX};
pub use decoded_images::Images;
pub use row_arrays::{ComputeRows, Resized, SharedArray};
