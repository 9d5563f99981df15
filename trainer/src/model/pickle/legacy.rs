//! The format of PyTorch before version 1.6: five pickles (a magic number, a version, properties of the machine, the object, the keys of its
//! storages) and after them, for each storage, its element count as eight bytes, its elements.

use std::collections::HashMap;

use tch::Tensor;

use super::machine::{Machine, Node, Value};
use super::tensors::{Reason, storage, tensors};

const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL_VERSION: i64 = 1001;

/// All tensors of a state dictionary.
pub(in crate::model) fn parse(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, Reason> {
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
    tensors(&object, &read_storages(bytes, at, &object, &keys)?)
}

fn check_little_endian(system: &Machine) -> Result<(), Reason> {
    let Some(Node::Dict(entries)) = system.result_node() else {
        return Err("the properties of the machine are missing".into());
    };
    let value =
        entries.iter().find(|(key, _)| system.text(*key) == Some("little_endian")).map(|(_, value)| *value);
    if value == Some(Value::Bool(true)) {
        Ok(())
    } else {
        Err("it was not written on a little-endian machine".into())
    }
}

fn read_storages(
    bytes: &[u8],
    mut at: usize,
    object: &Machine,
    keys: &Machine,
) -> Result<HashMap<String, Tensor>, Reason> {
    let Some(Node::List(list)) = keys.result_node() else {
        return Err("the list of storages is missing".into());
    };
    let mut storages = HashMap::new();
    for key in list {
        let key = keys.text(*key).ok_or("a storage key is not a text")?;
        let (kind, declared) =
            object.storage(key).ok_or_else(|| format!("storage {key} belongs to no tensor"))?;
        let header = bytes.get(at..at + 8).ok_or_else(|| format!("the file ends before storage {key}"))?;
        let elements = u64::from_le_bytes(header.try_into().map_err(|_| "a storage has no length")?);
        if elements != declared {
            return Err(format!("storage {key} has {elements} elements where {declared} were announced"));
        }
        let length = usize::try_from(elements).ok().and_then(|n| n.checked_mul(kind.elt_size_in_bytes()));
        let end = length.and_then(|length| length.checked_add(at + 8));
        let data = end
            .and_then(|end| bytes.get(at + 8..end))
            .ok_or_else(|| format!("the file ends inside storage {key}"))?;
        at += 8 + data.len();
        storages.insert(key.to_owned(), storage(data, kind)?);
    }
    if at != bytes.len() {
        return Err(format!("{} bytes follow the last storage", bytes.len() - at));
    }
    Ok(storages)
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
        let (name, tensor) = &tensors[0];
        assert_eq!((tensors.len(), name.as_str()), (1, "w"));
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
