//! Files that all trial processes of a machine share. The first process builds a file; all processes map it, and it never changes.
//!
//! # Format
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `SORTIE` and a version, as one number of this machine's byte order, so that a file from another kind of machine is foreign |
//! | 8..16 | length of the payload in bytes |
//! | 16..48 | BLAKE3 of the identity: a text that says everything that decides the payload |
//! | 48..64 | zeros |
//! | 64.. | the payload, nothing behind it |
//!
//! A file is written under another name, flushed, and renamed, all under a lock: a crash preserves the old state, two processes never build
//! the same file at once, and the second process finds the file of the first. A file that is truncated, foreign or otherwise not what its
//! header says is built again. Locks are advisory locks of the operating system on files that stay; they end with their process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::Mmap;

use crate::error::DataError;
use crate::progress::{Progress, go_on};

const MAGIC: u64 = u64::from_le_bytes(*b"SORTIE\0\x01");
const HEADER_BYTES: usize = 64;
const LOCK_POLL: Duration = Duration::from_millis(50);

/// The path of a shared file and the identity of its payload.
#[derive(Clone, Debug)]
pub(crate) struct SharedFile {
    path: PathBuf,
    identity: blake3::Hash,
}

impl SharedFile {
    pub(crate) fn new(path: PathBuf, identity: &str) -> Self {
        Self { path, identity: blake3::hash(identity.as_bytes()) }
    }

    /// Maps the file, after building it where it is missing or damaged. `parse` says whether a payload is sound.
    ///
    /// # Errors
    /// What `build` reports; [`DataError::Other`] in one line where the folder cannot be written, a full disk above all.
    pub(crate) fn open_or_build<T, E: From<DataError>>(
        &self,
        progress: &dyn Progress,
        parse: impl Fn(Payload) -> Option<T>,
        build: impl FnOnce(&Writer) -> Result<(), E>,
    ) -> Result<T, E> {
        let open = || Ok::<_, DataError>(self.open()?.and_then(&parse));
        if let Some(found) = open()? {
            return Ok(found);
        }
        let _lock = Lock::wait(&self.path.with_extension("lock"), progress)?;
        // Another process may have built it while this one waited.
        if let Some(found) = open()? {
            return Ok(found);
        }
        if self.path.exists() {
            tracing::warn!(file = %self.path.display(), "this file of the cache is damaged; it is built again");
        }
        self.build(build)?;
        let unreadable = || format!("{}: what was just written there cannot be read", self.path.display());
        Ok(open()?.ok_or_else(|| DataError::Machine(unreadable()))?)
    }

    /// None where there is no such file, or another one than this.
    fn open(&self) -> Result<Option<Payload>, DataError> {
        let failed = |error| cannot("read", &self.path, &error);
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if file.metadata().map_err(failed)?.len() < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let payload = Payload { map: map(&file).map_err(failed)? };
        Ok((payload.map[..HEADER_BYTES] == self.header(payload.len() as u64)).then_some(payload))
    }

    fn build<E: From<DataError>>(&self, build: impl FnOnce(&Writer) -> Result<(), E>) -> Result<(), E> {
        let part = PartialFile(self.path.with_extension("part"));
        let failed = |error| cannot("write", &self.path, &error);
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).open(&part.0).map_err(failed)?;
        let writer = Writer { file, path: self.path.clone(), length: AtomicU64::new(0) };
        build(&writer)?;
        let header = self.header(writer.length.load(Ordering::Acquire));
        writer.file.write_all_at(&header, 0).and_then(|()| writer.file.sync_all()).map_err(failed)?;
        fs::rename(&part.0, &self.path).map_err(failed)?;
        Ok(sync_folder_of(&self.path)?)
    }

    fn header(&self, length: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(&MAGIC.to_ne_bytes());
        header[8..16].copy_from_slice(&length.to_ne_bytes());
        header[16..48].copy_from_slice(self.identity.as_bytes());
        header
    }
}

/// The mapped payload of a shared file. It begins at a multiple of 64 bytes in memory.
#[derive(Debug)]
pub(crate) struct Payload {
    map: Mmap,
}

impl Payload {
    /// Bytes of the whole file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }
}

impl std::ops::Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[HEADER_BYTES..]
    }
}

/// Fills the payload of a shared file, from any thread.
pub(crate) struct Writer {
    file: File,
    path: PathBuf,
    length: AtomicU64,
}

impl Writer {
    /// Appends; the offset in the payload where the bytes then lie.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<u64, DataError> {
        let offset = self.length.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        self.file
            .write_all_at(bytes, HEADER_BYTES as u64 + offset)
            .map_err(|error| cannot("write", &self.path, &error))?;
        Ok(offset)
    }
}

/// An incomplete file, removed on drop unless it was renamed.
struct PartialFile(PathBuf);

impl Drop for PartialFile {
    fn drop(&mut self) {
        // Gone already after success; otherwise the next builder truncates it.
        let _ = fs::remove_file(&self.0);
    }
}

/// An advisory lock that ends when it is dropped, or with its process.
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

