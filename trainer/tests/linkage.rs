//! How the program is linked: it must run with any build of one libtorch release, wherever that lies.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml excuses only functions that are tests themselves, not their helpers"
)]

use std::process::Command;

/// The entries of the program's dynamic section, as binutils print them, which every C++ compiler comes with.
fn dynamic_section() -> Vec<(String, String)> {
    let output =
        Command::new("readelf").args(["-dW", env!("CARGO_BIN_EXE_sortie-trainer")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let entries = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once('(')?;
        let (tag, rest) = rest.split_once(')')?;
        let value = rest.split_once('[').and_then(|(_, value)| value.split_once(']')).map(|(value, _)| value);
        Some((tag.to_owned(), value.unwrap_or_default().to_owned()))
    });
    entries.collect()
}

#[test]
fn the_program_needs_no_cuda_and_looks_for_libtorch_beside_its_package_only() {
    let section = dynamic_section();
    let values = |tag: &str| -> Vec<&str> {
        section.iter().filter(|(name, _)| name == tag).map(|(_, value)| value.as_str()).collect()
    };
    let needed = values("NEEDED");
    assert!(needed.contains(&"libtorch_cpu.so") && needed.contains(&"libc10.so"), "{needed:?}");
    // libtorch.so of a CUDA build pulls in libtorch_cuda, and with it 3 GB that a trial on a CPU has no use for.
    let unwanted = |name: &&&str| **name == "libtorch.so" || name.contains("cuda") || name.contains("nvidia");
    assert_eq!(needed.iter().find(unwanted), None, "{needed:?}");
    let paths: Vec<&str> = [values("RUNPATH"), values("RPATH")].concat();
    assert_eq!(paths, ["$ORIGIN/../../torch/lib"]);
}
