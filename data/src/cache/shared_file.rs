//! Files that all trial processes of a machine share. The first process builds a file; all processes map it, and it never changes.
//!
//! # Format
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `SORTIE` and a version, as one number of this machine's byte order, so that a file from another kind of machine is foreign |
//! | 8..16 | length of the payload in bytes |
//! | 16..48 | BLAKE3 of the identity: a text that says everything that decides the payload |
//! | 48..64 | the first half of the BLAKE3 of the table of checksums |
//! | 64.. | the payload |
//! | behind it | the table of checksums of the payload's blocks (see [`super::checksums`]), nothing behind it |
//!
//! A file is written under another name, flushed, and renamed, all under a lock: a crash preserves the old state, two processes never build
//! the same file at once, and the second process finds the file of the first. A file that is truncated, foreign or otherwise not what its
//! header says is built again. Each process checks a block of the payload when it first reads from it. A damaged block is the machine's
//! fault; its file is removed, so that the next attempt builds it again. Locks are advisory locks of the operating system on files that
//! stay; they end with their process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::Mmap;

use super::checksums::{CheckedBlocks, ChecksumWriter, table_bytes};
use crate::error::DataError;
use crate::progress::{Progress, go_on};

const MAGIC: u64 = u64::from_le_bytes(*b"SORTIE\0\x02");
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
            tracing::warn!(file = %self.path.display(), "this file of the cache is damaged, or of another build; it is made again");
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
        let metadata = file.metadata().map_err(failed)?;
        if metadata.len() < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let map = map(&file).map_err(failed)?;
        let bytes = map[8..16].as_array().map_or(0, |length| u64::from_ne_bytes(*length));
        let Some(table) = usize::try_from(bytes).ok().and_then(|bytes| table_range(bytes, map.len())) else {
            return Ok(None);
        };
        if map[..HEADER_BYTES] != self.header(bytes, &map[table.clone()]) {
            return Ok(None);
        }
        let checked = CheckedBlocks::none(table.start - HEADER_BYTES);
        let place = Place { path: self.path.clone(), device: metadata.dev(), inode: metadata.ino() };
        Ok(Some(Payload { map, table, checked, place }))
    }

    fn build<E: From<DataError>>(&self, build: impl FnOnce(&Writer) -> Result<(), E>) -> Result<(), E> {
        let part = PartialFile(self.path.with_extension("part"));
        let failed = |error| cannot("write", &self.path, &error);
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).open(&part.0).map_err(failed)?;
        let writer = Writer::new(file, self.path.clone());
        build(&writer)?;
        let Writer { file, length, checksums, .. } = writer;
        let (bytes, table) = (length.into_inner(), checksums.into_table());
        file.write_all_at(&table, HEADER_BYTES as u64 + bytes).map_err(failed)?;
        file.write_all_at(&self.header(bytes, &table), 0).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&part.0, &self.path).map_err(failed)?;
        Ok(sync_folder_of(&self.path)?)
    }

    fn header(&self, length: u64, table: &[u8]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(&MAGIC.to_ne_bytes());
        header[8..16].copy_from_slice(&length.to_ne_bytes());
        header[16..48].copy_from_slice(self.identity.as_bytes());
        header[48..64].copy_from_slice(&blake3::hash(table).as_bytes()[..16]);
        header
    }
}

/// Where the table lies in a file of this length whose payload has this length, if the file can be whole.
fn table_range(payload_bytes: usize, file_bytes: usize) -> Option<Range<usize>> {
    let start = HEADER_BYTES.checked_add(payload_bytes)?;
    (start.checked_add(table_bytes(payload_bytes))? == file_bytes).then_some(start..file_bytes)
}

/// The mapped payload of a shared file. It begins at a multiple of 64 bytes in memory.
#[derive(Debug)]
pub(crate) struct Payload {
    map: Mmap,
    /// Where the checksums lie in the map: behind the payload.
    table: Range<usize>,
    checked: CheckedBlocks,
    place: Place,
}

