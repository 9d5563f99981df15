//! The format of PyTorch since version 1.6: a ZIP archive with the pickle as `<folder>/data.pkl` and each storage as `<folder>/data/<key>`.

use std::collections::HashMap;
use std::io::{Read, Seek};

use tch::Tensor;
use zip::ZipArchive;

use super::machine::Machine;
use super::{Reason, storage, tensors, text};

const PICKLE_BYTES_MAX: u64 = 64 << 20;

/// All tensors of a state dictionary.
pub(in crate::model) fn read(file: impl Read + Seek) -> Result<Vec<(String, Tensor)>, Reason> {
    let mut archive = ZipArchive::new(file).map_err(text)?;
    let names: Vec<String> = archive.file_names().map(|name| name.map(|name| name.into_owned())).collect::<Result<_, _>>().map_err(text)?;
    let folder = names.iter().find_map(|name| name.strip_suffix("/data.pkl")).ok_or("it holds no data.pkl")?;
    if let Some(order) = optional(&mut archive, &format!("{folder}/byteorder"))?
        && order != b"little"
    {
        return Err("it was not written on a little-endian machine".into());
    }
    let pickle = entry(&mut archive, &format!("{folder}/data.pkl"), PICKLE_BYTES_MAX)?;
    let mut at = 0;
    let object = Machine::run(&pickle, &mut at)?;
    let mut storages = HashMap::new();
    for (key, kind, elements) in object.storages() {
        let bytes = elements.checked_mul(kind.elt_size_in_bytes() as u64).ok_or_else(|| format!("storage {key} is too large"))?;
        let data = entry(&mut archive, &format!("{folder}/data/{key}"), bytes)?;
        if data.len() as u64 != bytes {
            return Err(format!("storage {key} has {} bytes where {bytes} were announced", data.len()));
        }
        storages.insert(key.to_owned(), storage(&data, kind)?);
    }
    tensors(&object, &storages)
}

fn optional<F: Read + Seek>(archive: &mut ZipArchive<F>, name: &str) -> Result<Option<Vec<u8>>, Reason> {
    if archive.index_for_name(name).is_none() { Ok(None) } else { entry(archive, name, 16).map(Some) }
}

/// A whole entry; its checksum is checked on the way.
fn entry<F: Read + Seek>(archive: &mut ZipArchive<F>, name: &str, bytes_max: u64) -> Result<Vec<u8>, Reason> {
    let entry = archive.by_name(name).map_err(|error| format!("{name}: {error}"))?;
    if entry.size() > bytes_max {
        return Err(format!("{name} has {} bytes where at most {bytes_max} belong", entry.size()));
    }
    // The size is what the archive says, and a damaged one may say anything: memory grows with what is read.
    let mut bytes = Vec::new();
    entry.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok(bytes)
}
