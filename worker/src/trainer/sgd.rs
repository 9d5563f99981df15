//! Stochastic gradient descent with momentum and coupled weight decay, PyTorch's semantics: `g = grad + decay * w; b = m * b + g` (the
//! first time `b = g`); `w = w - lr * b`. tch shows no optimiser state, and a checkpoint needs it: hence our own.

use tch::{TchError, Tensor, no_grad};

use crate::model::NamedTensor;

/// Parameters that share a learning rate.
pub struct Group {
    /// Multiplies the step's learning rate.
    pub lr_factor: f64,
    /// What is updated, in place.
    pub parameters: Vec<NamedTensor>,
}

/// The optimiser and its state.
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    slots: Vec<Slot>,
}

struct Slot {
    name: String,
    parameter: Tensor,
    lr_factor: f64,
    /// None until the first update.
    momentum: Option<Tensor>,
}

impl Sgd {
    /// An optimiser before its first step.
    pub fn new(groups: Vec<Group>, momentum: f64, weight_decay: f64) -> Self {
        let slots = groups.into_iter().flat_map(|group| {
            let lr_factor = group.lr_factor;
            let slot = move |NamedTensor { name, tensor }| Slot { name, parameter: tensor, lr_factor, momentum: None };
            group.parameters.into_iter().map(slot)
        });
        Self { momentum, weight_decay, slots: slots.collect() }
    }

    /// Differentiates a scalar loss and updates every parameter at this learning rate.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn step(&mut self, loss: &Tensor, lr: f64) -> Result<(), TchError> {
        let parameters: Vec<&Tensor> = self.slots.iter().map(|slot| &slot.parameter).collect();
        let gradients = Tensor::f_run_backward(&[loss], &parameters, false, false)?;
        no_grad(|| {
            for (slot, gradient) in self.slots.iter_mut().zip(gradients) {
                slot.update(&gradient, self.momentum, self.weight_decay, lr)?;
            }
            Ok(())
        })
    }

    /// The momentum buffers by parameter name, in update order; none before the first step.
    pub fn state(&self) -> impl Iterator<Item = (&str, Option<&Tensor>)> {
        self.slots.iter().map(|slot| (slot.name.as_str(), slot.momentum.as_ref()))
    }
}

impl Slot {
    fn update(&mut self, gradient: &Tensor, momentum: f64, weight_decay: f64, lr: f64) -> Result<(), TchError> {
        // A new tensor: libtorch may hand out one gradient for two parameters, so it must not be changed in place.
        let gradient = self.parameter.f_mul_scalar(weight_decay)?.f_add_(gradient)?;
        let direction = match self.momentum.take() {
            Some(mut buffer) => buffer.f_mul_scalar_(momentum)?.f_add_(&gradient)?,
            None => gradient,
        };
        let _ = self.parameter.f_sub_(&direction.f_mul_scalar(lr * self.lr_factor)?)?;
        self.momentum = Some(direction);
        Ok(())
    }
}
