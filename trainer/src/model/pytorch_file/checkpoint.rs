//! A checkpoint file of PyTorch, whichever of its formats it has.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use tch::{Device, Kind, TchError, Tensor};

use super::archive::Archive;
use super::pickle::Pickle;
use super::state_dict::{Entry, Storage, TensorLayout, entries};
use super::stream::Stream;
use crate::error::TrialError;
use crate::model::matching::TensorName;
use crate::model::state::FILE_BYTES_MAX;

/// How a zip file begins.
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// An open checkpoint. The numbers of a tensor are read when they are wanted.
pub(in crate::model) struct Checkpoint {
    entries: Vec<Entry>,
    container: Container,
    /// The storage that was read last, as tensors may share one.
    last: Option<(Storage, Tensor)>,
}

enum Container {
    Archive(Box<Archive>),
    Stream(Stream),
}

impl Checkpoint {
    /// Opens a checkpoint.
    ///
    /// # Errors
    /// What is wrong with the file; the caller adds its path.
    pub(in crate::model) fn open(path: &Path) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut file = File::open(path).map_err(text)?;
        let mut start = [0; 4];
        file.read_exact(&mut start).map_err(text)?;
        file.rewind().map_err(text)?;
        if start == ZIP {
            let (archive, pickle) = Archive::open(file)?;
            let entries = entries(&Pickle::read(&pickle)?)?;
            return Ok(Self { entries, container: Container::Archive(Box::new(archive)), last: None });
        }
        let (stream, entries) = Stream::open(file)?
            .ok_or("it is no weights file: neither safetensors, nor what PyTorch's torch.save writes")?;
        Ok(Self { entries, container: Container::Stream(stream), last: None })
    }

    /// The names of all tensors, in the order of the file.
    pub(in crate::model) fn names(&self) -> Vec<TensorName> {
        self.entries.iter().map(|entry| entry.name.clone()).collect()
    }

    /// The size of a tensor by its place among the names.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(in crate::model) fn size(&self, index: usize) -> Result<&[i64], String> {
        Ok(&self.layout(index)?.size)
    }

    /// Reads a tensor by its place among the names, in logical order.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(in crate::model) fn read(&mut self, index: usize) -> Result<Tensor, String> {
        let layout = self.layout(index)?.clone();
        if layout.bytes() > FILE_BYTES_MAX {
            return Err(format!("its {:?} elements are more than a weights file may hold", layout.size));
        }
        if layout.size.contains(&0) {
            return Tensor::f_zeros(&layout.size, (layout.kind, Device::Cpu)).map_err(line);
        }
        let numbers = self.storage(&layout.storage, layout.kind)?;
        let view = numbers.f_as_strided(&layout.size, &layout.strides, layout.offset).map_err(line)?;
        view.f_contiguous().map_err(line)
    }

    fn layout(&self, index: usize) -> Result<&TensorLayout, String> {
        let entry = self.entries.get(index).ok_or("there is no such tensor")?;
        entry.layout.as_ref().map_err(Clone::clone)
    }

    /// All numbers of a storage, one after the other.
    fn storage(&mut self, storage: &Storage, kind: Kind) -> Result<Tensor, String> {
        if let Some((last, numbers)) = &self.last
            && last == storage
        {
            return Ok(numbers.shallow_clone());
        }
        let bytes = match &mut self.container {
            Container::Archive(archive) => archive.read(storage)?,
            Container::Stream(stream) => stream.read(storage)?,
        };
        // libtorch reads as many as it is told to.
        if bytes.len() as u64 != storage.bytes() {
            return Err(format!("its storage has {} bytes of {}", bytes.len(), storage.bytes()));
        }
        let elements = i64::try_from(storage.elements).map_err(|error| error.to_string())?;
        let numbers = Tensor::f_from_data_size(&bytes, &[elements], kind).map_err(line)?;
        self.last = Some((storage.clone(), numbers.shallow_clone()));
        Ok(numbers)
    }
}

