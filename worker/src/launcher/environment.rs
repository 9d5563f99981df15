//! What a trainer must have in its environment before it starts.

use sortie_core::finetune::Precision;

/// The variables of a trainer that computes at this precision.
///
/// glibc by default returns large blocks to the kernel and takes the page faults again at every step; training on a CPU is up to twice
/// as fast when it keeps them. Threads that wait must not spin: on a machine that is shared with other work, spinning made training
/// several times slower. On a GPU, TF32 follows the sweep, not the libraries' defaults, and cuBLAS uses
/// deterministic workspaces.
pub fn environment(precision: Precision) -> [(&'static str, &'static str); 5] {
    let tf32 = match precision {
        Precision::Fp32 => ("NVIDIA_TF32_OVERRIDE", "0"),
        Precision::Tf32 | Precision::Bf16 => ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1"),
    };
    let allocator = [("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", "1099511627776")];
    [allocator[0], allocator[1], ("OMP_WAIT_POLICY", "PASSIVE"), ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"), tf32]
}
