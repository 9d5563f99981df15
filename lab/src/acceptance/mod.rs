//! `sortie-lab acceptance NAME`: checks of a deployment with the real programs around it. They take more than a test may: daemons,
//! packages, minutes.

mod command;
mod daemon;
mod day;
mod deploy;
mod descendants;
mod network;
mod slurm;

pub use command::{AcceptanceCommand, run};
pub use network::{PeerOptions, run_peer};
