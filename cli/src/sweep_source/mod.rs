//! Where a sweep comes from: a sweep file or a preset, and the folder of its dataset.

mod arguments;
mod dataset_folder;
mod preset;

pub use arguments::SweepArguments;
pub use preset::find_preset;
