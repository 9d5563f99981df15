//! From a sweep to its trials: those of the grid, then the combinations over them; and the identity of each.

mod combinations;
mod grid;
mod identity;

pub use grid::PlannedTrial;
pub use identity::SpecHasher;
