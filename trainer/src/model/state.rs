//! The tensors of a weights file, by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use crate::error::TrialError;

/// The tensors of a weights file, by name, on the CPU, contiguous, floating-point tensors in single precision.
#[derive(Debug)]
pub struct StateDict {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl StateDict {
    /// The tensors as a network needs them. A prefix `module.`, which PyTorch's data parallelism adds, is removed from every name.
    /// Floating-point tensors of any other width become single precision.
    ///
    /// # Errors
    /// [`TrialError::BadData`] naming the file when there is no tensor in it, or two come to have one name.
    pub fn new(path: &Path, tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self, TrialError> {
        let mut state = Self { path: path.to_path_buf(), tensors: BTreeMap::new() };
        for (name, tensor) in tensors {
            let tensor = match tensor.kind() {
                Kind::Half | Kind::BFloat16 | Kind::Double => tensor.f_to_kind(Kind::Float)?,
                _ => tensor,
            };
            let name = name.strip_prefix("module.").map_or_else(|| name.clone(), str::to_owned);
            if state.tensors.insert(name.clone(), tensor).is_some() {
                return Err(state.bad(format!("the tensor {name} is there twice")));
            }
        }
        if state.tensors.is_empty() { Err(state.bad("it holds no tensors".into())) } else { Ok(state) }
    }

    /// Takes a tensor of single precision out of the dictionary.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when it is missing or has another shape or kind.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, TrialError> {
        let tensor = self
            .tensors
            .remove(name)
            .ok_or_else(|| self.bad(format!("it holds no tensor {name}, a Float {shape:?}")))?;
        if tensor.size() != shape || tensor.kind() != Kind::Float {
            let (size, kind) = (tensor.size(), tensor.kind());
            return Err(self.bad(format!("tensor {name} is {kind:?} {size:?} where Float {shape:?} belongs")));
        }
        Ok(tensor)
    }

    /// Takes the last layer `[classes, width]` with its bias out of the dictionary, where there is one of this name and width.
    pub fn take_classifier(&mut self, module: &str, width: i64) -> Option<(Tensor, Tensor)> {
        let weight = self.tensors.get(&format!("{module}.weight"))?;
        let &[classes, columns] = weight.size().as_slice() else { return None };
        if columns != width {
            return None;
        }
        let weight = self.take(&format!("{module}.weight"), &[classes, width]).ok()?;
        Some((weight, self.take(&format!("{module}.bias"), &[classes]).ok()?))
    }

    /// Replaces `from` by `to` in every name that contains it.
    pub fn rename(&mut self, from: &str, to: &str) {
        let old = std::mem::take(&mut self.tensors);
        self.tensors = old.into_iter().map(|(name, tensor)| (name.replace(from, to), tensor)).collect();
    }

    /// Checks that only names remain that `known` accepts. Any other tensor means that the file holds another network.
    ///
    /// # Errors
    /// [`TrialError::BadData`] naming the first unexpected tensor.
    pub fn finish(&self, known: impl Fn(&str) -> bool) -> Result<(), TrialError> {
        match self.tensors.keys().find(|name| !known(name)) {
            Some(name) => Err(self.bad(format!("it holds an unexpected tensor {name}"))),
            None => Ok(()),
        }
    }

    /// BLAKE3 over names, kinds, shapes and bytes of all tensors, in hexadecimal digits.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn digest(&self) -> Result<String, TrialError> {
        let mut hasher = blake3::Hasher::new();
        for (name, tensor) in &self.tensors {
            let header = format!("{name} {:?} {:?}\n", tensor.kind(), tensor.size());
            hasher.update(header.as_bytes());
            let mut bytes = vec![0_u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
            hasher.update(&bytes);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    fn bad(&self, reason: String) -> TrialError {
        TrialError::bad_data(&self.path, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(tensors: &[(&str, Tensor)]) -> Result<StateDict, TrialError> {
        StateDict::new(
            Path::new("w.pth"),
            tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())),
        )
    }

    #[test]
    fn prefixes_and_other_widths_are_made_uniform() {
        let tensor = Tensor::from_slice(&[1.5_f32, -2.0]);
        let plain = state(&[("a.weight", tensor.shallow_clone())]).unwrap();
        for kind in [Kind::Half, Kind::BFloat16, Kind::Double] {
            let mut other = state(&[("module.a.weight", tensor.to_kind(kind))]).unwrap();
            assert_eq!(other.digest().unwrap(), plain.digest().unwrap());
            assert_eq!(other.take("a.weight", &[2]).unwrap(), tensor);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let tensor = Tensor::from_slice(&[1.5_f32, -2.0]);
        let text = |error: TrialError| error.to_string();
        assert_eq!(text(state(&[]).unwrap_err()), "w.pth: it holds no tensors");
        let twice = state(&[("a", tensor.shallow_clone()), ("module.a", tensor.shallow_clone())]);
        assert_eq!(text(twice.unwrap_err()), "w.pth: the tensor a is there twice");
        let mut one = state(&[("a", tensor)]).unwrap();
        assert_eq!(text(one.take("b", &[3]).unwrap_err()), "w.pth: it holds no tensor b, a Float [3]");
        assert_eq!(text(one.finish(|_| false).unwrap_err()), "w.pth: it holds an unexpected tensor a");
        assert_eq!(
            text(one.take("a", &[3]).unwrap_err()),
            "w.pth: tensor a is Float [2] where Float [3] belongs"
        );
    }
}
