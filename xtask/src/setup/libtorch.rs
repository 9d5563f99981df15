//! libtorch 2.11.0 for the CPU, which the trainer is built against, and a complete libtorch with CUDA, which it may run with.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use super::manifest::{Check, Manifest, intact};
use super::pins::{self, LIBTORCH_VERSION, TORCH_CUDA_LOCAL, Wheel};
use super::python_torch::{self, PythonTorch};
use super::tools::PYTHON;
use super::version;
use super::{fetch, unpack};

const LINK: &str = ".libtorch";
const CPU_FOLDER: &str = "libtorch-2.11.0-cpu";
const CUDA_FOLDER: &str = "libtorch-2.11.0-cuda";
/// Raised when the content of the folders changes for the same wheels.
const LAYOUT: u32 = 1;
const CPU_WHEELS: [Wheel; 3] = [pins::TORCH, pins::CUDA_RUNTIME, pins::CUDA_CUPTI];

/// A libtorch folder that is ready.
#[derive(Debug)]
pub struct Libtorch {
    /// Holds `include`, `lib` and a version.
    pub folder: PathBuf,
    /// Where it came from, in words.
    pub source: String,
    /// Size on disk, where it lies in the cache.
    pub bytes: Option<u64>,
}

/// The folder that the user chose by setting LIBTORCH, if it is libtorch 2.11.0; the value that
/// `.cargo/config.toml` sets does not count.
pub fn chosen_by_user(repository: &Path) -> Result<Option<Libtorch>> {
    let Some(value) = env::var_os("LIBTORCH").filter(|value| !value.is_empty()) else { return Ok(None) };
    let folder = PathBuf::from(value);
    if is_own_link(&folder, repository) {
        return Ok(None);
    }
    let Some(found) = version::of_folder(&folder) else {
        bail!(
            "LIBTORCH={} has neither a build-version nor a version.py that tells its version; \
             unset LIBTORCH, or set it to a libtorch {LIBTORCH_VERSION}",
            folder.display()
        );
    };
    if version::release(&found) != LIBTORCH_VERSION {
        bail!(
            "LIBTORCH={} holds version {found}, but {LIBTORCH_VERSION} is needed; \
             unset LIBTORCH, or set it to a libtorch {LIBTORCH_VERSION}",
            folder.display()
        );
    }
    if folder.join("lib/libtorch_cuda.so").exists() {
        eprintln!("LIBTORCH={} has CUDA libraries: the worker will be linked to them.", folder.display());
    }
    let folder = std::path::absolute(&folder).with_context(|| format!("LIBTORCH={}", folder.display()))?;
    Ok(Some(Libtorch { folder, source: "your LIBTORCH".to_owned(), bytes: None }))
}

/// The CPU folder in the cache if it is whole; with `for_cuda`, only one that the CUDA set fits.
pub fn find(cache: &Cache, check: Check, for_cuda: bool) -> Option<Libtorch> {
    let folder = cache.folder(CPU_FOLDER);
    let manifest = intact(&folder, check, |made_by| {
        made_by == recipe(&CPU_WHEELS)
            || made_by.starts_with(python_torch::RECIPE) && (!for_cuda || made_by.contains(TORCH_CUDA_LOCAL))
    })?;
    Some(describe(folder, &manifest))
}

/// Makes the CPU folder in the cache: from Python's torch where there is a fitting one, else from the pinned wheels.
pub fn make(cache: &Cache, for_cuda: bool) -> Result<Libtorch> {
    if let Some(torch) = python_torch::find().filter(|torch| !for_cuda || torch.version == TORCH_CUDA_LOCAL) {
        match make_from_python(cache, &torch) {
            Ok(made) => return Ok(made),
            Err(error) => {
                eprintln!("Python's torch in {} is of no use ({error:#}).", torch.folder.display());
            }
        }
    }
    let staging = cache.staging()?;
    let folder = staging.path().join(CPU_FOLDER);
    for pin in CPU_WHEELS {
        let wheel = fetch::wheel(cache, &pin)?;
        unpack::wheel(&wheel, &folder, place_cpu)?;
    }
    finish(cache, &folder, &recipe(&CPU_WHEELS))
}

fn make_from_python(cache: &Cache, torch: &PythonTorch) -> Result<Libtorch> {
    let staging = cache.staging()?;
    let folder = staging.path().join(CPU_FOLDER);
    torch.link_into(&folder)?;
    finish(cache, &folder, &torch.recipe())
}

fn finish(cache: &Cache, folder: &Path, recipe: &str) -> Result<Libtorch> {
    fs::write(folder.join("build-version"), format!("{LIBTORCH_VERSION}\n"))
        .context("cannot write build-version")?;
    try_to_load(&folder.join("lib/libtorch_cpu.so"))?;
    let manifest = Manifest::of(folder, recipe)?;
    manifest.write(folder)?;
    let target = cache.folder(CPU_FOLDER);
    cache.publish(folder, &target)?;
    Ok(describe(target, &manifest))
}

