//! Fault injection: a sweep must give the same results while workers, the coordinator, the database server and the network fail.

pub mod consistency_check;
pub mod fault_injector;
pub mod fault_plan;
pub mod journal;
mod report;
mod run;
pub mod stored_rows;
mod trial_progress;

pub use run::{ChaosOptions, run};
