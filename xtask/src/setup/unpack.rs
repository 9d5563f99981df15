//! Files out of wheels (zip archives).

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zip::ZipArchive;

use super::progress::{Progress, Unit};

const COPY_BYTES: usize = 1 << 20;

/// Unpacks into `folder` every file of `wheel` for whose name `place` gives a path relative to `folder`.
pub fn wheel(wheel: &Path, folder: &Path, place: impl Fn(&str) -> Option<PathBuf>) -> Result<()> {
    let context = || format!("cannot unpack {}", wheel.display());
    let file = File::open(wheel).with_context(context)?;
    let mut archive = ZipArchive::new(BufReader::with_capacity(COPY_BYTES, file)).with_context(context)?;
    let mut wanted = Vec::new();
    let mut total = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).with_context(context)?;
        // Names that lead out of the archive are not for us.
        let is_inside = entry.enclosed_name().is_some();
        let Ok(name) = entry.name() else { continue };
        if entry.is_dir() || !is_inside {
            continue;
        }
        if let Some(path) = place(&name) {
            total += entry.size();
            wanted.push((index, path));
        }
    }
    if wanted.is_empty() {
        bail!("{} does not hold what was expected", wheel.display());
    }
    let mut progress = Progress::start(format!("Unpacking {}", short_name(wheel)), total, Unit::Bytes)?;
    let mut done = 0;
    for (index, path) in wanted {
        let mut entry = archive.by_index(index).with_context(context)?;
        let target = folder.join(path);
        let written = write(&mut entry, &target, |bytes| progress.set(done + bytes));
        done += written.with_context(|| format!("cannot write {}", target.display()))?;
        if entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0) {
            make_executable(&target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}

/// Lets run a file whoever may read it, which the umask has decided.
fn make_executable(path: &Path) -> io::Result<()> {
    let mode = path.metadata()?.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode | (mode & 0o444) >> 2))
}

/// Package and version; the platform would leave no room for a bar on a narrow terminal.
fn short_name(wheel: &Path) -> String {
    let name = wheel.file_stem().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').map_or(name.as_ref(), |(short, _)| short).to_owned()
}

fn write(from: &mut impl io::Read, target: &Path, mut tell: impl FnMut(u64)) -> io::Result<u64> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut to = File::create(target)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut written = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(written);
        }
        to.write_all(&buffer[..count])?;
        written += count as u64;
        tell(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    #[test]
    fn progress_names_package_and_version() {
        assert_eq!(
            short_name(Path::new("/a-b/nvidia-nccl-cu13-2.28.9-manylinux_2_18_x86_64.whl")),
            "nvidia-nccl-cu13-2.28.9"
        );
        assert_eq!(short_name(Path::new("plain.whl")), "plain");
    }

    #[test]
    fn only_the_files_asked_for_are_unpacked_and_none_outside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        let mut archive = ZipWriter::new(File::create(&path).unwrap());
        for name in ["torch/lib/libc10.so", "torch/other.py", "../evil.so"] {
            archive.start_file(name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
            archive.write_all(name.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        let out = folder.path().join("deep/out");
        wheel(&path, &out, |name| name.ends_with(".so").then(|| name.replace("torch/", "").into())).unwrap();
        assert_eq!(fs::read(out.join("lib/libc10.so")).unwrap(), b"torch/lib/libc10.so");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&out.join("lib/libc10.so")) & 0o100, 0o100);
        // Whoever may read it may run it, and nobody else.
        for (given, expected) in [(0o664, 0o775), (0o640, 0o750), (0o600, 0o700)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(given)).unwrap();
            make_executable(&path).unwrap();
            assert_eq!(mode(&path), expected);
        }
        assert!(!folder.path().join("deep/evil.so").exists());
        assert!(!out.join("other.py").exists());
        let nothing = wheel(&path, &out, |_| None).unwrap_err();
        assert!(format!("{nothing:#}").contains("does not hold"));
    }
}
