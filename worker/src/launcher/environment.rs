//! What a trainer must have in its environment before it starts.

use sortie_core::finetune::Precision;

/// Whether cuBLAS and cuDNN may round products to TF32, by NVIDIA's libraries and by libtorch.
const TF32: [&str; 2] = ["NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"];

/// The variables of a trainer that computes at this precision; those without a value are removed, whatever the worker's own environment has.
///
/// glibc by default returns large blocks to the kernel and takes the page faults again at every step; training on a CPU is up to twice
/// as fast when it keeps them. Threads that wait must not spin: on a machine that is shared with other work, spinning made training
/// several times slower. On a GPU, TF32 follows the sweep, and cuBLAS uses deterministic workspaces.
pub fn environment(precision: Precision) -> [(&'static str, Option<&'static str>); 6] {
    let tf32 = match precision {
        // Nothing is rounded. The backbone's products of bf16 are not in single precision, and the others must not be rounded.
        Precision::Fp32 | Precision::Bf16 => [Some("0"), None],
        // libtorch's defaults: cuDNN may round, cuBLAS may not.
        Precision::Reference => [None, None],
        // cuBLAS may round too; the trainer keeps the last layer and the transforms from it.
        Precision::Tf32 => [None, Some("1")],
    };
    [
        ("MALLOC_MMAP_MAX_", Some("0")),
        ("MALLOC_TRIM_THRESHOLD_", Some("1099511627776")),
        ("OMP_WAIT_POLICY", Some("PASSIVE")),
        ("CUBLAS_WORKSPACE_CONFIG", Some(":4096:8")),
        (TF32[0], tf32[0]),
        (TF32[1], tf32[1]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tf32_follows_the_precision_alone() {
        for (precision, expected) in [
            (Precision::Fp32, [Some("0"), None]),
            (Precision::Bf16, [Some("0"), None]),
            (Precision::Reference, [None, None]),
            (Precision::Tf32, [None, Some("1")]),
        ] {
            let variables = environment(precision);
            // Both are named in each case: a variable of the worker's own would decide otherwise.
            let found = TF32.map(|name| variables.iter().find(|(own, _)| *own == name).unwrap().1);
            assert_eq!(found, expected, "{precision}");
        }
    }
}
