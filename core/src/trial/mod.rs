//! One trial: its id, its place in the grid, and everything that decides its numbers.

mod dataset;
mod hash;
mod point;
mod specification;
#[cfg(test)]
pub(crate) mod tests;

pub use dataset::{DatasetSpec, SplitBy};
pub use hash::{BadSpecHash, SpecHash};
pub use point::Point;
pub use specification::{PROTOCOL_VERSION, TrialSpec, Work};
