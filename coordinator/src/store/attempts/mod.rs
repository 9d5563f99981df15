//! The attempts that one transaction concerns: what they report, how they end, and what becomes of their trials. Pure, but for reading
//! sweeps: rows in, changes out.

mod batches;
mod pins;
mod sweep_cache;
mod tokens;
mod totals;
mod unit_of_work;

pub(crate) use sweep_cache::{SweepCache, SweepInfo};
pub(crate) use tokens::Tokens;
pub(crate) use unit_of_work::{MachineOutcome, UnitOfWork, one_line};
