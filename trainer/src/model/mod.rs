//! Pretrained networks. A new architecture is one file that implements [`Backbone`] and one line in `load`.
//!
//! `convolution` is the building block of most networks, and `batch_norm_folding` folds its BatchNorm. `source` hands a network its
//! tensors: from a `state` dictionary, or by random initialisation. `weights_file` opens files (`pytorch_file` reads PyTorch's own
//! formats), and `matching` finds the network's tensors among those of a file. `registry` knows where weights come from and `fetch`
//! downloads them.

mod backbone;
mod batch_norm_folding;
mod convolution;
mod efficientnet_lite;
mod fetch;
mod load;
mod matching;
mod mnist_cnn;
mod pytorch_file;
pub mod registry;
mod resnet;
mod source;
mod state;
mod vit;
mod weights_file;

pub use backbone::{ArchitectureInfo, Backbone, NamedTensor, Normalisation, Pass};
#[cfg(test)]
pub(crate) use convolution::same_padding;
pub use fetch::{FetchError, FetchRequest, Fetched, fetch};
pub use load::{LoadRequest, Pretrained, assemble, facts, load, load_random};
pub use source::{Classifier, Source};
pub use state::StateDict;
pub use weights_file::find as find_weights;
#[cfg(feature = "fuzzing")]
pub(crate) use weights_file::read_all;
