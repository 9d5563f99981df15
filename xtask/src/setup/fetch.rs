//! Downloads by package name through pip and npm, verified and kept in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use super::digest;
use super::node::Npm;
use super::pins::{self, PYTHON_VERSION, Wheel};
use super::progress::{Progress, Unit};
use super::tools::PYTHON;

const POLL: Duration = Duration::from_millis(100);
const LOG_LINES_SHOWN: usize = 5;

/// The verified wheel in the cache, downloaded if it is not there.
pub fn wheel(cache: &Cache, pin: &Wheel) -> Result<PathBuf> {
    let target = cache.downloads().join(pin.file_name());
    if is_cached(&target, pin.bytes, pin.sha256)? {
        return Ok(target);
    }
    let staging = cache.staging()?;
    let mut command = Command::new(PYTHON);
    command
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-cache-dir", "--no-deps", "--only-binary=:all:"])
        .args(["--platform", pin.platform, "--implementation", "cp"])
        .args(["--python-version", PYTHON_VERSION, "--dest"])
        .arg(staging.path())
        .arg(format!("{}=={}", pin.package, pin.version))
        // Pip's unfinished file belongs to the staging folder too: it is counted, and swept up if pip is killed.
        .env("TMPDIR", staging.path());
    let label = format!("Downloading {} {}", pin.package, pin.version);
    watch(command, staging.path(), Progress::start(&label, pin.bytes, Unit::Bytes)?)
        .with_context(|| format!("cannot download {} {} with pip", pin.package, pin.version))?;
    let Some(file) = files_ending(staging.path(), ".whl")?.pop() else {
        bail!("pip left no wheel of {} {}", pin.package, pin.version);
    };
    accept(cache, &file, &target, pin.sha256)?;
    Ok(target)
}

/// The verified tarballs in the cache, in the order of `pins`. Those that are missing come in one call of npm,
/// which is asked for only then.
pub fn npm(cache: &Cache, npm: impl FnOnce() -> Result<Npm>, pins: &[pins::Npm]) -> Result<Vec<PathBuf>> {
    let target = |pin: &pins::Npm| cache.downloads().join(pin.file_name());
    let mut missing = Vec::new();
    for pin in pins {
        if !is_cached(&target(pin), pin.bytes, pin.sha256)? {
            missing.push(*pin);
        }
    }
    if !missing.is_empty() {
        let mut command = npm()?.command();
        let staging = cache.staging()?;
        command.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]);
        command.arg(staging.path()).current_dir(staging.path());
        for pin in &missing {
            command.arg(format!("{}@{}", pin.package, pin.version));
        }
        let total = missing.iter().map(|pin| pin.bytes).sum();
        let label = format!("Downloading {} npm packages of emoji", missing.len());
        watch(command, staging.path(), Progress::start(label, total, Unit::Bytes)?)
            .context("cannot download the emoji with npm")?;
        for pin in &missing {
            accept(cache, &staging.path().join(pin.file_name()), &target(pin), pin.sha256)?;
        }
    }
    Ok(pins.iter().map(target).collect())
}

/// Whether the pinned tarballs are all there, by size.
pub fn npm_is_cached(cache: &Cache, pins: &[pins::Npm]) -> bool {
    pins.iter().all(|pin| {
        let path = cache.downloads().join(pin.file_name());
        path.metadata().is_ok_and(|metadata| metadata.len() == pin.bytes)
    })
}

fn is_cached(path: &Path, bytes: u64, sha256: &str) -> Result<bool> {
    let Ok(metadata) = path.metadata() else { return Ok(false) };
    if metadata.len() == bytes && digest::of_file(path)? == sha256 {
        return Ok(true);
    }
    eprintln!("{} is damaged; it will be downloaded again.", path.display());
    fs::remove_file(path).with_context(|| format!("cannot delete {}", path.display()))?;
    Ok(false)
}

fn accept(cache: &Cache, file: &Path, target: &Path, sha256: &str) -> Result<()> {
    let found = digest::of_file(file)?;
    if found != sha256 {
        let name = target.file_name().unwrap_or_default().display();
        bail!("the download of {name} has SHA-256 {found}, but {sha256} is pinned; it was thrown away");
    }
    cache.publish(file, target)
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
        bail!("{status}: {}", last_lines(&String::from_utf8_lossy(&text)));
    }
    Ok(())
}

/// The end of a log on one line.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join(" | ")
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
    use super::*;

    #[test]
    fn a_damaged_download_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "abc").unwrap();
        let sha256 = digest::of_bytes(b"abc");
        assert!(is_cached(&path, 3, &sha256).unwrap());
        fs::write(&path, "abd").unwrap();
        assert!(!is_cached(&path, 3, &sha256).unwrap());
        assert!(!path.exists());
        assert!(!is_cached(&path, 3, &sha256).unwrap());
    }

    #[test]
    fn a_download_with_another_digest_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path().to_path_buf()).unwrap();
        let file = root.path().join("file");
        let target = cache.downloads().join("target");
        fs::write(&file, "abc").unwrap();
        let error = accept(&cache, &file, &target, &"0".repeat(64)).unwrap_err();
        assert!(format!("{error:#}").contains("is pinned"));
        assert!(!target.exists());
        accept(&cache, &file, &target, &digest::of_bytes(b"abc")).unwrap();
        assert!(target.exists());
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
