//! Two operations with gradients of our own: where libtorch's are slow on a CPU, at the same results.
//!
//! - A depthwise convolution. oneDNN computes the gradient of a kernel wider than 3 ten times as slowly as that of a narrow one, so it is
//!   put together from those of its columns.
//! - ReLU6 in place, without libtorch's copy of what it overwrites.
#![expect(unsafe_code, reason = "tch can neither define an autograd function nor call one that is defined elsewhere")]

use std::ffi::{CStr, c_char};

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

const ERROR_BYTES: usize = 4_096;

unsafe extern "C" {
    fn sortie_depthwise(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        stride: i64,
        padding: *const i64,
        error: *mut c_char,
        error_bytes: usize,
    ) -> *mut C_tensor;
    fn sortie_relu6(x: *const C_tensor, error: *mut c_char, error_bytes: usize) -> *mut C_tensor;
}

/// Filters each channel of `x` [n, c, height, width] by its own kernel [c, 1, k, k], after adding `padding` zeros above, below, left and
/// right.
pub(super) fn depthwise(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: i64, padding: [i64; 4]) -> Result<Tensor, TchError> {
    returned(|error| {
        // SAFETY: the tensors live until the call returns, which keeps no pointer to them; `padding` has the four elements that are
        // read, `error` the bytes that may be written.
        unsafe {
            sortie_depthwise(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), stride, padding.as_ptr(), error.as_mut_ptr().cast(), error.len())
        }
    })
}

/// min(max(x, 0), 6), in place.
pub(super) fn relu6(x: Tensor) -> Result<Tensor, TchError> {
    // SAFETY: as above; taking `x` by value leaves no handle to the overwritten tensor without its new gradient.
    returned(|error| unsafe { sortie_relu6(x.as_ptr(), error.as_mut_ptr().cast(), error.len()) })
}

fn returned(call: impl FnOnce(&mut [u8]) -> *mut C_tensor) -> Result<Tensor, TchError> {
    let mut error = vec![0_u8; ERROR_BYTES];
    let pointer = call(&mut error);
    if pointer.is_null() {
        let text = CStr::from_bytes_until_nul(&error).map_or_else(|_| "unknown".into(), CStr::to_string_lossy);
        return Err(TchError::Torch(text.into_owned()));
    }
    // SAFETY: the call made the tensor with `new`, and nobody else has the pointer; tch deletes it the same way.
    Ok(unsafe { Tensor::from_ptr(pointer) })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn waves(shape: &[i64], phase: f64) -> Tensor {
        let ramp = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        (ramp * 0.7 + phase).sin().to_kind(Kind::Float).view(shape)
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
    }

    #[test]
    fn depthwise_is_libtorchs_convolution() {
        for (kernel, stride, size) in [
            (3, 1, [9, 8]),
            (3, 2, [9, 8]),
            (3, 2, [8, 8]),
            (5, 1, [7, 9]),
            (5, 2, [8, 8]),
            (5, 2, [9, 7]),
            (5, 2, [1, 2]),
            (7, 2, [8, 11]),
        ] {
            let [(top, bottom), (left, right)] = size.map(|size| super::super::convolution::same_padding(size, kernel, stride));
            let x = waves(&[2, 16, size[0], size[1]], 0.1).set_requires_grad(true);
            let (weight, bias) = (waves(&[16, 1, kernel, kernel], 0.2).set_requires_grad(true), waves(&[16], 0.3).set_requires_grad(true));
            let expected = x.constant_pad_nd([left, right, top, bottom]).conv2d(&weight, Some(&bias), stride, 0, 1, 16);
            let actual = depthwise(&x, &weight, &bias, stride, [top, bottom, left, right]).unwrap();
            assert!(distance(&actual, &expected) < 1e-5, "{kernel} {stride} {size:?}");
            let direction = waves(&expected.size(), 0.4);
            let gradients = [expected, actual]
                .map(|output| Tensor::run_backward(&[(output * &direction).sum(Kind::Float)], &[&x, &weight, &bias], false, false));
            for (name, (expected, actual)) in ["input", "kernel", "bias"].into_iter().zip(gradients[0].iter().zip(&gradients[1])) {
                assert_eq!(actual.size(), expected.size());
                assert!(distance(actual, expected) < 1e-5, "{name}: {kernel} {stride} {size:?}");
            }
        }
    }

    #[test]
    fn relu6_is_libtorchs() {
        let x = (waves(&[1_000], 0.1) * 9.0).set_requires_grad(true);
        let gradient = |output: Tensor| Tensor::run_backward(&[(output * waves(&[1_000], 0.5)).sum(Kind::Float)], &[&x], false, false);
        let (expected, actual) = (x.relu6(), relu6(&x * 1.0).unwrap());
        assert_eq!(actual, expected);
        assert_eq!(gradient(actual), gradient(expected));
    }

    #[test]
    fn a_failure_is_a_text() {
        let error = depthwise(&waves(&[1, 4, 5, 5], 0.0), &waves(&[3, 1, 3, 3], 0.0), &waves(&[3], 0.0), 1, [1; 4]).unwrap_err();
        assert!(error.to_string().contains("channels"), "{error}");
    }
}
