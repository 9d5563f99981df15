//! Operations that tch lacks, in C++ against libtorch's headers: `kernels` has operations with gradients of their own, `tf32` keeps some
//! products in single precision, `gpu` has streams, determinism and memory, `call` turns C++ exceptions into errors; `cuda` loads the CUDA libraries
//! and asks the driver, `version` says which libtorch is loaded, `exit` ends the process without its destructors.

mod call;
mod cuda;
mod exit;
mod gpu;
mod kernels;
mod tf32;
mod version;

pub use cuda::{cuda_driver, cuda_libraries, gpu_name, load_cuda_libraries};
pub use exit::end_process;
pub use gpu::{PendingValue, finish_stream, gpu_memory, make_deterministic, own_stream, receive};
pub use kernels::{depthwise, fold, relu6};
pub use tf32::{WithoutTf32, exact_linear};
pub use version::{loaded_build, loaded_folder, loaded_release};
