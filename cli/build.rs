//! Gives the program the name of its build.

#[path = "../trainer/build_id.rs"]
mod build_id;

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../trainer/build_id.rs");
    build_id::emit(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")));
}