fn describe(folder: PathBuf, manifest: &Manifest) -> Libtorch {
    match manifest.recipe.strip_prefix(python_torch::RECIPE) {
        Some(rest) => Libtorch { folder, source: format!("links to Python's torch {rest}"), bytes: None },
        None => {
            Libtorch { folder, source: "from the pinned wheels".to_owned(), bytes: Some(manifest.bytes()) }
        }
    }
}

/// Loads the library as the worker will, so that a missing dependency is found now.
fn try_to_load(library: &Path) -> Result<()> {
    let output = Command::new(PYTHON)
        .args(["-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)"])
        .arg(library)
        .stdin(Stdio::null())
        .output()
        .context("cannot start python3")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("libtorch cannot be loaded here: {}", text.lines().last().unwrap_or("no reason given"));
    }
    Ok(())
}

/// The CUDA set in the cache if it is whole.
pub fn find_cuda(cache: &Cache, check: Check) -> Option<Libtorch> {
    let folder = cache.folder(CUDA_FOLDER);
    let manifest = intact(&folder, check, |made_by| made_by == cuda_recipe())?;
    Some(describe(folder, &manifest))
}

/// Makes the CUDA set: a complete libtorch in one `lib` folder, because libtorch_cuda fits only the libtorch_cpu of its own build.
pub fn make_cuda(cache: &Cache) -> Result<Libtorch> {
    let staging = cache.staging()?;
    let folder = staging.path().join(CUDA_FOLDER);
    for pin in cuda_wheels() {
        let wheel = fetch::wheel(cache, &pin)?;
        unpack::wheel(&wheel, &folder, place_cuda)?;
    }
    fs::write(folder.join("build-version"), format!("{TORCH_CUDA_LOCAL}\n"))
        .context("cannot write build-version")?;
    try_to_load(&folder.join("lib/libtorch_cpu.so"))?;
    let manifest = Manifest::of(&folder, &cuda_recipe())?;
    manifest.write(&folder)?;
    let target = cache.folder(CUDA_FOLDER);
    cache.publish(&folder, &target)?;
    Ok(describe(target, &manifest))
}

/// Points `.libtorch` in the repository at `folder`.
pub fn link(repository: &Path, folder: &Path) -> Result<()> {
    let link = repository.join(LINK);
    match fs::symlink_metadata(&link) {
        Ok(metadata) if !metadata.is_symlink() => {
            bail!("{} is not a link; move it away, so that setup can make its own", link.display())
        }
        Ok(_) if fs::read_link(&link).is_ok_and(|target| target == folder) => return Ok(()),
        Ok(_) | Err(_) => {}
    }
    let context = || format!("cannot make the link {}", link.display());
    // Made aside and renamed, so that a build that runs meanwhile never finds nothing.
    let aside = tempfile::Builder::new().prefix(".libtorch-").tempdir_in(repository).with_context(context)?;
    let fresh = aside.path().join(LINK);
    symlink(folder, &fresh).with_context(context)?;
    fs::rename(&fresh, &link).with_context(context)
}

fn is_own_link(folder: &Path, repository: &Path) -> bool {
    let same_parent = match (folder.parent().map(Path::canonicalize), repository.canonicalize()) {
        (Some(Ok(parent)), Ok(repository)) => parent == repository,
        _ => false,
    };
    same_parent && folder.file_name().is_some_and(|name| name == LINK)
}

fn recipe(wheels: &[Wheel]) -> String {
    let parts: Vec<String> =
        wheels.iter().map(|pin| format!("{}=={} sha256:{}", pin.package, pin.version, pin.sha256)).collect();
    format!("layout {LAYOUT}; {}", parts.join("; "))
}

fn cuda_wheels() -> Vec<Wheel> {
    let mut wheels = vec![pins::TORCH];
    wheels.extend(pins::CUDA_SET);
    wheels
}

fn cuda_recipe() -> String {
    format!("complete; {}", recipe(&cuda_wheels()))
}

/// Where a file of the three CPU wheels goes in the CPU folder, if it is needed there.
fn place_cpu(name: &str) -> Option<PathBuf> {
    if let Some(header) = name.strip_prefix("torch/include/") {
        return Some(Path::new("include").join(header));
    }
    if let Some(library) = name.strip_prefix("torch/lib/") {
        let needed = ["libtorch_cpu.so", "libc10.so", "libtorch.so"].contains(&library);
        return (needed || library.starts_with("libgomp")).then(|| Path::new("lib").join(library));
    }
    if let Some(library) = name.strip_prefix("nvidia/cu13/lib/") {
        let needed = library.starts_with("libcudart.so") || library.starts_with("libcupti.so");
        return needed.then(|| Path::new("lib").join(library));
    }
    place_licence(name)
}

