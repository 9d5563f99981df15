//! PyTorch's checkpoint formats, read without executing anything.
//!
//! Both formats hold a pickle that describes tensors as views of storages. A storage is a flat run of elements beside the pickle. A pickle
//! is a program for a small stack machine that may call any Python function. `machine` knows the opcodes that a dictionary of tensors
//! needs, and only the functions that make an OrderedDict or a tensor. It refuses everything else by name.

pub(super) mod legacy;
mod machine;
mod tensors;
pub(super) mod zipped;
