//! Reads PyTorch's legacy checkpoint format (`torch.save` before 1.6, not a zip archive) without executing anything.
//!
//! Such a file is five pickles - a magic number, the protocol version, facts about the machine, the object, the list of storage keys -
//! and then each storage in the order of that list: its element count as eight bytes, its elements. A pickle is a program for a small
//! stack machine that may call any Python function; the reader here knows the opcodes that a dictionary of tensors needs, and of
//! functions only "make an OrderedDict" and "make a tensor". Everything else is refused by name.

mod machine;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use tch::{Kind, Tensor};

use super::StateDict;
use crate::error::TrialError;
use machine::{Machine, Node, Value};

const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL_VERSION: i64 = 1001;
const FILE_BYTES_MAX: u64 = 4 << 30;

/// Why a file is not a legacy checkpoint of tensors; the caller adds the path.
type Reason = String;

/// Reads all tensors of a state dictionary.
///
/// # Errors
/// [`TrialError::BadData`] naming the file and what was unexpected in it.
pub fn read(path: &Path) -> Result<StateDict, TrialError> {
    let bad = |reason: Reason| TrialError::bad_data(path, reason);
    let length = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(bad(format!("{length} bytes are more than the {FILE_BYTES_MAX} that a weights file may have")));
    }
    let bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    let tensors = parse(&bytes).map_err(|reason| bad(format!("not a legacy PyTorch checkpoint: {reason}")))?;
    Ok(StateDict::new(path, tensors))
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Reason> {
    let mut at = 0;
    let magic = Machine::run(bytes, &mut at)?;
    if !matches!(magic.result_node(), Some(Node::Long(digits)) if digits[..] == MAGIC) {
        return Err("the magic number is missing".into());
    }
    let version = Machine::run(bytes, &mut at)?;
    if version.result != Value::Int(PROTOCOL_VERSION) {
        return Err(format!("the protocol version is {:?} where {PROTOCOL_VERSION} belongs", version.result));
    }
    let system = Machine::run(bytes, &mut at)?;
    let object = Machine::run(bytes, &mut at)?;
    let keys = Machine::run(bytes, &mut at)?;
    check_little_endian(&system)?;
    let storages = read_storages(bytes, at, &object, &keys)?;

    let Some(Node::Dict(entries)) = object.result_node() else {
        return Err("the object is not a dictionary".into());
    };
    let mut tensors = BTreeMap::new();
    for (key, value) in entries {
        let name = object.text(*key).ok_or("a key of the dictionary is not a text")?;
        let Some(Node::Tensor { storage, offset, size, stride }) = object.node(*value) else {
            return Err(format!("the entry {name} is not a tensor"));
        };
        let data = storages.get(storage.as_str()).ok_or_else(|| format!("the storage of {name} is missing"))?;
        let tensor = strided(data, *offset, size, stride).map_err(|reason| format!("tensor {name}: {reason}"))?;
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(format!("the tensor {name} is there twice"));
        }
    }
    Ok(tensors)
}

fn check_little_endian(system: &Machine) -> Result<(), Reason> {
    let Some(Node::Dict(entries)) = system.result_node() else {
        return Err("the facts about the machine are missing".into());
    };
    let value = entries.iter().find(|(key, _)| system.text(*key) == Some("little_endian")).map(|(_, value)| *value);
    if value == Some(Value::Bool(true)) { Ok(()) } else { Err("it was not written on a little-endian machine".into()) }
}

/// One storage: a flat run of elements that tensors are cut from.
struct Storage<'a> {
    kind: Kind,
    elements: usize,
    bytes: &'a [u8],
}

fn read_storages<'a>(bytes: &'a [u8], mut at: usize, object: &Machine, keys: &Machine) -> Result<HashMap<String, Storage<'a>>, Reason> {
    let Some(Node::List(list)) = keys.result_node() else {
        return Err("the list of storages is missing".into());
    };
    let mut storages = HashMap::new();
    for key in list {
        let key = keys.text(*key).ok_or("a storage key is not a text")?;
        let (kind, declared) = object.storage(key).ok_or_else(|| format!("storage {key} belongs to no tensor"))?;
        let header = bytes.get(at..at + 8).ok_or_else(|| format!("the file ends before storage {key}"))?;
        let elements = u64::from_le_bytes(header.try_into().map_err(|_| "a storage has no length")?);
        if elements != declared {
            return Err(format!("storage {key} has {elements} elements where {declared} were announced"));
        }
        let length = usize::try_from(elements).ok().and_then(|n| n.checked_mul(kind.elt_size_in_bytes()));
        let end = length.and_then(|length| length.checked_add(at + 8));
        let data = end.and_then(|end| bytes.get(at + 8..end)).ok_or_else(|| format!("the file ends inside storage {key}"))?;
        at += 8 + data.len();
        storages.insert(key.to_owned(), Storage { kind, elements: elements as usize, bytes: data });
    }
    if at != bytes.len() {
        return Err(format!("{} bytes follow the last storage", bytes.len() - at));
    }
    Ok(storages)
}

/// The elements of a tensor in its logical order. EfficientNet's weights were converted from TensorFlow and lie transposed.
fn strided(storage: &Storage, offset: i64, size: &[i64], stride: &[i64]) -> Result<Tensor, Reason> {
    if size.len() != stride.len() || offset < 0 || size.iter().chain(stride).any(|&n| n < 0) {
        return Err(format!("size {size:?}, stride {stride:?} and offset {offset} do not fit together"));
    }
    let mut pairs = size.iter().zip(stride);
    let last = pairs.try_fold(offset, |sum, (&n, &step)| sum.checked_add((n - 1).max(0).checked_mul(step)?));
    let last = last.ok_or("its extent overflows")?;
    let numel = size.iter().try_fold(1_i64, |product, &n| product.checked_mul(n)).ok_or("its size overflows")?;
    if numel as usize > storage.elements || (numel > 0 && last as usize >= storage.elements) {
        return Err(format!("it reaches beyond the {} elements of its storage", storage.elements));
    }
    let flat = Tensor::f_from_data_size(storage.bytes, &[storage.elements as i64], storage.kind);
    let tensor = flat.and_then(|flat| flat.f_as_strided(size, stride, offset)).and_then(|view| view.f_contiguous());
    tensor.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint that holds one tensor: [[1, 2, 3], [4, 5, 6]] stored column by column.
    fn checkpoint() -> Vec<u8> {
        let mut file = b"\x80\x02\x8a\x0a".to_vec();
        file.extend(MAGIC);
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

    #[test]
    fn a_transposed_tensor_is_read_in_logical_order() {
        let tensors = parse(&checkpoint()).unwrap();
        let tensor = &tensors["w"];
        assert_eq!(tensor.size(), [2, 3]);
        assert_eq!(Vec::<f32>::try_from(tensor.flatten(0, 1)).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn truncated_and_damaged_files_are_refused_and_nothing_panics() {
        let file = checkpoint();
        for length in 0..file.len() {
            assert!(parse(&file[..length]).is_err(), "cut at {length}");
        }
        for position in 0..file.len() {
            for value in [0, 1, 0x28, 0x52, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[position] = value;
                let _ = parse(&damaged);
            }
        }
        assert!(parse(&[file.as_slice(), b"x"].concat()).unwrap_err().contains("follow the last storage"));
    }

    #[test]
    fn a_call_of_any_other_function_is_refused_by_name() {
        let mut at = 0;
        let refused = Machine::run(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", &mut at).err().unwrap();
        assert!(refused.contains("os.system"), "{refused}");
    }
}
