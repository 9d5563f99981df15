//! PyTorch's checkpoint files (`.pth`), read without executing anything: the archive of PyTorch 1.6 and later, and the stream of pickles
//! before it.

use std::path::Path;

use pytorch_reader::{DType, PytorchReader};
use tch::{Kind, Tensor};

/// Keys under which training scripts keep the tensors beside other things.
const NESTS: [&str; 2] = ["state_dict", "model"];

/// All tensors of the file's dictionary, or of the one below its key `state_dict` or `model`, in logical order.
///
/// # Errors
/// What is wrong with the file; the caller adds its path.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Tensor)>, String> {
    let nested = NESTS.iter().find_map(|key| PytorchReader::with_top_level_key(path, key).ok());
    let reader = match nested {
        Some(reader) => reader,
        None => PytorchReader::new(path).map_err(|error| error.to_string())?,
    };
    let tensors = reader.into_tensors().into_iter();
    tensors.map(|(name, tensor)| Ok((name, loaded(&tensor)?))).collect()
}

fn loaded(tensor: &pytorch_reader::Tensor) -> Result<Tensor, String> {
    let bytes = tensor.read().map_err(|error| error.to_string())?;
    let size: Vec<i64> = tensor.shape().iter().map(|length| *length as i64).collect();
    Tensor::f_from_data_size(&bytes, &size, kind(tensor)?).map_err(|error| error.to_string())
}

fn kind(tensor: &pytorch_reader::Tensor) -> Result<Kind, String> {
    Ok(match tensor.dtype() {
        DType::F64 => Kind::Double,
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::I64 => Kind::Int64,
        DType::I32 => Kind::Int,
        DType::I16 => Kind::Int16,
        DType::I8 => Kind::Int8,
        DType::U8 => Kind::Uint8,
        DType::Bool => Kind::Bool,
        other @ (DType::U64 | DType::U32 | DType::U16) => {
            return Err(format!(
                "tensor '{}' has elements of type {other:?}, which no network has",
                tensor.name
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path())
    }

    /// A file of the old format that holds one tensor: [[1, 2, 3], [4, 5, 6]] stored column by column.
    fn stream() -> Vec<u8> {
        let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19".to_vec();
        file.extend(b".\x80\x02M\xe9\x03.");
        file.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.");
        file.extend(b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00w");
        file.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x007");
        file.extend(b"X\x03\x00\x00\x00cpuK\x06NtQK\x00K\x02K\x03\x86K\x01K\x02\x86\x89)tRu.");
        file.extend(b"\x80\x02](X\x01\x00\x00\x007e.");
        file.extend(6_u64.to_le_bytes());
        for value in [1_f32, 4.0, 2.0, 5.0, 3.0, 6.0] {
            file.extend(value.to_le_bytes());
        }
        file
    }

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
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, bytes) in entries {
            writer.start_file(*name, stored).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    /// 1, 4, 2, 5, 3, 6 in half precision.
    const HALVES: [u8; 12] = [0, 0x3c, 0, 0x44, 0, 0x40, 0, 0x45, 0, 0x42, 0, 0x46];

    fn zipped() -> Vec<u8> {
        archive(&[
            ("a/data.pkl", &pickle()),
            ("a/byteorder", b"little"),
            ("a/data/0", &HALVES),
            ("a/version", b"3\n"),
        ])
    }

    #[test]
    fn transposed_tensors_are_read_in_logical_order() {
        for (file, name, kind) in [(stream(), "w", Kind::Float), (zipped(), "module.w", Kind::Half)] {
            let tensors = parse(&file).unwrap();
            let [(found, tensor)] = tensors.as_slice() else { panic!("{} tensors", tensors.len()) };
            assert_eq!((found.as_str(), tensor.kind(), tensor.size()), (name, kind, vec![2, 3]));
            let rows = Vec::<Vec<f32>>::try_from(tensor.to_kind(Kind::Float)).unwrap();
            assert_eq!(rows, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        }
    }

    #[test]
    fn truncated_and_damaged_files_are_refused_and_nothing_panics() {
        for file in [stream(), zipped()] {
            for length in 0..file.len() {
                assert!(parse(&file[..length]).is_err(), "cut at {length} of {}", file.len());
            }
            for position in 0..file.len() {
                for value in [0, 1, 0x28, 0x50, 0x7f, 0xff] {
                    let mut damaged = file.clone();
                    damaged[position] = value;
                    if let Err(reason) = parse(&damaged) {
                        assert_eq!(reason.lines().count(), 1, "{reason}");
                    }
                }
            }
        }
        // The archive's own checksum notices one wrong bit of a weight.
        let mut flipped = zipped();
        let at = flipped.windows(HALVES.len()).position(|window| window == HALVES).unwrap();
        flipped[at] ^= 1;
        let reason = parse(&flipped).unwrap_err();
        assert!(reason.contains("module.w"), "{reason}");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |entries: &[(&str, &[u8])]| parse(&archive(entries)).unwrap_err();
        let pickle = pickle();
        refused(&[("a/other", b"")]);
        refused(&[("a/data.pkl", &pickle)]);
        refused(&[("a/data.pkl", &pickle), ("a/data/0", &HALVES[..10])]);
        let big = refused(&[("a/data.pkl", &pickle), ("a/byteorder", b"big"), ("a/data/0", &HALVES)]);
        assert!(big.contains("ig-endian"), "{big}");
    }

    #[test]
    fn a_file_that_calls_other_functions_is_refused_and_they_are_not_called() {
        let there = tempfile::tempdir().unwrap();
        let mark = there.path().join("called");
        let command = format!("touch {}", mark.display());
        let mut call = b"\x80\x02cos\nsystem\nX".to_vec();
        call.extend((command.len() as u32).to_le_bytes());
        call.extend(command.as_bytes());
        call.extend(b"\x85R.");
        let reason = parse(&archive(&[("a/data.pkl", &call)])).unwrap_err();
        assert!(!mark.exists(), "{reason}");
    }
}
