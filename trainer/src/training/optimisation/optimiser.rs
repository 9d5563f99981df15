//! SGD, Adam and AdamW on the flat buffer, with PyTorch's semantics. tch does not expose the state of its optimisers, and a
//! checkpoint needs it, so these are implementations of our own.
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

    /// Continues with the state that [`Optimiser::state`] gave after this many updates.
    pub fn restored(update: Update, made: u64, first: Option<Tensor>, second: Option<Tensor>) -> Self {
        Self { update, made, first, second }
    }

    /// How it changes weights.
    pub fn update(&self) -> Update {
        self.update
    }

    /// Updates every parameter by the gradient of the loss, a flat buffer, at this learning rate.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn step(&mut self, parameters: &Parameters, gradient: Tensor, lr: f64) -> Result<(), TchError> {
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

    fn sgd(
        &mut self,
        parameters: &Parameters,
        values: &Tensor,
        mut gradient: Tensor,
        lr: f64,
    ) -> Result<(), TchError> {
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

    fn adam(
        &mut self,
        parameters: &Parameters,
        values: &Tensor,
        mut gradient: Tensor,
        lr: f64,
    ) -> Result<(), TchError> {
        let weight_decay = self.update.weight_decay;
        if weight_decay != 0.0 {
            if self.update.rule == Rule::AdamW {
                let factors =
                    [1.0, self.update.head_lr_factor].map(|factor| 1.0 - lr * factor * weight_decay);
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
    fn descend(
        &self,
        parameters: &Parameters,
        values: &Tensor,
        direction: &Tensor,
        lr: f64,
    ) -> Result<(), TchError> {
        let directions = parameters.groups(direction)?;
        for ((mut group, direction), factor) in
            parameters.groups(values)?.into_iter().zip(directions).zip([1.0, self.update.head_lr_factor])
        {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NamedTensor;

    fn leaf(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    /// After 20 updates of `sum(c w^2) + sum(d h^4) + sum(w) sum(h)` at lr 1e-3, ten times that for h, weight decay 0.1: what torch 2.11.0's
    /// SGD (momentum 0.9), Adam and AdamW give.
    const EXPECTED: [(Rule, [f32; 5]); 3] = [
        (Rule::Sgd, [0.725_939_63, -1.161_598_6, 0.162_666_13, 0.586_782_6, 0.122_481_73]),
        (Rule::Adam, [0.979_612_05, -1.980_061_4, 0.479_836_26, 0.445_975_45, -1.305_266]),
        (Rule::AdamW, [0.977_575_96, -1.976_09, 0.478_841_72, 0.440_218_93, -1.278_279_8]),
    ];

    #[test]
    fn updates_are_pytorchs_and_go_on_from_a_saved_state() {
        for (rule, expected) in EXPECTED {
            let (w, h) = (leaf(&[1.0, -2.0, 0.5]), leaf(&[0.25, -1.5]));
            let named = |name: &str, tensor: &Tensor| {
                vec![NamedTensor { name: name.into(), tensor: tensor.shallow_clone() }]
            };
            let parameters = Parameters::gather(named("w", &w), named("h", &h)).unwrap();
            let update = Update { rule, momentum: 0.9, weight_decay: 0.1, head_lr_factor: 10.0 };
            let mut optimiser = Optimiser::new(update);
            let (c, d) = (Tensor::from_slice(&[1.0_f32, 2.0, 3.0]), Tensor::from_slice(&[0.5_f32, 4.0]));
            for step in 0..20 {
                if step == 7 {
                    let (made, [first, second]) = optimiser.state();
                    let copy = |state: Option<&Tensor>| state.map(Tensor::copy);
                    optimiser = Optimiser::restored(update, made, copy(first), copy(second));
                }
                let loss = (&c * &w * &w).sum(Kind::Float)
                    + (&d * h.square().square()).sum(Kind::Float)
                    + w.sum(Kind::Float) * h.sum(Kind::Float);
                let gradient = parameters.gradient(&loss).unwrap();
                optimiser.step(&parameters, gradient, 1e-3).unwrap();
            }
            let found = Vec::<f32>::try_from(Tensor::cat(&[w.detach(), h.detach()], 0)).unwrap();
            let close = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 2e-6);
            assert!(close, "{rule}: {found:?} where {expected:?} belongs");
        }
    }

    #[test]
    fn other_values_are_seen_by_the_network_and_go_away_again() {
        let w = leaf(&[1.0, 2.0]);
        let named = |name: &str, tensor: &Tensor| {
            vec![NamedTensor { name: name.into(), tensor: tensor.shallow_clone() }]
        };
        let mut parameters = Parameters::gather(named("w", &w), Vec::new()).unwrap();
        let doubled = parameters.values() * 2.0;
        let seen: Result<f64, TchError> =
            parameters.with_values(&doubled, || w.sum(Kind::Float).f_double_value(&[]));
        assert_eq!((seen.unwrap(), w.sum(Kind::Float).double_value(&[])), (6.0, 3.0));
        let failed: Result<(), TchError> =
            parameters.with_values(&doubled, || Err(TchError::Shape("no".into())));
        assert!(failed.is_err() && w.sum(Kind::Float).double_value(&[]) == 3.0);
    }
}
