//! Where a sweep comes from: a sweep file or a preset, and the folder of its dataset.

mod arguments;
mod data_root;
mod preset;

pub use arguments::{Reuse, SweepArguments, request_of};
pub use preset::find_preset;
