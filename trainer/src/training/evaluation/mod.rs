//! How well networks do: `eval_split` names what is evaluated, `scoring` computes accuracy and loss, `logits` runs the network,
//! `trajectory` averages weights and logits over a trial, `saved_model` reads networks back from files.

mod eval_split;
mod logits;
mod saved_model;
mod scoring;
mod trajectory;

pub(super) use eval_split::EvalSplit;
pub(super) use logits::evaluation_logits;
pub(super) use saved_model::SAVED_MODEL_KEY;
pub use saved_model::{DomainLogits, LoadedNetwork, SavedModel};
pub(super) use scoring::evaluate;
pub(super) use trajectory::{Snapshot, Trajectory};
