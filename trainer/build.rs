//! Emits the run path under which the worker's binaries find libtorch.
//!
//! torch-sys links libtorch but sets no run path on the binaries of other crates. It does tell crates that depend on it directly where
//! the libraries lie, and a build script's link argument survives a user's own RUSTFLAGS, which `.cargo/config.toml` would not.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Some(libraries) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo::error=torch-sys did not say where libtorch lies; run `cargo xtask setup`");
        return;
    };
    // LIBTORCH may be a link inside the clone that is later pointed elsewhere; the binary keeps to what it was linked against.
    let libraries = Path::new(&libraries);
    let libraries = libraries.canonicalize().unwrap_or_else(|_| libraries.to_path_buf());
    println!("cargo::rustc-env=SORTIE_LIBTORCH_VERSION={}", version(&libraries));
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", libraries.display());
    // Without this, a linker that drops unneeded libraries would drop libtorch_cpu, whose operators register themselves on loading.
    println!("cargo::rustc-link-arg=-Wl,--no-as-needed");
    compile_additions(&libraries.with_file_name("include"));
}

/// What tch lacks, in C++ against libtorch's headers and with the flags of torch-sys.
fn compile_additions(include: &Path) {
    const SOURCES: [&str; 2] = ["src/libtorch/kernels.cpp", "src/libtorch/gpu.cpp"];
    println!("cargo::rerun-if-changed=src/libtorch");
    let mut build = cc::Build::new();
    build.cpp(true).pic(true).warnings(false).opt_level(2).flag("-std=c++17");
    build
        .include(include)
        .include(include.join("torch/csrc/api/include"))
        .files(SOURCES)
        .compile("sortie_libtorch");
}

/// What every trial records as its libtorch: libtorch itself does not tell through tch.
fn version(libraries: &Path) -> String {
    let file = libraries.parent().map(|folder| folder.join("build-version"));
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    text.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
