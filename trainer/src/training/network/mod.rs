//! The network that is fine-tuned: `finetuned` puts a fresh last layer on a backbone, `dropout` draws and applies masks, `head`
//! initialises the last layer, `block_mixture` is the layer that linear fine-tuning trains below it.

mod block_mixture;
mod dropout;
mod finetuned;
mod head;

pub(super) use block_mixture::BLOCKS;
pub use dropout::dropout_mask;
pub use finetuned::Network;
pub use head::initial_head;