/// Where a file was opened, and which of the files that were ever there.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Payload {
    /// Bytes of the whole file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Bytes of the payload.
    pub(crate) fn len(&self) -> usize {
        self.table.start - HEADER_BYTES
    }

    /// A part of the payload, as it was written.
    ///
    /// # Errors
    /// [`DataError::Machine`] when the file was damaged since; it is removed then.
    ///
    /// # Panics
    /// When the payload ends before the range.
    pub(crate) fn get(&self, range: Range<usize>) -> Result<&[u8], DataError> {
        let (payload, table) = (&self.map[HEADER_BYTES..self.table.start], &self.map[self.table.clone()]);
        match self.checked.check(payload, table, &range) {
            Ok(()) => Ok(&payload[range]),
            Err(damaged) => Err(self.place.remove_damaged(&damaged)),
        }
    }
}

impl Place {
    /// Removes the file, unless another process replaced it already. What is wrong with it.
    fn remove_damaged(&self, damaged: &Range<usize>) -> DataError {
        let is_there = fs::metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode));
        let what_next = match is_there.then(|| fs::remove_file(&self.path)) {
            Some(Err(error)) => format!("it cannot be removed ({error}); remove it"),
            Some(Ok(())) | None => "it is removed, and will be made again".to_owned(),
        };
        DataError::Machine(format!(
            "{}: this file of the cache is damaged: bytes {} to {} are not those that were written; {what_next}; the disk or the memory of \
             this machine may be at fault",
            self.path.display(),
            HEADER_BYTES + damaged.start,
            HEADER_BYTES + damaged.end,
        ))
    }
}

/// Fills the payload of a shared file, from any thread.
pub(crate) struct Writer {
    file: File,
    path: PathBuf,
    length: AtomicU64,
    checksums: ChecksumWriter,
}

impl Writer {
    fn new(file: File, path: PathBuf) -> Self {
        Self { file, path, length: AtomicU64::new(0), checksums: ChecksumWriter::default() }
    }

    /// Appends; the offset in the payload where the bytes then lie.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<u64, DataError> {
        let offset = self.length.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        // A mapped file is not longer than what this machine can address.
        self.checksums.add(offset as usize, bytes);
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
        let parse = |payload: Payload| {
            let bytes = payload.get(0..payload.len()).ok()?;
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        };
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
        let damage: [fn(&mut Vec<u8>); 6] = [
            |bytes| bytes.truncate(bytes.len() - 1),
            |bytes| bytes.truncate(20),
            |bytes| bytes.push(0),
            |bytes| bytes[0] ^= 1,
            |bytes| bytes[64] = 0xff,
            |bytes| *bytes.last_mut().unwrap() ^= 1,
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
    fn damage_is_seen_where_it_is_read_and_its_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = SharedFile::new(folder.path().join("a.bin"), "identity");
        let content = vec![7_u8; 200_000];
        let open = || {
            let build = |writer: &Writer| writer.append(&content).map(|_| ());
            file.open_or_build::<_, DataError>(&NoProgress, Some, build).unwrap()
        };
        drop(open());
        let mut bytes = fs::read(&file.path).unwrap();
        bytes[HEADER_BYTES + 150_000] ^= 1;
        fs::write(&file.path, &bytes).unwrap();
        let (first, second) = (open(), open());
        assert_eq!(first.get(0..1000).unwrap(), &content[..1000]);
        let error = first.get(140_000..141_000).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DataError::Machine(_)), "{error:?}");
        assert!(text.contains("a.bin") && text.contains("bytes 131136 to 196672"), "{text}");
        assert!(text.contains("it is removed") && text.lines().count() == 1, "{text}");
        // Built anew, and a process that still reads the damaged one does not remove the new one.
        assert_eq!(open().get(0..content.len()).unwrap(), content);
        second.get(150_000..150_001).unwrap_err();
        assert!(file.path.exists());
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
        let writer = Writer::new(file, PathBuf::from("/c/images/k/images.bin"));
        let text = writer.append(b"1").unwrap_err().to_string();
        assert!(
            text.contains("/c/images/k/images.bin") && text.contains("--cache") && text.lines().count() == 1,
            "{text}"
        );
    }
}
