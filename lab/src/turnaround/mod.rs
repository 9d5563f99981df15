//! `sortie-lab turnaround`: how long a slot idles between two trials, and how long a linear trial takes, beside another version in turns with
//! it. `timed_trainer` stands before a version's trainer and notes when it says what; `measured` makes figures of these notes; `run` runs
//! the turns.

mod measured;
mod run;
mod timed_trainer;

pub use run::{TurnaroundOptions, run};
pub use timed_trainer::{TimedTrainerOptions, run as run_timed_trainer};
