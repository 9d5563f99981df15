//! A researcher's day as scripts of commands, each with what it must print: `lab/day/*.txt`, one file for each job.

mod job;
mod script;

pub use job::{DayOptions, run};
