//! The tensors that a pickle describes: views of storages.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::machine::{Machine, Node, Value};

/// Why a file is not a checkpoint of tensors; the caller adds the path.
pub(super) type Reason = String;

/// Keys under which training scripts keep the tensors beside other things.
const NESTS: [&str; 2] = ["state_dict", "model"];

/// All tensors of the dictionary that a pickle describes, or of the one below its key `state_dict` or `model`.
pub(super) fn tensors(
    object: &Machine,
    storages: &HashMap<String, Tensor>,
) -> Result<Vec<(String, Tensor)>, Reason> {
    let mut tensors = Vec::new();
    for (key, value) in dictionary(object)? {
        let name = object.text(*key).ok_or("a key of the dictionary is not a text")?;
        let Some(Node::Tensor { storage, offset, size, stride }) = object.node(*value) else {
            return Err(format!("the entry {name} is not a tensor"));
        };
        let data =
            storages.get(storage.as_str()).ok_or_else(|| format!("the storage of {name} is missing"))?;
        let tensor =
            strided(data, *offset, size, stride).map_err(|reason| format!("tensor {name}: {reason}"))?;
        tensors.push((name.to_owned(), tensor));
    }
    Ok(tensors)
}

fn dictionary(object: &Machine) -> Result<&[(Value, Value)], Reason> {
    let Some(Node::Dict(entries)) = object.result_node() else {
        return Err("the object is not a dictionary".into());
    };
    for nest in NESTS {
        let value = entries.iter().find(|(key, _)| object.text(*key) == Some(nest)).map(|(_, value)| *value);
        if let Some(Node::Dict(inner)) = value.and_then(|value| object.node(value)) {
            return Ok(inner);
        }
    }
    Ok(entries)
}

/// The elements of a tensor in its logical order. EfficientNet's weights were converted from TensorFlow and lie transposed.
fn strided(storage: &Tensor, offset: i64, size: &[i64], stride: &[i64]) -> Result<Tensor, Reason> {
    if size.len() != stride.len() || offset < 0 || size.iter().chain(stride).any(|&n| n < 0) {
        return Err(format!("size {size:?}, stride {stride:?} and offset {offset} do not fit together"));
    }
    let elements = storage.numel() as i64;
    let mut pairs = size.iter().zip(stride);
    let last = pairs.try_fold(offset, |sum, (&n, &step)| sum.checked_add((n - 1).max(0).checked_mul(step)?));
    let last = last.ok_or("its extent overflows")?;
    let numel =
        size.iter().try_fold(1_i64, |product, &n| product.checked_mul(n)).ok_or("its size overflows")?;
    if numel > elements || (numel > 0 && last >= elements) {
        return Err(format!("it reaches beyond the {elements} elements of its storage"));
    }
    // Always a copy: two tensors may be views of one storage.
    storage.f_as_strided_copy(size, stride, offset).map_err(text)
}

/// The elements of a storage, in one dimension.
pub(super) fn storage(bytes: &[u8], kind: Kind) -> Result<Tensor, Reason> {
    let elements = (bytes.len() / kind.elt_size_in_bytes()) as i64;
    Tensor::f_from_data_size(bytes, &[elements], kind).map_err(text)
}

pub(super) fn text(error: impl ToString) -> Reason {
    error.to_string()
}