/// What libtorch says, in one line.
fn line(error: TchError) -> String {
    TrialError::from(error).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.pth");
        std::fs::write(&path, bytes).unwrap();
        let mut checkpoint = Checkpoint::open(&path)?;
        let names = checkpoint.names().into_iter().enumerate();
        names.map(|(index, tensor)| Ok((tensor.name, checkpoint.read(index)?))).collect()
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
        for (file, name, kind) in
            [(stream(), "w", Kind::Float), (zipped(), "state_dict.module.w", Kind::Half)]
        {
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
        assert!(reason.contains("data/0"), "{reason}");
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

    /// An archive with one tensor of this class, of which numbers below 128 say the rest.
    fn described(class: &str, elements: u8, offset: u8, size: [u8; 2], strides: [u8; 2]) -> Vec<u8> {
        let mut pickle =
            b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\n".to_vec();
        pickle.extend(class.as_bytes());
        pickle.extend(b"\nU\x010U\x03cpuK");
        pickle.extend([elements, b't', b'Q', b'K', offset]);
        for [rows, columns] in [size, strides] {
            pickle.extend([b'K', rows, b'K', columns, 0x86]);
        }
        pickle.extend(b"\x89}tRs.");
        archive(&[("data.pkl", &pickle), ("data/0", &[0; 24])])
    }

    #[test]
    fn tensors_are_views_of_what_is_stored_and_of_nothing_else() {
        let read = |class, elements, offset, size, strides| {
            parse(&described(class, elements, offset, size, strides)).map(|tensors| tensors[0].1.size())
        };
        assert_eq!(read("FloatStorage", 6, 0, [2, 3], [3, 1]), Ok(vec![2, 3]));
        assert_eq!(read("FloatStorage", 6, 2, [100, 4], [0, 1]), Ok(vec![100, 4]));
        assert_eq!(read("DoubleStorage", 3, 9, [0, 3], [3, 1]), Ok(vec![0, 3]));
        let refused = |class, elements, offset, size, strides| {
            read(class, elements, offset, size, strides).unwrap_err()
        };
        assert_eq!(refused("FloatStorage", 6, 1, [2, 3], [3, 1]), "it lies outside its storage");
        assert_eq!(refused("FloatStorage", 6, 0, [2, 3], [4, 1]), "it lies outside its storage");
        assert_eq!(
            refused("FloatStorage", 7, 0, [2, 3], [3, 1]),
            "the archive's file data/0 has 24 bytes of 28"
        );
        assert!(
            refused("ComplexFloatStorage", 3, 0, [1, 1], [1, 1]).contains("a type that no network here has")
        );
        assert!(refused("OddStorage", 3, 0, [1, 1], [1, 1]).contains("torch.OddStorage, which is not read"));
    }

    #[test]
    fn what_claims_to_be_large_takes_no_memory() {
        // Four thousand million numbers in 24 bytes.
        let mut pickle =
            b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\n"
                .to_vec();
        pickle.extend(b"U\x010U\x03cpu\x8a\x05\x00\x00\x00\x00\x01tQK\x00\x8a\x05\x00\x00\x00\x00\x01\x85K\x01\x85\x89}tRs.");
        let reason = parse(&archive(&[("data.pkl", &pickle), ("data/0", &[0; 24])])).unwrap_err();
        assert!(reason.contains("[4294967296] elements are more than a weights file may hold"), "{reason}");
        // A network's tensor in a file that is too short for it.
        let elements = [0x8a, 0x04, 0x00, 0x00, 0x00, 0x01];
        let mut pickle =
            b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\n"
                .to_vec();
        pickle.extend(b"U\x010U\x03cpu");
        pickle.extend(elements);
        pickle.extend(b"tQK\x00");
        pickle.extend(elements);
        pickle.extend(b"\x85K\x01\x85\x89}tRs.");
        let reason = parse(&archive(&[("data.pkl", &pickle), ("data/0", &[0; 24])])).unwrap_err();
        assert!(reason.ends_with("has 67108864 bytes, more than the whole file"), "{reason}");
    }

    #[test]
    fn other_files_are_named_as_what_they_are() {
        let script = parse(&archive(&[("a/data.pkl", &pickle()), ("a/constants.pkl", b"N.")])).unwrap_err();
        assert!(script.contains("TorchScript"), "{script}");
        for other in [&b"GIF89a, no weights"[..], b"\x80\x02}U\x01aK\x01s."] {
            let reason = parse(other).unwrap_err();
            assert!(reason.starts_with("it is no weights file"), "{reason}");
        }
    }

    #[test]
    fn functions_that_a_file_calls_are_not_called() {
        let there = tempfile::tempdir().unwrap();
        let mark = there.path().join("called");
        let command = format!("touch {}", mark.display());
        let mut call = b"\x80\x02cos\nsystem\nX".to_vec();
        call.extend((command.len() as u32).to_le_bytes());
        call.extend(command.as_bytes());
        call.extend(b"\x85R.");
        assert!(parse(&archive(&[("a/data.pkl", &call)])).unwrap().is_empty());
        assert!(!mark.exists());
    }
}
