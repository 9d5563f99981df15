//! `sortie-lab acceptance slurm`: a sweep on a Slurm cluster survives requeues.

mod array;
mod cluster;
mod disturbance;
mod run;
mod summary;
mod sweep;

pub use run::run;
