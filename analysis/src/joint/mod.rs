//! Several sweeps in one answer: those on one dataset as rows beside each other, and datasets as columns.

mod collector;
mod records;
mod results;

pub use collector::JointCollector;
pub use records::SweepRecords;
pub use results::JointResults;