impl Lock {
    /// Waits for the lock on a file, which is created where it is missing, and its folder.
    pub(crate) fn wait(path: &Path, progress: &dyn Progress) -> Result<Self, DataError> {
        let failed = |error| cannot("write", path, &error);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) => go_on(progress)?,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            std::thread::sleep(LOCK_POLL);
        }
    }
}

/// Replaces a small file as a whole, flushed. The caller holds a lock.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), DataError> {
    let part = PartialFile(path.with_extension("part"));
    let write = || -> io::Result<()> {
        let file = File::create(&part.0)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        fs::rename(&part.0, path)
    };
    write().map_err(|error| cannot("write", path, &error))?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> Result<(), DataError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| cannot("write", path, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> DataError {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room, or name another folder by --cache"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; name another folder by --cache"
        }
        _ => "",
    };
    DataError::Machine(format!("cannot {what} {} in the cache: {error}{remedy}", path.display()))
}

fn map(file: &File) -> io::Result<Mmap> {
    #[expect(unsafe_code, reason = "memory maps cannot be made otherwise")]
    // SAFETY: a mapped file must not change. Ours are complete when they get their name, are never written again, and are replaced only
    // by renaming another file over them, which leaves this one as it is. A user who truncates one by hand kills the processes that read it.
    unsafe {
        Mmap::map(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoProgress;

    fn text(file: &SharedFile, content: &str) -> Result<String, DataError> {
        let parse = |payload: Payload| std::str::from_utf8(&payload).ok().map(str::to_owned);
        file.open_or_build(&NoProgress, parse, |writer| writer.append(content.as_bytes()).map(|_| ()))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_built_once_and_again_when_it_is_damaged_or_foreign() {
        let folder = tempfile::tempdir().unwrap();
        let file = SharedFile::new(folder.path().join("deep/a.bin"), "identity");
        assert_eq!(text(&file, "first").unwrap(), "first");
        assert_eq!(text(&file, "second").unwrap(), "first");
        let damage: [fn(&mut Vec<u8>); 5] = [
            |bytes| bytes.truncate(bytes.len() - 1),
            |bytes| bytes.truncate(20),
            |bytes| bytes.push(0),
            |bytes| bytes[0] ^= 1,
            |bytes| bytes[64] = 0xff,
        ];
        for (index, damage) in damage.iter().enumerate() {
            let mut bytes = fs::read(&file.path).unwrap();
            damage(&mut bytes);
            fs::write(&file.path, bytes).unwrap();
            let content = format!("again {index}");
            assert_eq!(text(&file, &content).unwrap(), content);
        }
        let other = SharedFile::new(file.path.clone(), "another identity");
        assert_eq!(text(&other, "other").unwrap(), "other");
        assert_eq!(names(&folder.path().join("deep")), ["a.bin", "a.lock"]);
    }

    #[test]
    fn a_failed_build_leaves_no_file_and_a_stale_part_file_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let file = SharedFile::new(folder.path().join("a.bin"), "identity");
        let failing = file.open_or_build(&NoProgress, Some, |writer| {
            writer.append(b"half")?;
            Err(DataError::Other("stop".into()))
        });
        assert_eq!(failing.unwrap_err().to_string(), "stop");
        assert_eq!(names(folder.path()), ["a.lock"]);
        fs::write(folder.path().join("a.part"), "a long rest of something that was killed").unwrap();
        assert_eq!(text(&file, "whole").unwrap(), "whole");
        assert_eq!(names(folder.path()), ["a.bin", "a.lock"]);
    }

    #[test]
    fn of_many_builders_at_once_one_builds() {
        let folder = tempfile::tempdir().unwrap();
        let file = SharedFile::new(folder.path().join("a.bin"), "identity");
        let built = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let build = |writer: &Writer| {
                        built.fetch_add(1, Ordering::Relaxed);
                        writer.append(b"x").map(|_| ())
                    };
                    file.open_or_build(&NoProgress, Some, build).unwrap();
                });
            }
        });
        assert_eq!(built.into_inner(), 1);
    }

    #[test]
    fn waiting_for_a_lock_can_be_cancelled() {
        struct Cancelled;
        impl Progress for Cancelled {
            fn begin(&self, _: &str, _: u64) {}
            fn advance(&self, _: u64) {}
            fn is_cancelled(&self) -> bool {
                true
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::wait(&path, &Cancelled).unwrap();
        assert!(Lock::wait(&path, &Cancelled).err().unwrap().to_string().contains("interrupted"));
        drop(held);
        assert!(Lock::wait(&path, &Cancelled).is_ok());
    }

    #[test]
    fn a_full_disk_is_one_clear_line() {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let writer =
            Writer { file, path: PathBuf::from("/c/images/k/images.bin"), length: AtomicU64::new(0) };
        let text = writer.append(b"1").unwrap_err().to_string();
        assert!(
            text.contains("/c/images/k/images.bin") && text.contains("--cache") && text.lines().count() == 1,
            "{text}"
        );
    }
}
