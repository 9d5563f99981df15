//! The messages between Sortie's programs and the trainer, which alone links libtorch: the lines of a trial, requests of users, and the
//! description of a trainer.

mod probe;
mod request;
mod trial;

pub use probe::{CudaDriver, CudaLibraries, Gpu, Handshake, Probe, cuda_version};
pub use request::{BenchRequest, BenchWork, EvaluateRequest, FetchWeightsRequest, NetworkSource, Request};
pub use trial::{Assignment, CombinationAssignment, Event, LINE_BYTES_MAX, Preparation, Progress};
