//! Calls of the C++ functions, whose exceptions arrive as texts.

use std::ffi::{CStr, c_char};

use tch::TchError;

/// Bytes that a C++ function may write about a failure.
const ERROR_BYTES: usize = 4_096;

/// Calls a function that returns null after a failure and writes the reason into a buffer.
pub(super) fn returned<T>(call: impl FnOnce(*mut c_char, usize) -> *mut T) -> Result<*mut T, TchError> {
    let mut error = vec![0_u8; ERROR_BYTES];
    let pointer = call(error.as_mut_ptr().cast(), error.len());
    if pointer.is_null() {
        let text =
            CStr::from_bytes_until_nul(&error).map_or_else(|_| "unknown".into(), CStr::to_string_lossy);
        return Err(TchError::Torch(text.into_owned()));
    }
    Ok(pointer)
}
