//! The folders that may hold a libtorch.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sortie_core::libtorch::{RELEASE, build_of, release};

/// The folders of `cargo xtask setup --cuda` and of `cargo xtask setup` in the cache.
const SETUP_FOLDERS: [&str; 2] = ["libtorch-2.11.0-cuda", "libtorch-2.11.0-cpu"];
/// Prints the folder of Python's torch, without importing it.
const FIND_SPEC: &str = "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";

/// A folder that may hold a libtorch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it was named, such as `VIRTUAL_ENV`.
    pub source: String,
    /// The folder of libtorch_cpu.so.
    pub libraries: PathBuf,
}

/// Where to search.
#[derive(Clone, Debug, Default)]
pub struct SearchPaths {
    /// The folder that the user names; then no other is searched.
    pub named: Option<PathBuf>,
    /// The trainer's program.
    pub trainer: PathBuf,
    /// The root of the active virtual environment, VIRTUAL_ENV or CONDA_PREFIX.
    pub environments: Vec<(&'static str, PathBuf)>,
    /// Whether `python3` in PATH is run to find its torch.
    pub ask_python: bool,
    /// The folders that the set-up may have filled.
    pub setup: Vec<PathBuf>,
}

impl SearchPaths {
    /// Reads VIRTUAL_ENV and CONDA_PREFIX.
    pub fn here(named: Option<PathBuf>, trainer: PathBuf, setup: Vec<PathBuf>) -> Self {
        let set = |name: &'static str| {
            let value: Option<OsString> = std::env::var_os(name);
            value.filter(|value| !value.is_empty()).map(|value| (name, PathBuf::from(value)))
        };
        let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(set).collect();
        Self { named, trainer, environments, ask_python: true, setup }
    }

    /// All candidates in the order in which they are tried. Python is run only when its turn comes.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate> + '_ {
        let mut all: Vec<Box<dyn Fn() -> Option<Candidate> + '_>> = Vec::new();
        if let Some(named) = &self.named {
            // It is a candidate even if it is missing, so that the error names it.
            let libraries = libraries_of(named);
            all.push(Box::new(move || {
                Some(Candidate { source: "--libtorch".to_owned(), libraries: libraries.clone() })
            }));
            return all.into_iter().filter_map(call);
        }
        all.push(Box::new(|| {
            let package = self.trainer.parent()?.parent()?.parent()?;
            candidate("the package of the trainer", package.join("torch/lib"))
        }));
        for (name, root) in &self.environments {
            all.push(Box::new(move || candidate(name, python_torch(&root.join("bin/python3"))?.join("lib"))));
        }
        if self.ask_python {
            all.push(Box::new(|| candidate("python3", python_torch(Path::new("python3"))?.join("lib"))));
        }
        for folder in &self.setup {
            for name in SETUP_FOLDERS {
                all.push(Box::new(move || candidate("cargo xtask setup", folder.join(name).join("lib"))));
            }
        }
        all.into_iter().filter_map(call)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an iterator gives each of its items away")]
fn call(candidate: Box<dyn Fn() -> Option<Candidate> + '_>) -> Option<Candidate> {
    candidate()
}

/// None where there is no libtorch.
fn candidate(source: &str, libraries: PathBuf) -> Option<Candidate> {
    libraries.join("libtorch_cpu.so").exists().then(|| Candidate { source: source.to_owned(), libraries })
}

/// A user may name libtorch's folder, Python's `torch` folder, or the folder of the libraries itself.
fn libraries_of(named: &Path) -> PathBuf {
    let inner = named.join("lib");
    if inner.is_dir() { inner } else { named.to_path_buf() }
}

/// The folder of the torch package that this Python would import.
fn python_torch(python: &Path) -> Option<PathBuf> {
    let mut command = Command::new(python);
    command.args(["-c", FIND_SPEC]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim()).filter(|path| !path.is_empty()).map(PathBuf::from)
}

impl Candidate {
    /// Refuses a folder of another release, before its libraries are loaded.
    ///
    /// # Errors
    /// One line that names the folder and what it holds.
    pub fn check(&self) -> Result<(), String> {
        let folder = self.libraries.display();
        if !self.libraries.join("libtorch_cpu.so").exists() {
            return Err(format!("{folder} holds no libtorch_cpu.so"));
        }
        let root = self.libraries.canonicalize().unwrap_or_else(|_| self.libraries.clone());
        let root = root.parent().map(Path::to_path_buf).unwrap_or_default();
        match build_of(|name| fs::read_to_string(root.join(name)).ok()) {
            Some(build) if release(&build) != RELEASE => {
                Err(format!("{folder} holds libtorch {build}, and Sortie needs {RELEASE} (any build of it)"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a torch package of this build.
    fn torch(folder: &Path, build: &str) {
        fs::create_dir_all(folder.join("lib")).unwrap();
        fs::write(folder.join("lib/libtorch_cpu.so"), "").unwrap();
        fs::write(folder.join("version.py"), format!("__version__ = '{build}'\n")).unwrap();
    }

    fn sources(search_paths: &SearchPaths) -> Vec<String> {
        search_paths.candidates().map(|candidate| candidate.source).collect()
    }

    #[test]
    fn candidates_come_in_order_and_a_named_folder_is_the_only_one() {
        let root = tempfile::tempdir().unwrap();
        let site = root.path().join("site-packages");
        torch(&site.join("torch"), "2.11.0+cu130");
        torch(&root.path().join("cache/libtorch-2.11.0-cpu"), "2.11.0");
        let trainer = site.join("sortie/bin/sortie-trainer");
        let mut search_paths =
            SearchPaths { trainer, setup: vec![root.path().join("cache")], ..SearchPaths::default() };
        assert_eq!(sources(&search_paths), ["the package of the trainer", "cargo xtask setup"]);
        // A script in place of Python.
        let python = root.path().join("venv/bin/python3");
        fs::create_dir_all(python.parent().unwrap()).unwrap();
        torch(&root.path().join("venv/torch"), "2.11.0+cpu");
        let script = format!("#!/bin/sh\necho {}\n", root.path().join("venv/torch").display());
        fs::write(&python, script).unwrap();
        fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        search_paths.environments = vec![("VIRTUAL_ENV", root.path().join("venv"))];
        assert_eq!(
            sources(&search_paths),
            ["the package of the trainer", "VIRTUAL_ENV", "cargo xtask setup"]
        );
        search_paths.named = Some(root.path().join("venv/torch"));
        let named: Vec<_> = search_paths.candidates().collect();
        assert_eq!((named.len(), &named[0].libraries), (1, &root.path().join("venv/torch/lib")));
    }

    #[test]
    fn another_release_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        for (build, right) in
            [("2.11.0+cu126", true), ("2.11.0", true), ("2.10.0+cpu", false), ("2.12.0", false)]
        {
            torch(root.path(), build);
            let candidate = Candidate { source: String::new(), libraries: root.path().join("lib") };
            match candidate.check() {
                Ok(()) => assert!(right, "{build}"),
                Err(error) => assert!(!right && error.contains(build) && error.contains(RELEASE), "{error}"),
            }
        }
        let empty = Candidate { source: String::new(), libraries: root.path().join("gone") };
        assert!(empty.check().unwrap_err().contains("holds no libtorch_cpu.so"));
    }
}
