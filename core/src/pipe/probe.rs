//! The description of a trainer by itself: which build it is, which libtorch it has loaded, and which GPUs that libtorch can use.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The first event of a trial process. An agent that finds another build than its own ends the process: the two might have
/// different formats, or compute other numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// The build of the trainer, equal for programs that were built together from the same sources.
    pub build: String,
    /// [`crate::trial::PROTOCOL_VERSION`] of the trainer.
    pub protocol_version: u32,
    /// The build of the libtorch that it has loaded, such as `2.11.0+cu130`.
    pub libtorch: String,
}

/// What `sortie-trainer probe` prints: one JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// As in a trial's first event.
    pub trainer: Handshake,
    /// The folder from which libtorch was loaded.
    pub folder: PathBuf,
    /// libtorch's CUDA libraries; none where the build has none, such as 2.11.0+cpu.
    pub cuda: Option<CudaLibraries>,
    /// The NVIDIA driver; none where it is not installed.
    pub driver: Option<CudaDriver>,
}

/// libtorch's CUDA libraries, as they load here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaLibraries {
    /// Version of the CUDA runtime, as CUDA writes it: 13000 is 13.0.
    pub runtime: Option<u32>,
    /// Why they do not load; none if they do.
    pub error: Option<String>,
}

/// The NVIDIA driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaDriver {
    /// The newest CUDA version that it supports, as CUDA writes it: 12040 is 12.4.
    pub version: Option<u32>,
    /// Why it shows no GPU; none if it shows some.
    pub error: Option<String>,
    /// The GPUs in CUDA's own order, those alone that CUDA_VISIBLE_DEVICES lets it see.
    pub gpus: Vec<Gpu>,
}

/// A GPU, or a slice of one (MIG).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// What CUDA_VISIBLE_DEVICES may name it by: `GPU-...` or `MIG-...`.
    pub uuid: String,
    /// The model, such as `NVIDIA H200`.
    pub name: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// A CUDA version for people: 13000 is `13.0`.
pub fn cuda_version(number: u32) -> String {
    format!("{}.{}", number / 1_000, number % 1_000 / 10)
}
