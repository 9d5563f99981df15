//! Operations with gradients of our own, where libtorch's are slow, at the same results.
//!
//! - A depthwise convolution on a CPU. oneDNN computes the gradient of a kernel wider than 3 ten times as slowly as that of a narrow one,
//!   so it is put together from those of its columns.
//! - ReLU6 in place, without libtorch's copy of what it overwrites.
//! - Folding BatchNorms into convolutions, all of a network's at once: two dozen operations for each would keep a GPU waiting.
#![expect(
    unsafe_code,
    reason = "tch can neither define an autograd function nor call one that is defined elsewhere"
)]

use std::ffi::{c_char, c_void};

use tch::{Kind, TchError, Tensor};
use torch_sys::C_tensor;

use super::call::returned;

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
    fn sortie_fold(
        tensors: *const *const C_tensor,
        n: usize,
        inverse_deviation: *const C_tensor,
        shift: *const C_tensor,
        bf16: i32,
        results: *mut *mut C_tensor,
        error: *mut c_char,
        error_bytes: usize,
    ) -> *mut c_void;
    fn sortie_relu6(x: *const C_tensor, error: *mut c_char, error_bytes: usize) -> *mut C_tensor;
}

/// Filters each channel of `x` [n, c, height, width] by its own kernel [c, 1, k, k], after adding `padding` zeros above, below, left and
/// right.
pub fn depthwise(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: i64,
    padding: [i64; 4],
) -> Result<Tensor, TchError> {
    // SAFETY: the tensors live until the call returns, which keeps no pointer to them; `padding` has the four elements that are read,
    // `error` the bytes that may be written.
    returned(|error, bytes| unsafe {
        sortie_depthwise(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), stride, padding.as_ptr(), error, bytes)
    })
    .map(owned)
}

/// min(max(x, 0), 6), in place.
pub fn relu6(x: Tensor) -> Result<Tensor, TchError> {
    // SAFETY: as above; taking `x` by value leaves no handle to the overwritten tensor without its new gradient.
    returned(|error, bytes| unsafe { sortie_relu6(x.as_ptr(), error, bytes) }).map(owned)
}

/// Kernels and biases of convolutions with BatchNorms folded in: `kernel * gamma * inverse_deviation` and `beta + gamma * shift`, in another
/// number format, single precision or bf16. `inverse_deviation` and `shift` have the channels of all convolutions, one behind the other.
pub fn fold(
    [kernels, gammas, betas]: [&[&Tensor]; 3],
    inverse_deviation: &Tensor,
    shift: &Tensor,
    compute: Kind,
) -> Result<Vec<(Tensor, Tensor)>, TchError> {
    let n = kernels.len();
    if n == 0 || gammas.len() != n || betas.len() != n {
        return Err(TchError::Shape("every convolution needs a kernel, a gamma and a beta".to_owned()));
    }
    let pointers: Vec<_> = [kernels, gammas, betas].concat().into_iter().map(Tensor::as_ptr).collect();
    let mut results = vec![std::ptr::null_mut(); 2 * n];
    let (inverse_deviation, shift) = (inverse_deviation.as_ptr(), shift.as_ptr());
    returned(|error, bytes| {
        // SAFETY: the tensors live until the call returns, which reads 3 n pointers and writes 2 n.
        unsafe {
            sortie_fold(
                pointers.as_ptr(),
                n,
                inverse_deviation,
                shift,
                i32::from(compute == Kind::BFloat16),
                results.as_mut_ptr(),
                error,
                bytes,
            )
        }
    })?;
    let biases = results.split_off(n);
    Ok(results.into_iter().map(owned).zip(biases.into_iter().map(owned)).collect())
}

