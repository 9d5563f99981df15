//! Weights files (safetensors and PyTorch's formats) and checkpoints: read, or refused in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_fuzz::is_one_line;
use sortie_trainer::fuzzing::{read_checkpoint, read_weights};

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let path = folder.path().join("weights.pth");
    std::fs::write(&path, data).expect("a file");
    if let Err(refusal) = read_weights(&path) {
        is_one_line(&refusal);
    }
    if let Err(refusal) = read_checkpoint(data) {
        is_one_line(&refusal);
    }
});
