//! A torch 2.11.0 that Python already has, turned into a CPU folder of links.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::pins::LIBTORCH_VERSION;
use super::tools::PYTHON;
use super::version;

/// Begins the recipe of a folder that links to Python's torch.
pub const RECIPE: &str = "python torch ";

// Looks the package up without importing it, which takes seconds and may fail for reasons that do not concern us.
const FIND: &str = "import importlib.util as u; s = u.find_spec('torch'); \
                    print(next(iter(s.submodule_search_locations or []), '') if s else '')";

/// Python's package, which holds `include` and `lib`.
#[derive(Debug, PartialEq, Eq)]
pub struct PythonTorch {
    /// The package's folder.
    pub folder: PathBuf,
    /// Its version with the local part, such as `2.11.0+cu130`.
    pub version: String,
}

/// Python's torch, if `python3` knows one of the right version.
pub fn find() -> Option<PythonTorch> {
    let output =
        Command::new(PYTHON).args(["-c", FIND]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let folder = PathBuf::from(text.trim());
    if !folder.is_absolute() {
        return None;
    }
    let version = version::of_folder(&folder)?;
    (version::release(&version) == LIBTORCH_VERSION).then_some(PythonTorch { folder, version })
}

impl PythonTorch {
    /// Identifies the folder that links to this package.
    pub fn recipe(&self) -> String {
        format!("{RECIPE}{} in {}", self.version, self.folder.display())
    }

    /// Makes `folder` with links to the headers and to the libraries that CPU work needs, without libtorch_cuda.
    pub fn link_into(&self, folder: &Path) -> Result<()> {
        let lib = folder.join("lib");
        fs::create_dir_all(&lib).with_context(|| format!("cannot create {}", lib.display()))?;
        let include = self.folder.join("include");
        if !include.join("torch/csrc/api/include/torch/torch.h").is_file() {
            bail!("it has no headers");
        }
        link(&include, &folder.join("include"))?;
        for library in ["libtorch_cpu.so", "libc10.so", "libtorch.so"] {
            let path = self.folder.join("lib").join(library);
            if !path.is_file() {
                bail!("it has no {library}");
            }
            link(&path, &lib.join(library))?;
        }
        for path in self.dependencies()? {
            let name = path.file_name().context("a library has no name")?;
            if !lib.join(name).exists() {
                link(&path, &lib.join(name))?;
            }
        }
        Ok(())
    }

    /// OpenMP and the two CUDA libraries that libtorch_cpu itself needs, wherever pip put them.
    fn dependencies(&self) -> Result<Vec<PathBuf>> {
        let mut folders = vec![self.folder.join("lib")];
        if let Some(site) = self.folder.parent() {
            folders.push(site.join("torch.libs"));
            for package in list(&site.join("nvidia"))? {
                folders.push(package.join("lib"));
            }
        }
        let mut found = Vec::new();
        for folder in folders {
            for path in list(&folder)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.contains(".so")
                    && ["libgomp", "libcudart", "libcupti"].iter().any(|start| name.starts_with(start))
                {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }
}

/// The entries of a folder in order; none where there is no such folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

fn link(target: &Path, link: &Path) -> Result<()> {
    symlink(target, link).with_context(|| format!("cannot make the link {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn the_links_leave_libtorch_cuda_out() {
        let site = tempfile::tempdir().unwrap();
        let torch = PythonTorch { folder: site.path().join("torch"), version: "2.11.0+cu130".to_owned() };
        let out = site.path().join("out");
        assert!(torch.link_into(&out).is_err());
        touch(torch.folder.join("include/torch/csrc/api/include/torch/torch.h"));
        for library in ["libtorch_cpu.so", "libc10.so", "libtorch.so", "libtorch_cuda.so", "libgomp.so.1"] {
            touch(torch.folder.join("lib").join(library));
        }
        touch(site.path().join("nvidia/cu13/lib/libcudart.so.13"));
        touch(site.path().join("nvidia/cu13/lib/libcublas.so.13"));
        touch(site.path().join("nvidia/cu13/lib/libcudart_static.a"));
        let out = site.path().join("out2");
        torch.link_into(&out).unwrap();
        let names: Vec<_> = list(&out.join("lib")).unwrap();
        let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["libc10.so", "libcudart.so.13", "libgomp.so.1", "libtorch.so", "libtorch_cpu.so"]);
        assert!(out.join("include/torch/csrc/api/include/torch/torch.h").is_file());
    }
}
