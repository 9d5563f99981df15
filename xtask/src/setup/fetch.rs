//! Downloads by package name through pip and npm, which verify them.
//!
//! They are kept in the cache, and verified again before each use.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::cache::Cache;
use super::digest;
use super::manifest::{Check, Manifest, intact};
use super::npm::Npm;
use super::pins::{NPM_BYTES, NPM_LOCK, NPM_PACKAGE, PYTHON_VERSION, Wheel};
use super::progress::{Progress, Unit};
use super::tools::PYTHON;

const POLL: Duration = Duration::from_millis(100);
const LOG_LINES_FIRST: usize = 2;
const LOG_LINES_LAST: usize = 4;

/// The verified wheel in the cache, downloaded if it is not there.
pub fn wheel(cache: &Cache, pin: &Wheel) -> Result<PathBuf> {
    let target = cache.downloads().join(pin.file_name());
    if is_cached(&target, pin)? {
        return Ok(target);
    }
    let staging = cache.staging()?;
    let command = pip_download(pin, staging.path())?;
    let label = format!("Downloading {} {}", pin.package, pin.version);
    watch(command, staging.path(), Progress::start(&label, pin.bytes, Unit::Bytes)?)
        .with_context(|| format!("cannot download {} {} with pip", pin.package, pin.version))?;
    let Some(file) = files_ending(staging.path(), ".whl")?.pop() else {
        bail!("pip left no wheel of {} {}", pin.package, pin.version);
    };
    cache.publish(&file, &target)?;
    Ok(target)
}

/// A call of pip that leaves the wheel in `folder`, and fails if the wheel has another digest.
fn pip_download(pin: &Wheel, folder: &Path) -> Result<Command> {
    let requirements = folder.join("requirements.txt");
    // Pip takes digests from a file only.
    fs::write(&requirements, format!("{}=={} --hash=sha256:{}\n", pin.package, pin.version, pin.sha256))
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    let mut command = Command::new(PYTHON);
    command
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-cache-dir", "--no-deps", "--only-binary=:all:"])
        .args(["--platform", pin.platform, "--implementation", "cp"])
        .args(["--python-version", PYTHON_VERSION, "--dest"])
        .arg(folder)
        .args(["--require-hashes", "--requirement"])
        .arg(&requirements)
        // Pip's unfinished file belongs to the staging folder too: it is counted, and swept up if pip is killed.
        .env("TMPDIR", folder);
    Ok(command)
}

