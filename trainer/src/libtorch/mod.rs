//! What tch lacks of libtorch, in C++ against its headers: `kernels` are operations with gradients of our own, `gpu` is about streams and
//! determinism.

mod cuda;
mod gpu;
mod kernels;
mod version;

use std::ffi::{CStr, c_char};

use tch::TchError;

pub use cuda::{cuda_driver, cuda_libraries, gpu_name, load_cuda_libraries};
pub use gpu::{Reading, finish_stream, make_deterministic, own_stream, receive};
pub use kernels::{depthwise, fold, relu6};
pub use version::{loaded_build, loaded_folder, loaded_release};

const ERROR_BYTES: usize = 4_096;

/// Calls a function that returns null where it failed, and then has written why.
fn returned<T>(call: impl FnOnce(*mut c_char, usize) -> *mut T) -> Result<*mut T, TchError> {
    let mut error = vec![0_u8; ERROR_BYTES];
    let pointer = call(error.as_mut_ptr().cast(), error.len());
    if pointer.is_null() {
        let text =
            CStr::from_bytes_until_nul(&error).map_or_else(|_| "unknown".into(), CStr::to_string_lossy);
        return Err(TchError::Torch(text.into_owned()));
    }
    Ok(pointer)
}
