//! SGD, Adam and AdamW on the flat buffer, with PyTorch's semantics. tch shows no optimiser state, and a checkpoint needs it: hence our
//! own.
//!
//! With g the gradient, w the weights, d the weight decay and r the learning rate:
//! - SGD: `g += d w; b = m b + g` (the first time `b = g`); `w -= r b`.
//! - Adam: `g += d w`, AdamW instead `w -= r d w`; `m = 0.9 m + 0.1 g; v = 0.999 v + 0.001 g^2`;
//!   `w -= r m / (1 - 0.9^t) / (sqrt(v / (1 - 0.999^t)) + 1e-8)` at update t = 1, 2, ...

use sortie_core::finetune::Optimizer as Rule;
use tch::{Kind, TchError, Tensor, no_grad};

use super::Parameters;

const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;

/// How gradients change weights, without any state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The rule.
    pub rule: Rule,
    /// Of SGD.
    pub momentum: f64,
    /// Of every parameter.
    pub weight_decay: f64,
    /// Multiplies the learning rate of the last layer.
    pub head_lr_factor: f64,
}

/// An optimiser and its state.
#[derive(Debug)]
pub struct Optimiser {
    update: Update,
    /// Updates made so far.
    made: u64,
    /// Momentum, or the mean gradient of Adam; none before the first update.
    first: Option<Tensor>,
    /// The mean squared gradient of Adam.
    second: Option<Tensor>,
}

impl Optimiser {
    /// Before its first update.
    pub fn new(update: Update) -> Self {
        Self { update, made: 0, first: None, second: None }
    }

    /// Goes on with the state that [`Optimiser::state`] gave after this many updates.
    pub fn restored(update: Update, made: u64, first: Option<Tensor>, second: Option<Tensor>) -> Self {
        Self { update, made, first, second }
    }

    /// How it changes weights.
    pub fn update(&self) -> Update {
        self.update
    }

    /// Differentiates a scalar loss and updates every parameter at this learning rate.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn step(&mut self, parameters: &Parameters, loss: &Tensor, lr: f64) -> Result<(), TchError> {
        let gradient = parameters.gradient(loss)?;
        no_grad(|| {
            self.made += 1;
            let values = parameters.values();
            match self.update.rule {
                Rule::Sgd => self.sgd(parameters, values, gradient, lr),
                Rule::Adam | Rule::AdamW => self.adam(parameters, values, gradient, lr),
            }
        })
    }

    /// The state as flat buffers in a fixed order, and how many updates were made.
    pub fn state(&self) -> (u64, [Option<&Tensor>; 2]) {
        (self.made, [self.first.as_ref(), self.second.as_ref()])
    }

    fn sgd(&mut self, parameters: &Parameters, values: &Tensor, mut gradient: Tensor, lr: f64) -> Result<(), TchError> {
        let Update { momentum, weight_decay, .. } = self.update;
        if weight_decay != 0.0 {
            add_scaled(&mut gradient, values, weight_decay)?;
        }
        if let Some(buffer) = self.first.take() {
            add_scaled(&mut gradient, &buffer, momentum)?;
        }
        // The gradient's memory is the next momentum.
        self.descend(parameters, values, &gradient, lr)?;
        if momentum != 0.0 {
            self.first = Some(gradient);
        }
        Ok(())
    }

    fn adam(&mut self, parameters: &Parameters, values: &Tensor, mut gradient: Tensor, lr: f64) -> Result<(), TchError> {
        let weight_decay = self.update.weight_decay;
        if weight_decay != 0.0 {
            if self.update.rule == Rule::AdamW {
                let factors = [1.0, self.update.head_lr_factor].map(|factor| 1.0 - lr * factor * weight_decay);
                for (mut group, factor) in parameters.groups(values)?.into_iter().zip(factors) {
                    let _ = group.f_mul_scalar_(factor)?;
                }
            } else {
                add_scaled(&mut gradient, values, weight_decay)?;
            }
        }
        let zeros = || gradient.f_zeros_like();
        let mut first = self.first.take().map_or_else(zeros, Ok)?;
        let mut second = self.second.take().map_or_else(zeros, Ok)?;
        let _ = first.f_lerp_(&gradient, 1.0 - BETAS.0)?;
        let weighted = gradient.f_mul_scalar(1.0 - BETAS.1)?;
        let _ = second.f_mul_scalar_(BETAS.1)?.f_addcmul_(&gradient, &weighted)?;
        let updates = self.made as f64;
        let corrections = (1.0 - BETAS.0.powf(updates), 1.0 - BETAS.1.powf(updates));
        let mut deviation = second.f_sqrt()?.f_div_scalar_(corrections.1.sqrt())?.f_add_scalar_(EPSILON)?;
        let direction = first.f_div(&deviation.f_mul_scalar_(corrections.0)?)?;
        self.descend(parameters, values, &direction, lr)?;
        (self.first, self.second) = (Some(first), Some(second));
        Ok(())
    }

    /// `w -= r * direction`, the last layer with its own rate.
    fn descend(&self, parameters: &Parameters, values: &Tensor, direction: &Tensor, lr: f64) -> Result<(), TchError> {
        let directions = parameters.groups(direction)?;
        for ((mut group, direction), factor) in parameters.groups(values)?.into_iter().zip(directions).zip([1.0, self.update.head_lr_factor]) {
            add_scaled(&mut group, &direction, -(lr * factor))?;
        }
        Ok(())
    }
}

/// `sum += scale * term`, in one pass. tch has no `alpha`, so the scale is a tensor.
fn add_scaled(sum: &mut Tensor, term: &Tensor, scale: f64) -> Result<(), TchError> {
    let scale = Tensor::f_full([1], scale, (Kind::Float, sum.device()))?;
    let _ = sum.f_addcmul_(term, &scale)?;
    Ok(())
}
