// A name for what the programs are built from, the same for programs that are built together: `sortie` starts only trainers of its own
// build. Included by the build scripts of both.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

/// Folders whose content decides what agent and trainer say to each other and which numbers come out.
const FOLDERS: [&str; 5] = ["core/src", "data/src", "artifacts/src", "trainer/src", "worker/src"];

/// Tells cargo the name as SORTIE_BUILD, and to ask again when a source changes.
pub fn emit(workspace: &Path) {
    let mut files = Vec::new();
    for folder in FOLDERS {
        let folder = workspace.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        collect(&folder, &mut files);
    }
    let lock = workspace.join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    files.push(lock);
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        let name = file.strip_prefix(workspace).unwrap_or(&file);
        hasher.write(name.to_string_lossy().as_bytes());
        hasher.write(&fs::read(&file).unwrap_or_default());
    }
    println!("cargo::rustc-env=SORTIE_BUILD={}-{:016x}", env!("CARGO_PKG_VERSION"), hasher.finish());
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
