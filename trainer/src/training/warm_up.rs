//! What libtorch does once per process, done before there is a trial.

use tch::{Device, Kind, Reduction, TchError, Tensor, no_grad};

/// Computes the gradient of a tiny network on the CPU. libtorch's threads are there then, and the operators that trials use have been looked
/// up. Nothing of it stays that a trial's numbers could depend on.
pub fn warm_up() {
    // What does not work here fails in the trial, which says so.
    let _ = gradient();
}

fn gradient() -> Result<(), TchError> {
    let cpu = (Kind::Float, Device::Cpu);
    let inputs = Tensor::f_ones([4, 8], cpu)?;
    let weight = Tensor::f_ones([2, 8], cpu)?.f_set_requires_grad(true)?;
    let labels = Tensor::f_zeros([4], (Kind::Int64, Device::Cpu))?;
    let mixed = inputs.f_mul(&weight.f_narrow(0, 0, 1)?)?;
    let logits = mixed.f_linear(&weight, None::<&Tensor>)?;
    let loss = logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)?;
    let gradient = Tensor::f_run_backward(&[&loss], &[&weight], false, false)?;
    let scored = no_grad(|| logits.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64));
    let _ = (gradient, scored?.f_int64_value(&[])?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_works() {
        super::gradient().unwrap();
    }
}
