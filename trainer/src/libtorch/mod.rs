//! Operations that tch lacks, in C++ against libtorch's headers: `kernels` has operations with gradients of their own, `gpu` has streams
//! and determinism, `call` turns C++ exceptions into errors.

mod call;
mod gpu;
mod kernels;

pub use gpu::{PendingValue, finish_stream, make_deterministic, own_stream, receive};
pub use kernels::{depthwise, fold, relu6};