/// Where a file of the CUDA wheels goes in the CUDA folder, if it is needed there.
fn place_cuda(name: &str) -> Option<PathBuf> {
    let (folder, file) = name.rsplit_once('/')?;
    let torch = folder == "torch/lib"
        && [
            "libtorch_cpu.so",
            "libc10.so",
            "libtorch_cuda.so",
            "libtorch_cuda_linalg.so",
            "libtorch_nvshmem.so",
            "libc10_cuda.so",
            "libcaffe2_nvrtc.so",
        ]
        .contains(&file);
    // libtorch_cpu's own copy of the OpenMP runtime has a name of its own in each wheel.
    let torch = torch || (folder == "torch/lib" && file.starts_with("libgomp"));
    let nvidia = folder.starts_with("nvidia/") && folder.ends_with("/lib") && file.contains(".so");
    if torch || nvidia {
        return Some(Path::new("lib").join(file));
    }
    place_licence(name)
}

/// Licences keep the name of the package that they came with.
fn place_licence(name: &str) -> Option<PathBuf> {
    let (package, rest) = name.split_once(".dist-info/")?;
    let file = rest.rsplit('/').next()?;
    let is_licence =
        ["license", "notice", "copying"].iter().any(|word| file.to_ascii_lowercase().starts_with(word));
    is_licence.then(|| Path::new("licenses").join(package).join(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_are_named_after_the_pinned_version() {
        for folder in [CPU_FOLDER, CUDA_FOLDER] {
            assert!(folder.contains(LIBTORCH_VERSION), "{folder}");
        }
    }

    #[test]
    fn the_cpu_folder_gets_no_cuda_library() {
        let place = |name: &str| place_cpu(name).map(|path| path.display().to_string());
        assert_eq!(place("torch/include/ATen/ATen.h").as_deref(), Some("include/ATen/ATen.h"));
        assert_eq!(place("torch/lib/libtorch_cpu.so").as_deref(), Some("lib/libtorch_cpu.so"));
        assert_eq!(place("torch/lib/libgomp.so.1").as_deref(), Some("lib/libgomp.so.1"));
        assert_eq!(place("nvidia/cu13/lib/libcudart.so.13").as_deref(), Some("lib/libcudart.so.13"));
        for name in ["torch/lib/libtorch_cuda.so", "torch/lib/libtorch_python.so", "torch/nn/init.py"] {
            assert_eq!(place(name), None, "{name}");
        }
        assert_eq!(
            place("torch-2.11.0.dist-info/licenses/LICENSE").as_deref(),
            Some("licenses/torch-2.11.0/LICENSE")
        );
    }

    #[test]
    fn the_cuda_folder_is_complete() {
        let place = |name: &str| place_cuda(name).map(|path| path.display().to_string());
        assert_eq!(place("torch/lib/libc10_cuda.so").as_deref(), Some("lib/libc10_cuda.so"));
        assert_eq!(place("nvidia/cudnn/lib/libcudnn.so.9").as_deref(), Some("lib/libcudnn.so.9"));
        assert_eq!(place("torch/lib/libtorch_cpu.so").as_deref(), Some("lib/libtorch_cpu.so"));
        for name in [
            "torch/lib/libtorch_python.so",
            "nvidia/cu13/include/cublas.h",
            "nvidia/nccl/lib/libnccl_static.a",
        ] {
            assert_eq!(place(name), None, "{name}");
        }
    }

    #[test]
    fn the_link_that_cargo_names_is_not_the_users_choice() {
        let repository = tempfile::tempdir().unwrap();
        let own = repository.path().join(".libtorch");
        assert!(is_own_link(&own, repository.path()));
        assert!(is_own_link(&repository.path().join("./.libtorch"), repository.path()));
        assert!(!is_own_link(Path::new("/opt/libtorch"), repository.path()));
        assert!(!is_own_link(Path::new("/nowhere/.libtorch"), repository.path()));
    }

    #[test]
    fn a_stale_link_is_replaced_and_a_real_folder_is_not() {
        let repository = tempfile::tempdir().unwrap();
        let (one, two) = (repository.path().join("one"), repository.path().join("two"));
        for target in [&one, &two, &two] {
            link(repository.path(), target).unwrap();
            assert_eq!(fs::read_link(repository.path().join(LINK)).unwrap(), *target);
        }
        assert_eq!(fs::read_dir(repository.path()).unwrap().count(), 1);
        fs::remove_file(repository.path().join(LINK)).unwrap();
        fs::create_dir(repository.path().join(LINK)).unwrap();
        let error = link(repository.path(), &one).unwrap_err();
        assert!(format!("{error:#}").contains("is not a link"));
    }
}
