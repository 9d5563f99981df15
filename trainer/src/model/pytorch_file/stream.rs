//! The stream that PyTorch wrote before 1.6, and later ones on demand: pickles of a magic number, the format's version, the machine, the
//! saved value and the keys of its storages; then each storage, its length in elements before it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use super::pickle::{PICKLE_BYTES_MAX, Pickle, Value};
use super::state_dict::{Entry, Storage, entries, storages};

/// The first pickle: 0x1950a86a20f9469cfc6c, the lowest byte first.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;
/// Bytes before each storage that hold its length.
const LENGTH_BYTES: u64 = 8;

/// An open stream.
pub(super) struct Stream {
    file: File,
    places: HashMap<String, Place>,
}

/// Where the numbers of a storage lie in the file, in bytes.
#[derive(Clone, Copy)]
struct Place {
    begin: u64,
    bytes: u64,
}

impl Stream {
    /// Reads the pickles of a stream, and where its storages lie. None if the file is no such stream.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn open(file: File) -> Result<Option<(Self, Vec<Entry>)>, String> {
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        let mut head = Vec::new();
        (&file).take(PICKLE_BYTES_MAX).read_to_end(&mut head).map_err(|error| error.to_string())?;
        let mut at = 0;
        let mut next = || {
            let pickle = Pickle::read(head.get(at..).unwrap_or_default())?;
            at += pickle.length;
            Ok::<_, String>(pickle)
        };
        let is_magic =
            |pickle: &Pickle| matches!(pickle.value(pickle.root()), Value::Bytes(bytes) if *bytes == MAGIC);
        if !next().is_ok_and(|pickle| is_magic(&pickle)) {
            return Ok(None);
        }
        let version = next()?;
        if !matches!(version.value(version.root()), Value::Int(VERSION)) {
            return Err(format!("it is a stream of another version than {VERSION}"));
        }
        if is_big_endian(&next()?) {
            return Err("its numbers are big-endian".into());
        }
        let (saved, keys) = (next()?, next()?);
        let places = places(&file, length, at as u64, &saved, &keys)?;
        Ok(Some((Self { file, places }, entries(&saved)?)))
    }

    /// The bytes of a storage.
    ///
    /// # Errors
    /// When it is missing, or cannot be read.
    pub(super) fn read(&mut self, storage: &Storage) -> Result<Vec<u8>, String> {
        let place = self.places.get(&storage.key);
        let place = *place.ok_or_else(|| format!("the stream has no storage {:?}", storage.key))?;
        // Several descriptions may name one storage. What is listed lies in the file, which is no longer than a weights file may be.
        if storage.bytes() > place.bytes {
            return Err(format!("the storage {:?} is shorter than a tensor says", storage.key));
        }
        let mut bytes = vec![0; usize::try_from(storage.bytes()).map_err(|error| error.to_string())?];
        self.file.read_exact_at(&mut bytes, place.begin).map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

fn is_big_endian(machine: &Pickle) -> bool {
    let Value::Dict(facts) = machine.value(machine.root()) else { return false };
    facts.iter().any(|&(key, value)| {
        matches!(machine.value(key), Value::Text(key) if key == "little_endian")
            && matches!(machine.value(value), Value::Bool(false))
    })
}

/// Where the numbers of each storage begin. They follow each other in the order of the keys, from `start` on.
fn places(
    file: &File,
    length: u64,
    start: u64,
    saved: &Pickle,
    keys: &Pickle,
) -> Result<HashMap<String, Place>, String> {
    let cut_off = || "the file is cut off".to_owned();
    let known: HashMap<String, Storage> =
        storages(saved)?.into_iter().map(|storage| (storage.key.clone(), storage)).collect();
    let Value::Sequence(keys_listed) = keys.value(keys.root()) else {
        return Err("the stream does not list its storages".into());
    };
    let (mut at, mut places) = (start, HashMap::new());
    for &key in keys_listed {
        let key = match keys.value(key) {
            Value::Text(key) => key.to_string(),
            Value::Int(key) => key.to_string(),
            _ => return Err("the stream's list of storages is damaged".into()),
        };
        let storage = known.get(&key).ok_or_else(|| format!("no tensor names the storage {key:?}"))?;
        let mut elements = [0; LENGTH_BYTES as usize];
        file.read_exact_at(&mut elements, at).map_err(|_| cut_off())?;
        let elements = u64::from_le_bytes(elements);
        if elements != storage.elements {
            return Err(format!("the storage {key:?} has {elements} numbers of {}", storage.elements));
        }
        let begin = at + LENGTH_BYTES;
        at = begin.checked_add(storage.bytes()).filter(|&end| end <= length).ok_or_else(cut_off)?;
        places.insert(key, Place { begin, bytes: storage.bytes() });
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    /// One storage of a number, which two tensors name; the second says that it has 2^62.
    #[test]
    fn a_storage_is_never_longer_than_what_the_file_has_of_it() {
        let tensor = |elements: &[u8]| {
            let mut bytes =
                b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n".to_vec();
            bytes.extend(b"X\x01\0\0\x000X\x03\0\0\0cpu");
            bytes.extend(elements);
            bytes.extend(b"tQK\0(K\x01t(K\x01t\x89NtR");
            bytes
        };
        let mut bytes =
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
        bytes.extend(b"\x80\x02](");
        bytes.extend([tensor(b"K\x01"), tensor(b"\x8a\x08\0\0\0\0\0\0\0\x40")].concat());
        bytes.extend(b"e.\x80\x02]X\x01\0\0\x000a.");
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(0.5_f32.to_le_bytes());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        let (mut stream, entries) = Stream::open(file).unwrap().unwrap();
        let storages: Vec<Storage> = entries.into_iter().map(|entry| entry.layout.unwrap().storage).collect();
        assert_eq!(stream.read(&storages[0]).unwrap(), 0.5_f32.to_le_bytes());
        let error = stream.read(&storages[1]).unwrap_err();
        assert_eq!(error, "the storage \"0\" is shorter than a tensor says");
    }
}
