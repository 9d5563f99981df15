//! The batches of a trial: `batch_source` decides what is in each batch, `prefetcher` makes batches ahead of their use, `normaliser` turns
//! images into network inputs. `augment` draws the random transform of an image; `resize` and `colour` apply it.

mod augment;
mod batch_source;
mod colour;
mod normaliser;
mod prefetcher;
mod resize;

pub use augment::{Augmentation, Crop, Jitter};
use batch_source::BatchMaker;
pub(super) use batch_source::{Batch, BatchRequest, BatchSource, EVALUATION_BATCH, resize_image};
pub use normaliser::{Normaliser, Sample, draw_batch};
pub(super) use prefetcher::Prefetcher;
