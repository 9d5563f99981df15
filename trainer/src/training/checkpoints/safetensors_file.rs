//! Tensors as a safetensors file, and back.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::model::NamedTensor;

/// Reads one text from the metadata of a safetensors file.
///
/// # Errors
/// One line for any other file.
pub(crate) fn metadata(bytes: &[u8], key: &str) -> Result<Option<String>, String> {
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| format!("no safetensors file: {error}"))?;
    Ok(metadata.metadata().as_ref().and_then(|map| map.get(key)).cloned())
}

/// Writes named tensors as a safetensors file, sorted by name, so that equal content gives equal bytes.
///
/// # Errors
/// One line, when a tensor has an unsupported kind.
pub(crate) fn write_tensors(
    tensors: &HashMap<String, Tensor>,
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, String> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let (dtype, bytes) = bytes_of(tensor)?;
        views.push((
            name.clone(),
            dtype,
            tensor.size().iter().map(|&n| n as usize).collect::<Vec<_>>(),
            bytes,
        ));
    }
    views.sort_by(|a, b| a.0.cmp(&b.0));
    let views: Vec<(&str, TensorView)> = views
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
        })
        .collect::<Result<_, safetensors::SafeTensorError>>()
        .map_err(|error| error.to_string())?;
    safetensors::serialize(views, metadata).map_err(|error| error.to_string())
}

/// Reads all tensors of a safetensors file onto the CPU.
///
/// # Errors
/// One line: the file is damaged, or a tensor has an unsupported kind.
pub(crate) fn read_tensors(bytes: &[u8]) -> Result<HashMap<String, Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("it is damaged: {error}"))?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::I64 => Kind::Int64,
            other => return Err(format!("{name} is of kind {other:?}, which is not read here")),
        };
        let size: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let tensor =
            Tensor::f_from_data_size(view.data(), &size, kind).map_err(|error| format!("{name}: {error}"))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// Copies tensors that were read into a network's own by name; shapes must be equal.
///
/// # Errors
/// One line that names the first tensor that is missing or has another shape.
pub(crate) fn fill(
    own: impl Iterator<Item = NamedTensor>,
    tensors: &mut HashMap<String, Tensor>,
) -> Result<(), String> {
    for NamedTensor { name, mut tensor } in own {
        let value = tensors.remove(&name).ok_or_else(|| format!("it lacks the tensor {name}"))?;
        if value.size() != tensor.size() {
            return Err(format!("tensor {name} is {:?} where {:?} belongs", value.size(), tensor.size()));
        }
        no_grad(|| tensor.f_copy_(&value)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn bytes_of(tensor: &Tensor) -> Result<(Dtype, Vec<u8>), String> {
    let dtype = match tensor.kind() {
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::Int64 => Dtype::I64,
        other => return Err(format!("tensors of kind {other:?} are not written here")),
    };
    let copy = || -> Result<Vec<u8>, TchError> {
        let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0_u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok(bytes)
    };
    Ok((dtype, copy().map_err(|error| error.to_string())?))
}
