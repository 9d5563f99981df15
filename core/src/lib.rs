//! The pure domain of Sortie: what a sweep is, which trials it plans, how a trial is identified, its states, and what its
//! numbers mean. Nothing here touches a clock, a file, a network, a database or libtorch: time and randomness come in as parameters.

pub mod access;
pub mod artifact;
pub mod catalogue;
pub mod certificate;
pub mod code;
pub mod combine;
pub mod command;
pub mod filter;
pub mod finetune;
pub mod job;
pub mod keep;
pub mod keys;
pub mod lease;
pub mod libtorch;
pub mod limits;
pub mod machine;
pub mod metrics;
pub mod names;
pub mod packing;
pub mod parameters;
pub mod pipe;
pub mod plan;
pub mod prerequisite;
pub mod presets;
pub mod random;
pub mod random_search;
pub mod record;
pub mod requirements;
pub mod schedule;
pub mod secret;
pub mod selection;
pub mod spec;
pub mod split;
pub mod status;
pub mod trial;
