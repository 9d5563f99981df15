//! `sortie-lab acceptance network`: hosts that share nothing but a network and an access file, what is said between them, whom the coordinator
//! refuses, and a flood from a host that is no part of it. Every host is a network namespace that the check makes.

mod capture;
mod flood;
mod hosts;
mod peer;
mod run;

pub use peer::{PeerOptions, run as run_peer};
pub use run::run;