/// The folder in the cache that holds the npm packages of the lock file, as npm installed them.
///
/// Unless it is whole, npm installs them all; npm is asked for only then.
pub fn npm(cache: &Cache, npm: impl FnOnce() -> Result<Npm>) -> Result<PathBuf> {
    let target = npm_folder(cache);
    if intact(&target, Check::Digests, |made_by| made_by == npm_recipe()).is_some() {
        return Ok(target);
    }
    let mut command = npm()?.command();
    let staging = cache.staging()?;
    for (name, text) in [("package.json", NPM_PACKAGE), ("package-lock.json", NPM_LOCK)] {
        let path = staging.path().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    command
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"])
        .arg("--loglevel=error")
        .current_dir(staging.path());
    let progress = Progress::start("Installing the npm packages of emoji", NPM_BYTES, Unit::Bytes)?;
    if let Err(error) = watch(command, staging.path(), progress) {
        let packages = packages_named_by_digest(&format!("{error:#}"), NPM_LOCK)?;
        return Err(error).context(match packages.as_slice() {
            [] => "cannot install the emoji with npm".to_owned(),
            some => format!("cannot install {} with npm", some.join(", ")),
        });
    }
    let folder = staging.path().join("node_modules");
    Manifest::of(&folder, &npm_recipe())?.write(&folder)?;
    cache.publish(&folder, &target)?;
    Ok(target)
}

/// Whether the npm packages are all there, by size.
pub fn npm_is_cached(cache: &Cache) -> bool {
    let folder = npm_folder(cache);
    Manifest::read(&folder).is_some_and(|manifest| {
        manifest.recipe == npm_recipe() && manifest.fault(&folder, Check::Sizes).is_none()
    })
}

fn npm_folder(cache: &Cache) -> PathBuf {
    cache.downloads().join("npm-packages")
}

fn npm_recipe() -> String {
    format!("npm ci; lock file sha256:{}", digest::of_bytes(NPM_LOCK.as_bytes()))
}

/// The packages whose digest in the lock file stands in npm's complaint: npm itself tells only the digest.
fn packages_named_by_digest(complaint: &str, lock: &str) -> Result<Vec<String>> {
    let lock: Lock = serde_json::from_str(lock).context("package-lock.json is not valid")?;
    let mut named = Vec::new();
    for (path, entry) in &lock.packages {
        if entry.integrity.as_ref().is_some_and(|digest| complaint.contains(digest)) {
            let package = path.trim_start_matches("node_modules/");
            named.push(format!("{package} {}", entry.version.as_deref().unwrap_or_default()));
        }
    }
    Ok(named)
}

/// What we read of npm's lock file.
#[derive(Deserialize)]
struct Lock {
    packages: BTreeMap<String, Locked>,
}

/// A package in it. The first entry is the project itself, which has neither.
#[derive(Deserialize)]
struct Locked {
    version: Option<String>,
    integrity: Option<String>,
}

fn is_cached(path: &Path, pin: &Wheel) -> Result<bool> {
    let Ok(metadata) = path.metadata() else { return Ok(false) };
    if metadata.len() == pin.bytes && digest::of_file(path)? == pin.sha256 {
        return Ok(true);
    }
    eprintln!("{} is damaged; it will be downloaded again.", path.display());
    fs::remove_file(path).with_context(|| format!("cannot delete {}", path.display()))?;
    Ok(false)
}

/// Runs a download that writes into `folder`, whose size is the progress.
fn watch(mut command: Command, folder: &Path, mut progress: Progress) -> Result<()> {
    let path = folder.join("download.log");
    let log = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let log_too = log.try_clone().context("cannot share a log file")?;
    let program = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for a download")? {
            break status;
        }
        progress.set(size_of(folder));
        thread::sleep(POLL);
    };
    drop(progress);
    if !status.success() {
        let text = fs::read(&path).unwrap_or_default();
        bail!("{status}: {}", on_one_line(&String::from_utf8_lossy(&text)));
    }
    Ok(())
}

/// The beginning and the end of a log on one line.
///
/// Pip names a package first, then lists all its digests, and tells last which one it got.
pub fn on_one_line(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > LOG_LINES_FIRST + LOG_LINES_LAST {
        lines.splice(LOG_LINES_FIRST..lines.len() - LOG_LINES_LAST, ["..."]);
    }
    lines.join(" | ")
}

/// The size of all files below a folder that another program is writing to; what vanishes meanwhile counts nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let mut bytes = 0;
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += size_of(&entry.path()),
            Ok(metadata) => bytes += metadata.len(),
            Err(_) => {}
        }
    }
    bytes
}

