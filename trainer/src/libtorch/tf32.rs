//! Products that stay in single precision where `precision = "tf32"` lets a GPU round others: the last layer and the transforms of images.
//!
//! Whether cuBLAS may round is a setting of the process, and threads that make batches run beside those that train. libtorch has a guard for
//! one thread, which is what these use.
#![expect(unsafe_code, reason = "tch has no interface to libtorch's guard")]

use std::ffi::c_char;
use std::marker::PhantomData;

use tch::{Device, TchError, Tensor};
use torch_sys::C_tensor;

use super::call::returned;

#[repr(C)]
struct Guard {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn sortie_exact_linear(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        error: *mut c_char,
        error_bytes: usize,
    ) -> *mut C_tensor;
    fn sortie_without_tf32(error: *mut c_char, error_bytes: usize) -> *mut Guard;
    fn sortie_with_tf32_again(guard: *mut Guard);
    #[cfg(test)]
    fn sortie_tf32_is_off() -> i32;
}

/// While it lives, no product that its thread starts is rounded to TF32.
#[derive(Debug)]
pub struct WithoutTf32 {
    guard: *mut Guard,
    /// It must end on the thread on which it began.
    _thread: PhantomData<*const ()>,
}

impl WithoutTf32 {
    /// Begins on the calling thread.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn begin() -> Result<Self, TchError> {
        // SAFETY: `returned` hands over a buffer and its length; the guard is a flag of this thread.
        let guard = returned(|error, bytes| unsafe { sortie_without_tf32(error, bytes) })?;
        Ok(Self { guard, _thread: PhantomData })
    }
}

impl Drop for WithoutTf32 {
    fn drop(&mut self) {
        // SAFETY: the pointer is that of `begin`, given back once, on the same thread.
        unsafe { sortie_with_tf32_again(self.guard) }
    }
}

/// `x * weight^T + bias` of x [n, inputs], weight [outputs, inputs] and bias [outputs], and its gradients, never rounded to TF32.
///
/// # Errors
/// What libtorch reports, out of memory above all.
pub fn exact_linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
    // A CPU has no TF32, and one operation is quicker there.
    if x.device() == Device::Cpu { x.f_linear(weight, Some(bias)) } else { guarded_linear(x, weight, bias) }
}

fn guarded_linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
    // SAFETY: the tensors live until the call returns, which keeps no pointer to them.
    let result = returned(|error, bytes| unsafe {
        sortie_exact_linear(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), error, bytes)
    })?;
    // SAFETY: the call made the tensor with `new`, and nobody else has the pointer; tch deletes it the same way.
    Ok(unsafe { Tensor::from_ptr(result) })
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    fn is_off() -> bool {
        // SAFETY: it reads a flag of this thread.
        unsafe { sortie_tf32_is_off() == 1 }
    }

    #[test]
    fn the_guard_holds_for_its_thread_and_its_time() {
        assert!(!is_off());
        let outer = WithoutTf32::begin().unwrap();
        drop(WithoutTf32::begin().unwrap());
        assert!(is_off(), "an inner guard ended the outer one");
        assert!(!std::thread::spawn(is_off).join().unwrap(), "it holds for another thread");
        drop(outer);
        assert!(!is_off());
    }

    #[test]
    fn the_guarded_layer_is_libtorchs() {
        let waves = |shape: &[i64], phase: f64| {
            let positions = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
            (positions * 0.7 + phase).sin().to_kind(Kind::Float).view(shape).set_requires_grad(true)
        };
        let (x, weight, bias) = (waves(&[5, 8], 0.1), waves(&[3, 8], 0.2), waves(&[3], 0.3));
        let outputs = [guarded_linear(&x, &weight, &bias).unwrap(), x.linear(&weight, Some(&bias))];
        let direction = waves(&[5, 3], 0.4).detach();
        let [ours, theirs] = outputs.each_ref().map(|output| {
            let loss = (output * &direction).sum(Kind::Float);
            Tensor::run_backward(&[loss], &[&x, &weight, &bias], false, false)
        });
        let distance = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(distance(&outputs[0], &outputs[1]) < 1e-5);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.size(), theirs.size());
            assert!(distance(ours, theirs) < 1e-5);
        }
        // Frozen features need no gradient.
        let frozen = x.detach();
        let loss = guarded_linear(&frozen, &weight, &bias).unwrap().sum(Kind::Float);
        assert_eq!(Tensor::run_backward(&[loss], &[&weight, &bias], false, false).len(), 2);
        assert!(guarded_linear(&x, &bias, &bias).is_err());
    }
}
