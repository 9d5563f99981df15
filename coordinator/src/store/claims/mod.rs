//! Assigning trials: which sweeps a claim gets trials of, which trials those are, and the lease of each.

mod assign;
mod claim_request;
mod findings;
mod fitness;
mod lease;

pub(crate) use assign::assign;
pub(crate) use fitness::Fitness;
pub(crate) use lease::ClaimContext;