fn owned(pointer: *mut C_tensor) -> Tensor {
    // SAFETY: the call made the tensor with `new`, and nobody else has the pointer; tch deletes it the same way.
    unsafe { Tensor::from_ptr(pointer) }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn waves(shape: &[i64], phase: f64) -> Tensor {
        let positions = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        (positions * 0.7 + phase).sin().to_kind(Kind::Float).view(shape)
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
            let [(top, bottom), (left, right)] =
                size.map(|size| crate::model::same_padding(size, kernel, stride));
            let x = waves(&[2, 16, size[0], size[1]], 0.1).set_requires_grad(true);
            let (weight, bias) = (
                waves(&[16, 1, kernel, kernel], 0.2).set_requires_grad(true),
                waves(&[16], 0.3).set_requires_grad(true),
            );
            let expected =
                x.constant_pad_nd([left, right, top, bottom]).conv2d(&weight, Some(&bias), stride, 0, 1, 16);
            let actual = depthwise(&x, &weight, &bias, stride, [top, bottom, left, right]).unwrap();
            assert!(distance(&actual, &expected) < 1e-5, "{kernel} {stride} {size:?}");
            let direction = waves(&expected.size(), 0.4);
            let gradients = [expected, actual].map(|output| {
                Tensor::run_backward(
                    &[(output * &direction).sum(Kind::Float)],
                    &[&x, &weight, &bias],
                    false,
                    false,
                )
            });
            for (name, (expected, actual)) in
                ["input", "kernel", "bias"].into_iter().zip(gradients[0].iter().zip(&gradients[1]))
            {
                assert_eq!(actual.size(), expected.size());
                assert!(distance(actual, expected) < 1e-5, "{name}: {kernel} {stride} {size:?}");
            }
        }
    }

    #[test]
    fn folding_is_the_affine_map_behind_a_convolution() {
        let kernels = [waves(&[4, 2, 3, 3], 0.1), waves(&[6, 4, 1, 1], 0.2)]
            .map(|kernel| kernel.set_requires_grad(true));
        let gammas = [waves(&[4], 0.3), waves(&[6], 0.4)].map(|gamma| gamma.set_requires_grad(true));
        let betas = [waves(&[4], 0.5), waves(&[6], 0.6)].map(|beta| beta.set_requires_grad(true));
        let (inverse_deviation, shift) = (waves(&[10], 0.7) + 2.0, waves(&[10], 0.8));
        for compute in [Kind::Float, Kind::BFloat16] {
            let (kernels, gammas, betas) = (kernels.each_ref(), gammas.each_ref(), betas.each_ref());
            let actual = fold([&kernels, &gammas, &betas], &inverse_deviation, &shift, compute).unwrap();
            let expected = (0..2).map(|index| {
                let (from, n) = (4 * index as i64, 4 + 2 * index as i64);
                let scale = gammas[index] * inverse_deviation.narrow(0, from, n);
                let bias = betas[index] + gammas[index] * shift.narrow(0, from, n);
                ((kernels[index] * scale.view([-1, 1, 1, 1])).to_kind(compute), bias.to_kind(compute))
            });
            let losses = [actual, expected.collect()].map(|folded| {
                let term =
                    |x: Tensor, phase| (&x * waves(&x.size(), phase).to_kind(compute)).sum(Kind::Float);
                folded
                    .into_iter()
                    .map(|(kernel, bias)| term(kernel, 0.9) + term(bias, 1.0))
                    .reduce(|a, b| a + b)
                    .unwrap()
            });
            let leaves = [kernels, gammas, betas].concat();
            let [actual, expected] =
                losses.each_ref().map(|loss| Tensor::run_backward(&[loss], &leaves, false, false));
            assert_eq!(losses[0], losses[1]);
            for (actual, expected) in actual.iter().zip(&expected) {
                assert_eq!((actual.size(), actual.stride()), (expected.size(), expected.stride()));
                assert!(distance(actual, expected) < 1e-6, "{compute:?}: {actual:?} {expected:?}");
            }
        }
        assert!(fold([&[], &[], &[]], &inverse_deviation, &shift, Kind::Float).is_err());
    }

    #[test]
    fn relu6_is_libtorchs() {
        let x = (waves(&[1_000], 0.1) * 9.0).set_requires_grad(true);
        let gradient = |output: Tensor| {
            Tensor::run_backward(&[(output * waves(&[1_000], 0.5)).sum(Kind::Float)], &[&x], false, false)
        };
        let (expected, actual) = (x.relu6(), relu6(&x * 1.0).unwrap());
        assert_eq!(actual, expected);
        assert_eq!(gradient(actual), gradient(expected));
    }

    #[test]
    fn a_failure_is_a_text() {
        let error =
            depthwise(&waves(&[1, 4, 5, 5], 0.0), &waves(&[3, 1, 3, 3], 0.0), &waves(&[3], 0.0), 1, [1; 4])
                .unwrap_err();
        assert!(error.to_string().contains("channels"), "{error}");
    }
}
