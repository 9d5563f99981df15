//! Compiles the protocol with protox, a compiler written in Rust, so that no `protoc` need be installed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=sortie");
    let files = [
        "sortie/v1/trial.proto",
        "sortie/v1/worker.proto",
        "sortie/v1/sweep.proto",
        "sortie/v1/access.proto",
    ];
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
