//! One trial: its id, its place in the grid, and everything that decides its numbers.

mod dataset;
mod hash;
mod layout;
mod point;
mod specification;
#[cfg(test)]
pub(crate) mod tests;

pub use dataset::{DatasetSpec, MissingClasses, SplitBy};
pub use hash::{BadSpecHash, SpecHash};
pub use layout::{BadLayout, Layout, LayoutPart};
pub use point::Point;
pub use specification::{PROTOCOL_VERSION, TrialSpec, Work};