fn files_ending(folder: &Path, suffix: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(suffix) {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::tools::require_pip;
    use super::*;

    /// A pin of the smallest wheel that pip takes, and the wheel itself in a folder that pip can search.
    fn tiny_wheel(folder: &Path) -> Wheel {
        let path = folder.join("tiny-1.0-py3-none-any.whl");
        let mut archive = ZipWriter::new(File::create(&path).unwrap());
        for (name, text) in [
            ("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"),
            ("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("tiny-1.0.dist-info/RECORD", ""),
        ] {
            archive.start_file(name, SimpleFileOptions::default()).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        let bytes = path.metadata().unwrap().len();
        let sha256 = digest::of_file(&path).unwrap().leak();
        Wheel { package: "tiny", version: "1.0", platform: "any", bytes, sha256 }
    }

    #[test]
    fn a_damaged_download_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let pin = tiny_wheel(folder.path());
        let path = folder.path().join("tiny-1.0-py3-none-any.whl");
        assert!(is_cached(&path, &pin).unwrap());
        let mut damaged = fs::read(&path).unwrap();
        damaged[0] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(!is_cached(&path, &pin).unwrap());
        assert!(!path.exists());
        assert!(!is_cached(&path, &pin).unwrap());
    }

    #[test]
    fn pip_refuses_a_wheel_with_another_digest_and_names_the_package() {
        if require_pip().is_err() {
            eprintln!("skipped: python3 has no pip");
            return;
        }
        let index = tempfile::tempdir().unwrap();
        let pin = tiny_wheel(index.path());
        let download = |pin: &Wheel| {
            let folder = tempfile::tempdir().unwrap();
            let mut command = pip_download(pin, folder.path()).unwrap();
            command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", index.path());
            watch(command, folder.path(), Progress::start("test", pin.bytes, Unit::Bytes).unwrap())?;
            files_ending(folder.path(), ".whl")
        };
        assert_eq!(download(&pin).unwrap().len(), 1);
        let wrong = "0".repeat(64).leak();
        let error = format!("{:#}", download(&Wheel { sha256: wrong, ..pin }).unwrap_err());
        for part in ["tiny==1.0", pin.sha256, &*wrong] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn npm_packages_are_taken_from_the_cache_only_if_they_are_whole() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path().to_path_buf()).unwrap();
        let no_npm = || bail!("npm is asked for");
        let folder = npm_folder(&cache);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("icons.json"), "{}").unwrap();
        assert!(!npm_is_cached(&cache));
        Manifest::of(&folder, &npm_recipe()).unwrap().write(&folder).unwrap();
        assert!(npm_is_cached(&cache));
        assert_eq!(npm(&cache, no_npm).unwrap(), folder);
        fs::write(folder.join("icons.json"), "[]").unwrap();
        assert!(npm(&cache, no_npm).is_err());
        Manifest::of(&folder, "another lock file").unwrap().write(&folder).unwrap();
        assert!(!npm_is_cached(&cache));
        assert!(npm(&cache, no_npm).is_err());
    }

    #[test]
    fn a_package_is_named_by_its_digest_in_the_lock_file() {
        let lock = r#"{"packages":{"":{"name":"x"},
            "node_modules/@a/b":{"version":"1.2.3","integrity":"sha512-AA=="},
            "node_modules/c":{"version":"2.0.0","integrity":"sha512-BB=="}}}"#;
        let named = |text| packages_named_by_digest(text, lock).unwrap();
        assert_eq!(named("wanted sha512-AA== but got sha512-CC=="), ["@a/b 1.2.3"]);
        assert!(named("no network").is_empty());
        assert!(packages_named_by_digest("", NPM_LOCK).unwrap().is_empty());
    }

    #[test]
    fn a_long_log_keeps_its_beginning_and_its_end() {
        assert_eq!(on_one_line(" 1\n2\n\n3\n4\n5\n6\n"), "1 | 2 | 3 | 4 | 5 | 6");
        assert_eq!(on_one_line("1\n2\n3\n4\n5\n6\n7\n8\n"), "1 | 2 | ... | 5 | 6 | 7 | 8");
        assert_eq!(on_one_line(""), "");
    }

    #[test]
    fn a_failing_client_is_quoted_on_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo; echo 'no such package' >&2; exit 3"]);
        let progress = Progress::start("test", 1, Unit::Bytes).unwrap();
        let error = format!("{:#}", watch(command, folder.path(), progress).unwrap_err());
        assert!(error.contains("first | no such package"), "{error}");
        assert!(!error.contains('\n'));
    }
}
