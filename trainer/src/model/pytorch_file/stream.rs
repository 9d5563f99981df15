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
    /// Where the numbers of each storage begin, in bytes.
    places: HashMap<String, u64>,
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
        // It lies in the file, which is no longer than a weights file may be.
        let mut bytes = vec![0; usize::try_from(storage.bytes()).map_err(|error| error.to_string())?];
        self.file.read_exact_at(&mut bytes, place).map_err(|error| error.to_string())?;
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
) -> Result<HashMap<String, u64>, String> {
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
        places.insert(key, begin);
    }
    Ok(places)
}
