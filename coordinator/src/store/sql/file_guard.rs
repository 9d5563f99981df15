//! Notices that a SQLite file is no longer what was opened: deleted, moved away, replaced, truncated, overwritten, or without its log. SQLite
//! itself goes on in such a case, on a file that nobody finds again, and everything that it acknowledges is lost.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use sortie_core::keys::Incarnation;

use crate::store::StoreError;

/// How a SQLite file begins, and where in its header three numbers stand (https://sqlite.org/fileformat2.html).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;
const CHANGES_AT: usize = 24;
const USER_VERSION_AT: usize = 60;

/// What is known of an open file.
#[derive(Debug)]
pub(super) struct FileGuard {
    path: PathBuf,
    /// Open for as long as the database is: if this process closed it earlier, SQLite would lose its locks on it (fcntl(2)).
    file: File,
    /// Under the names of the file, its log and the log's index.
    identities: Vec<(PathBuf, Identity)>,
    /// The user versions that the header may have: the one that was found, and the incarnation's.
    stamps: [u32; 2],
    last: Mutex<Extent>,
    /// What became of the file. It is final.
    gone: OnceLock<String>,
}

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What only grows: nothing here ever makes the file shorter. A VACUUM by another program does; the coordinator then ends once for nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    bytes: u64,
    /// Counts changes of the first page, and begins again at 0 after `u32::MAX`.
    changes: u32,
}

/// The number by which a file shows its incarnation in its header, as SQLite's `user_version`.
pub(super) fn user_version(incarnation: Incarnation) -> u32 {
    (incarnation.0 & 0x7FFF_FFFF) as u32
}

impl FileGuard {
    /// Remembers a file that SQLite has just opened, read, and brought up to date. With `exclusive` it has one connection, which may be replaced, and
    /// the log with it: then the log is not watched.
    pub(super) fn new(path: &Path, incarnation: Incarnation, exclusive: bool) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut identities = vec![(path.to_owned(), Identity::of(&file.metadata()?))];
        for ending in if exclusive { &[][..] } else { &["-wal", "-shm"] } {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            let identity = Identity::of(&Path::new(&name).metadata()?);
            identities.push((name.into(), identity));
        }
        let (stamps, last, gone) = ([user_version(incarnation); 2], Mutex::default(), OnceLock::new());
        let mut guard = Self { path: path.to_owned(), file, identities, stamps, last, gone };
        let header = guard.header()?;
        guard.stamps[0] = number(&header, USER_VERSION_AT);
        guard.last = Mutex::new(Extent { bytes: 0, changes: number(&header, CHANGES_AT) });
        Ok(guard)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file, which costs a few system calls.
    ///
    /// # Errors
    /// [`StoreError::Lost`], now and ever after, once it is not what was opened.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.gone.get().is_none()
            && let Some(fate) = self.fate().map_err(sqlx::Error::Io)?
        {
            let path = self.path.display();
            let _ = self.gone.set(format!(
                "the database {path} {fate} while this coordinator had it open, so nothing can be stored in it any more: \
                 start it again; if that fails, put the file back or restore a backup"
            ));
        }
        self.gone.get().map_or(Ok(()), |reason| Err(StoreError::Lost(reason.clone())))
    }

    /// What became of the file; none while it is what was opened.
    fn fate(&self) -> io::Result<Option<String>> {
        for (path, identity) in &self.identities {
            let name = path.file_name().unwrap_or_default().display();
            let what =
                if *path == self.path { String::new() } else { format!("lost its file {name}, which ") };
            match path.metadata() {
                Ok(metadata) if Identity::of(&metadata) == *identity => {}
                Ok(_) => return Ok(Some(format!("{what}was replaced by another file"))),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Ok(Some(format!("{what}was deleted or moved away")));
                }
                Err(error) => return Err(error),
            }
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.file.metadata()?.len();
        let header = match self.header() {
            Ok(header) if bytes >= last.bytes => header,
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(error),
            _ => return Ok(Some("was truncated".to_owned())),
        };
        let changes = number(&header, CHANGES_AT);
        let is_older = changes.wrapping_sub(last.changes) > u32::MAX / 2;
        if !header.starts_with(MAGIC) || !self.stamps.contains(&number(&header, USER_VERSION_AT)) || is_older
        {
            return Ok(Some("was overwritten".to_owned()));
        }
        *last = Extent { bytes, changes };
        Ok(None)
    }

    fn header(&self) -> io::Result<[u8; HEADER_BYTES]> {
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, 0)?;
        Ok(header)
    }
}

/// A number of a header.
fn number(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    header[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
