//! Compiles what tch lacks, and links the program so that it finds libtorch wherever it is installed.
//!
//! The run path of the program is `$ORIGIN/../../torch/lib` and nothing else: the place of Python's torch beside an installed package. In
//! every other case the launcher sets the loader path.

mod build_id;

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build_id.rs");
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    build_id::emit(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")));
    // torch-sys tells crates that depend on it directly where the libraries lie.
    let Some(libraries) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo::error=torch-sys did not say where libtorch lies; run `cargo xtask setup`");
        return;
    };
    println!("cargo::rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../../torch/lib");
    compile_additions(&Path::new(&libraries).with_file_name("include"));
}

/// What tch lacks, in C++ against libtorch's headers and with the flags of torch-sys.
fn compile_additions(include: &Path) {
    const SOURCES: [&str; 4] = [
        "src/libtorch/kernels.cpp",
        "src/libtorch/tf32.cpp",
        "src/libtorch/gpu.cpp",
        "src/libtorch/version.cpp",
    ];
    println!("cargo::rerun-if-changed=src/libtorch");
    let mut build = cc::Build::new();
    build.cpp(true).pic(true).warnings(false).opt_level(2).flag("-std=c++17");
    build.include(include).include(include.join("torch/csrc/api/include"));
    build.files(SOURCES).compile("sortie_libtorch");
}
