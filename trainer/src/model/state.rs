//! The tensors of a weights file, by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use crate::error::TrialError;

/// Bytes of a weights file at most: more than any supported network has.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 30;

/// The tensors of a weights file, by name, on the CPU, contiguous, floating-point tensors in single precision.
#[derive(Debug)]
pub struct StateDict {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl StateDict {
    /// The tensors as a network needs them: floating-point tensors of any other width become single precision.
    ///
    /// # Errors
    /// [`TrialError::BadData`] naming the file when two have one name.
    pub fn new(path: &Path, tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self, TrialError> {
        let mut state = Self { path: path.to_path_buf(), tensors: BTreeMap::new() };
        for (name, tensor) in tensors {
            let tensor = match tensor.kind() {
                Kind::Half | Kind::BFloat16 | Kind::Double => tensor.f_to_kind(Kind::Float)?,
                _ => tensor,
            };
            if state.tensors.insert(name.clone(), tensor).is_some() {
                return Err(state.bad(format!("the tensor {name} is there twice")));
            }
        }
        Ok(state)
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

    /// Gives tensors other names: pairs of the old and the new one.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when two come to have one name.
    pub(super) fn renamed<'a>(
        mut self,
        names: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, TrialError> {
        let mut old = std::mem::take(&mut self.tensors);
        for (from, to) in names {
            if let Some(tensor) = old.remove(from)
                && self.tensors.insert(to.to_owned(), tensor).is_some()
            {
                return Err(self.bad(format!("the tensor {to} is there twice")));
            }
        }
        for (name, tensor) in old {
            self.tensors.entry(name).or_insert(tensor);
        }
        Ok(self)
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
    fn other_widths_are_made_uniform() {
        let tensor = Tensor::from_slice(&[1.5_f32, -2.0]);
        let plain = state(&[("a.weight", tensor.shallow_clone())]).unwrap();
        for kind in [Kind::Half, Kind::BFloat16, Kind::Double] {
            let mut other = state(&[("a.weight", tensor.to_kind(kind))]).unwrap();
            assert_eq!(other.digest().unwrap(), plain.digest().unwrap());
            assert_eq!(other.take("a.weight", &[2]).unwrap(), tensor);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let tensor = Tensor::from_slice(&[1.5_f32, -2.0]);
        let text = |error: TrialError| error.to_string();
        let twice = state(&[("a", tensor.shallow_clone()), ("a", tensor.shallow_clone())]);
        assert_eq!(text(twice.unwrap_err()), "w.pth: the tensor a is there twice");
        let two = state(&[("a", tensor.shallow_clone()), ("b", tensor.shallow_clone())]).unwrap();
        let twice = two.renamed([("a", "c"), ("b", "c")].into_iter());
        assert_eq!(text(twice.unwrap_err()), "w.pth: the tensor c is there twice");
        let mut one = state(&[("x", tensor)]).unwrap().renamed([("x", "a")].into_iter()).unwrap();
        assert_eq!(text(one.take("b", &[3]).unwrap_err()), "w.pth: it holds no tensor b, a Float [3]");
        assert_eq!(
            text(one.take("a", &[3]).unwrap_err()),
            "w.pth: tensor a is Float [2] where Float [3] belongs"
        );
    }
}
