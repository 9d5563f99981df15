//! PyTorch's checkpoint files, read without executing anything: the archive of PyTorch 1.6 and later, and the stream of pickles before it.
//!
//! `pickle` reads values and `state_dict` finds tensors among them; `archive` and `stream` know where the numbers lie. `checkpoint` is all
//! of it for one file.

mod archive;
mod checkpoint;
mod pickle;
mod pickle_input;
mod state_dict;
mod stream;

pub(super) use checkpoint::Checkpoint;
