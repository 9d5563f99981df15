//! The tensors of a weights file, by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use crate::error::TrialError;

/// The tensors of a weights file, by name, on the CPU and contiguous.
#[derive(Debug)]
pub struct StateDict {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl StateDict {
    pub(super) fn new(path: &Path, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { path: path.to_path_buf(), tensors }
    }

    /// Takes a tensor of single precision out of the dictionary.
    ///
    /// # Errors
    /// [`TrialError::BadData`] when it is missing or has another shape or kind.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, TrialError> {
        let tensor = self.tensors.remove(name).ok_or_else(|| self.bad(format!("it holds no tensor {name}")))?;
        if tensor.size() != shape || tensor.kind() != Kind::Float {
            let (size, kind) = (tensor.size(), tensor.kind());
            return Err(self.bad(format!("tensor {name} is {kind:?} {size:?} where Float {shape:?} belongs")));
        }
        Ok(tensor)
    }

    /// Checks that nothing is left but names that `known` accepts: a leftover means that this is another network.
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
