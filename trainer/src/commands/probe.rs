//! `sortie-trainer probe`: what this build, this libtorch and this machine are, as one JSON object.

use std::process::ExitCode;

use sortie_core::libtorch::RELEASE;
use sortie_core::pipe::{Handshake, Probe};
use sortie_core::trial::PROTOCOL_VERSION;

use crate::libtorch;

/// The build of this program, which a worker of another build refuses.
pub fn handshake() -> Handshake {
    Handshake {
        build: env!("SORTIE_BUILD").to_owned(),
        protocol_version: PROTOCOL_VERSION,
        libtorch: libtorch::loaded_build(),
    }
}

/// Loads everything that a trial could need, and prints what came of it.
pub fn run() -> ExitCode {
    // The CUDA libraries come first: libtorch fixes at its first call whether there is CUDA.
    let cuda = libtorch::cuda_libraries();
    let driver = libtorch::cuda_driver();
    let folder = libtorch::loaded_folder().unwrap_or_default();
    let release = libtorch::loaded_release().unwrap_or_else(|| "unknown".to_owned());
    if release != RELEASE {
        eprintln!("error: {} holds libtorch {release}, and this build needs {RELEASE}", folder.display());
        return ExitCode::FAILURE;
    }
    let probe = Probe { trainer: handshake(), folder, cuda, driver };
    match serde_json::to_string(&probe) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: cannot write the probe: {error}");
            ExitCode::FAILURE
        }
    }
}
