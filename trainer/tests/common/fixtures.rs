//! What the integration tests share.
#![expect(
    clippy::unwrap_used,
    reason = "only tests call this, and clippy.toml excuses only functions that are tests themselves"
)]

use std::path::PathBuf;

use sortie_trainer::model::NamedTensor;
use tch::Tensor;

/// The folder that `cargo xtask setup` fills, where `cargo xtask test` and plain `cargo test` find the pretrained weights.
pub fn cache_dir() -> PathBuf {
    let set = std::env::var_os("SORTIE_CACHE").map(PathBuf::from);
    let user = || directories::ProjectDirs::from("", "", "sortie").map(|dirs| dirs.cache_dir().to_owned());
    set.or_else(user).expect("neither SORTIE_CACHE nor a home folder is set")
}

/// The tensors of a file beside the tests.
pub struct Fixture(Vec<(String, Tensor)>);

impl Fixture {
    pub fn read(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        Self(Tensor::read_safetensors(&path).unwrap())
    }

    pub fn get(&self, name: &str) -> &Tensor {
        let found = self.0.iter().find(|(candidate, _)| candidate == name);
        &found.unwrap_or_else(|| panic!("the fixture holds no {name}")).1
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub fn doubles(&self, name: &str) -> Vec<f64> {
        Vec::try_from(self.get(name).flatten(0, -1)).unwrap()
    }
}

/// The largest difference, relative to the largest expected value.
pub fn relative_error(actual: &Tensor, expected: &Tensor) -> f64 {
    let (actual, expected) = (actual.to_kind(tch::Kind::Double), expected.to_kind(tch::Kind::Double));
    (&actual - &expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
}

/// Copies that later updates do not change.
pub fn copies(tensors: &[NamedTensor]) -> Vec<Tensor> {
    tensors.iter().map(|named| named.tensor.detach().copy()).collect()
}
