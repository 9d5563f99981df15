//! The format of PyTorch since version 1.6: a ZIP archive with the pickle as `<folder>/data.pkl` and each storage as `<folder>/data/<key>`.

use std::collections::HashMap;
use std::io::{Read, Seek};

use tch::Tensor;
use zip::ZipArchive;

use super::machine::Machine;
use super::tensors::{Reason, storage, tensors, text};

const PICKLE_BYTES_MAX: u64 = 64 << 20;

/// All tensors of a state dictionary.
pub(in crate::model) fn read(file: impl Read + Seek) -> Result<Vec<(String, Tensor)>, Reason> {
    let mut archive = ZipArchive::new(file).map_err(text)?;
    let names: Vec<String> = archive
        .file_names()
        .map(|name| name.map(|name| name.into_owned()))
        .collect::<Result<_, _>>()
        .map_err(text)?;
    let folder =
        names.iter().find_map(|name| name.strip_suffix("/data.pkl")).ok_or("it holds no data.pkl")?;
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
        let bytes = elements
            .checked_mul(kind.elt_size_in_bytes() as u64)
            .ok_or_else(|| format!("storage {key} is too large"))?;
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

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// `{"epoch": 3, "best": 0.5, "state_dict": {"module.w": [[1, 2, 3], [4, 5, 6]]}}`, the tensor a parameter stored column by column.
    fn pickle() -> Vec<u8> {
        let mut pickle =
            b"\x80\x02}q\x00(X\x05\x00\x00\x00epochK\x03X\x04\x00\x00\x00bestG?\xe0\x00\x00\x00\x00\x00\x00"
                .to_vec();
        pickle.extend(b"X\x0a\x00\x00\x00state_dictccollections\nOrderedDict\n)RX\x08\x00\x00\x00module.w");
        pickle.extend(b"ctorch._utils\n_rebuild_parameter\nctorch._utils\n_rebuild_tensor_v2\n(");
        pickle.extend(
            b"(X\x07\x00\x00\x00storagectorch\nHalfStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ",
        );
        pickle.extend(b"K\x00K\x02K\x03\x86K\x01K\x02\x86\x89ccollections\nOrderedDict\n)RtR\x88ccollections\nOrderedDict\n)R\x87Rsu.");
        pickle
    }

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            writer
                .start_file(
                    *name,
                    SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored),
                )
                .unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    /// 1, 4, 2, 5, 3, 6 in half precision.
    const HALVES: [u8; 12] = [0, 0x3c, 0, 0x44, 0, 0x40, 0, 0x45, 0, 0x42, 0, 0x46];

    fn checkpoint() -> Vec<u8> {
        archive(&[
            ("a/data.pkl", &pickle()),
            ("a/byteorder", b"little"),
            ("a/data/0", &HALVES),
            ("a/version", b"3\n"),
        ])
    }

    fn parse(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, Reason> {
        read(Cursor::new(bytes))
    }

    #[test]
    fn a_nested_parameter_is_read_in_logical_order() {
        let tensors = parse(&checkpoint()).unwrap();
        let [(name, tensor)] = tensors.as_slice() else { panic!("{} tensors", tensors.len()) };
        assert_eq!((name.as_str(), tensor.kind()), ("module.w", tch::Kind::Half));
        assert_eq!(
            Vec::<Vec<f32>>::try_from(tensor.to_kind(tch::Kind::Float)).unwrap(),
            [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
        );
    }

    #[test]
    fn damaged_archives_are_refused_and_nothing_panics() {
        let file = checkpoint();
        for length in 0..file.len() {
            assert!(parse(&file[..length]).is_err(), "cut at {length}");
        }
        for position in 0..file.len() {
            for value in [0, 1, 0x50, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[position] = value;
                let _ = parse(&damaged);
            }
        }
        // The archive's own checksum notices one wrong bit of a weight.
        let mut flipped = file.clone();
        let at = file.windows(HALVES.len()).position(|window| window == HALVES).unwrap();
        flipped[at] ^= 1;
        assert!(parse(&flipped).unwrap_err().contains("a/data/0: "));
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let refused = |entries: &[(&str, &[u8])]| parse(&archive(entries)).unwrap_err();
        let pickle = pickle();
        assert_eq!(refused(&[("a/other", b"")]), "it holds no data.pkl");
        assert!(refused(&[("a/data.pkl", &pickle)]).starts_with("a/data/0: "));
        assert_eq!(
            refused(&[("a/data.pkl", &pickle), ("a/data/0", &HALVES[..10])]),
            "storage 0 has 10 bytes where 12 were announced"
        );
        assert_eq!(
            refused(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 14])]),
            "a/data/0 has 14 bytes where at most 12 belong"
        );
        let big = refused(&[("a/data.pkl", &pickle), ("a/byteorder", b"big"), ("a/data/0", &HALVES)]);
        assert_eq!(big, "it was not written on a little-endian machine");
        let call = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.";
        assert!(refused(&[("a/data.pkl", call)]).contains("os.system"));
    }
}
