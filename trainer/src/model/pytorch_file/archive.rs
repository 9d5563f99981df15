//! The archive that PyTorch 1.6 and later write: a zip file with the pickle in `data.pkl` and each storage in a file below `data/`, all in
//! one folder.

use std::fs::File;
use std::io::{BufReader, Read as _};

use zip::read::ZipReadOptions;
use zip::{ZipArchive, result::ZipError};

use super::pickle::PICKLE_BYTES_MAX;
use super::state_dict::Storage;

const PICKLE: &str = "data.pkl";
/// Bytes of a file that says in one word how numbers are stored.
const WORD_BYTES_MAX: u64 = 64;

/// An open archive.
pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// Bytes of the whole file.
    length: u64,
    /// The folder that holds everything, with a slash at its end.
    folder: String,
}

impl Archive {
    /// Opens an archive and reads its pickle.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn open(file: File) -> Result<(Self, Vec<u8>), String> {
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| error.to_string())?;
        let folder = zip.file_names_raw().find_map(|name| {
            let folder = std::str::from_utf8(name).ok()?.strip_suffix(PICKLE)?;
            (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_owned())
        });
        let folder = folder.ok_or("it is an archive without a file data.pkl, so PyTorch did not write it")?;
        let mut archive = Self { zip, length, folder };
        if archive.read_file("constants.pkl", PICKLE_BYTES_MAX)?.is_some() {
            return Err("it is a program of TorchScript; save the network's state_dict() instead".into());
        }
        if archive.read_file("byteorder", WORD_BYTES_MAX)?.is_some_and(|word| word == b"big") {
            return Err("its numbers are big-endian".into());
        }
        let pickle = archive.read_file(PICKLE, PICKLE_BYTES_MAX)?.ok_or("its file data.pkl is gone")?;
        Ok((archive, pickle))
    }

    /// The bytes of a storage.
    ///
    /// # Errors
    /// When it is missing, shorter than the pickle says, or its checksum is wrong.
    pub(super) fn read(&mut self, storage: &Storage) -> Result<Vec<u8>, String> {
        let (key, bytes) = (&storage.key, storage.bytes());
        // PyTorch compresses nothing.
        if bytes > self.length {
            return Err(format!("the storage {key:?} has {bytes} bytes, more than the whole file"));
        }
        let found = self.read_file(&format!("data/{key}"), self.length)?;
        let mut found = found.ok_or_else(|| format!("the archive has no file data/{key}"))?;
        if (found.len() as u64) < bytes {
            return Err(format!("the archive's file data/{key} has {} bytes of {bytes}", found.len()));
        }
        found.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(found)
    }

    /// A file of the archive, at most so many bytes; none if it is not there.
    fn read_file(&mut self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
        let Some(index) = self.zip.index_for_name_raw(format!("{}{name}", self.folder).as_bytes()) else {
            return Ok(None);
        };
        let failed = |error: ZipError| format!("the archive's file {name}: {error}");
        // PyTorch may be told to compute no checksums, and writes zero for each then.
        let unchecked = self.zip.by_index_raw(index).map_err(failed)?.crc32() == 0;
        let options = ZipReadOptions::new().ignore_crc32(unchecked);
        let file = self.zip.by_index_with_options(index, options).map_err(failed)?;
        let mut bytes = Vec::new();
        // The room grows with the bytes: what the archive says of their number may be wrong.
        file.take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("the archive's file {name}: {error}"))?;
        if bytes.len() as u64 > bytes_max {
            return Err(format!("the archive's file {name} has more than {bytes_max} bytes"));
        }
        Ok(Some(bytes))
    }
}
