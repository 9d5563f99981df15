//! `sortie-lab acceptance deploy`: the files in `deploy/` are valid for the programs that read them.

mod compose;
mod run;
mod settings;
mod units;

pub use run::{DeployOptions, run};
