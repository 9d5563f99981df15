//! From a sweep to its trials: those of the grid, then the combinations over them.

mod combinations;
mod grid;

pub use grid::PlannedTrial;
