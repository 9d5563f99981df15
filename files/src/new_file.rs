//! A file that appears under its name when it is complete.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempPath};

/// What every new file may be, less what the umask takes away.
const MODE: u32 = 0o666;

/// A file that appears under its name when it is complete, and not at all if that never comes. Until then it lies beside that place under a
/// name of its own. The umask decides who may read it, as it does for any other file.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    partial: TempPath,
    file: File,
}

impl NewFile {
    /// Begins one.
    ///
    /// # Errors
    /// What the system says, also when the path names no file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::create_with(path, MODE)
    }

    /// Begins one that only its owner may read, from its first moment on.
    ///
    /// # Errors
    /// As [`NewFile::create`].
    pub fn create_private(path: &Path) -> io::Result<Self> {
        Self::create_with(path, 0o600)
    }

    fn create_with(path: &Path, mode: u32) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let folder = folder(path);
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".partial").permissions(Permissions::from_mode(mode));
        #[expect(clippy::disallowed_methods, reason = "the permissions are given")]
        let (file, partial) = builder.tempfile_in(folder)?.into_parts();
        Ok(Self { path: path.to_owned(), partial, file })
    }

    /// The open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where it lies until it is complete.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// Gives it its name: it is complete.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(self) -> io::Result<()> {
        self.partial.persist(&self.path).map_err(|failed| failed.error)
    }

    /// The same, when it is on the disk: a power cut leaves it whole, or what was there before.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish_on_disk(self) -> io::Result<()> {
        self.file.sync_all()?;
        let folder = folder(&self.path).to_owned();
        self.finish()?;
        // Its name is in the folder.
        File::open(folder)?.sync_all()
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a whole file, as [`NewFile`] does.
///
/// # Errors
/// What the system says.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use rustix::fs::Mode;
    use rustix::process::umask;

    use super::*;

    /// The umask belongs to the whole process, so one test has it.
    #[test]
    fn a_file_is_whole_or_not_there_and_the_umask_decides_who_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut torn = NewFile::create(&path).unwrap();
        torn.write_all(b"half").unwrap();
        assert!(!path.exists() && torn.partial_path().exists());
        drop(torn);
        assert_eq!(names(), 0);
        let before = umask(Mode::empty());
        for (mask, mode) in [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600), (0, 0o666)] {
            umask(Mode::from_raw_mode(mask));
            replace(&path, b"whole").unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode, "umask {mask:o}");
        }
        umask(before);
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), names()), (b"whole".as_slice(), 1));
        assert!(replace(&folder.path().join("none/a"), b"").is_err());
        assert!(NewFile::create(Path::new("/")).unwrap_err().to_string().contains("names no file"));
    }
}
