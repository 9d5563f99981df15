//! Streams, determinism and memory of a GPU.
#![expect(unsafe_code, reason = "tch does not expose these functions")]

use std::ffi::{c_char, c_void};

use sortie_core::packing::DeviceMemory;
use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::call::returned;

#[repr(C)]
struct PendingValuePointer {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn sortie_deterministic(error: *mut c_char, error_bytes: usize) -> *mut c_void;
    fn sortie_own_stream(index: i64, error: *mut c_char, error_bytes: usize) -> *mut c_void;
    fn sortie_finish_stream(index: i64, error: *mut c_char, error_bytes: usize) -> *mut c_void;
    fn sortie_gpu_memory(index: i64, bytes: *mut u64, error: *mut c_char, error_bytes: usize) -> *mut c_void;
    fn sortie_receive(x: *const C_tensor, error: *mut c_char, error_bytes: usize) -> *mut c_void;
    fn sortie_read(x: *const C_tensor, error: *mut c_char, error_bytes: usize) -> *mut PendingValuePointer;
    fn sortie_value(
        pending: *mut PendingValuePointer,
        value: *mut f64,
        error: *mut c_char,
        error_bytes: usize,
    ) -> *mut c_void;
    fn sortie_drop(pending: *mut PendingValuePointer);
}

/// From now on every operation gives the same bytes each time, or fails and says that it cannot.
///
/// # Errors
/// What libtorch reports.
pub fn make_deterministic() -> Result<(), TchError> {
    // SAFETY: `returned` hands over a buffer and its length; only global settings change.
    returned(|error, bytes| unsafe { sortie_deterministic(error, bytes) }).map(drop)
}

/// Gives the calling thread a stream of its own on a GPU: what it computes there neither waits for other threads' work nor holds it up.
///
/// # Errors
/// What libtorch reports, where there is no such GPU.
pub fn own_stream(gpu: usize) -> Result<(), TchError> {
    // SAFETY: as above; libtorch owns the stream.
    returned(|error, bytes| unsafe { sortie_own_stream(gpu as i64, error, bytes) }).map(drop)
}

/// Waits until everything is done that the calling thread started on a GPU.
///
/// # Errors
/// What the GPU reports.
pub fn finish_stream(gpu: usize) -> Result<(), TchError> {
    // SAFETY: as above.
    returned(|error, bytes| unsafe { sortie_finish_stream(gpu as i64, error, bytes) }).map(drop)
}

/// What this process has used of a GPU's memory, and what is free there.
///
/// # Errors
/// What libtorch reports, where there is no such GPU.
pub fn gpu_memory(gpu: usize) -> Result<DeviceMemory, TchError> {
    let mut bytes = [0_u64; 4];
    // SAFETY: as above; four numbers are written.
    returned(|error, length| unsafe { sortie_gpu_memory(gpu as i64, bytes.as_mut_ptr(), error, length) })?;
    let [peak, held, free, total] = bytes;
    Ok(DeviceMemory { peak, held, free, total })
}

/// Says that the calling thread's stream uses a tensor that was made on another one, so that its memory is not given away too early.
///
/// # Errors
/// What libtorch reports; for tensors that lie on no GPU.
pub fn receive(x: &Tensor) -> Result<(), TchError> {
    // SAFETY: as above; the tensor outlives the call, which keeps no pointer to it.
    returned(|error, bytes| unsafe { sortie_receive(x.as_ptr(), error, bytes) }).map(drop)
}

/// A number on its way from the device to the host. Work that starts in the meantime does not delay it, as it would delay an ordinary
/// read.
#[derive(Debug)]
pub struct PendingValue(*mut PendingValuePointer);

impl PendingValue {
    /// Starts to copy the value of a tensor of one element.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn start(x: &Tensor) -> Result<Self, TchError> {
        // SAFETY: as for `receive`; the pending value holds memory of its own.
        returned(|error, bytes| unsafe { sortie_read(x.as_ptr(), error, bytes) }).map(Self)
    }

    /// Waits for the value.
    ///
    /// # Errors
    /// What the GPU reports.
    pub fn value(self) -> Result<f64, TchError> {
        let mut value = f64::NAN;
        let pointer = std::mem::ManuallyDrop::new(self).0;
        // SAFETY: the pointer is that of `start`, given away here and nowhere else; `value` outlives the call.
        returned(|error, bytes| unsafe { sortie_value(pointer, &raw mut value, error, bytes) })?;
        Ok(value)
    }
}

impl Drop for PendingValue {
    fn drop(&mut self) {
        // SAFETY: the pointer is that of `start`, and `value` was not called.
        unsafe { sortie_drop(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_its_time() {
        let mut x = Tensor::from(1.5_f32);
        let pending = PendingValue::start(&x).unwrap();
        let _ = x.fill_(2.5);
        assert_eq!(pending.value().unwrap(), 1.5);
        drop(PendingValue::start(&x).unwrap());
        assert!(PendingValue::start(&Tensor::from_slice(&[1.0, 2.0])).is_err());
    }

    #[test]
    fn no_gpu_is_an_error() {
        for call in [own_stream, finish_stream] {
            assert!(call(100).is_err());
        }
        assert!(gpu_memory(100).is_err());
        assert!(receive(&Tensor::from(1.0)).is_err());
    }
}
