//! All trained tensors in one flat buffer.
//!
//! A network has some hundred small tensors; updating them one by one costs more in kernel launches than in arithmetic. So a
//! single tensor holds all their values, and the network's own tensors are views of it. An update, an average or a checkpoint is one
//! operation on the whole buffer. Each view begins at a multiple of 64 bytes, for aligned vector instructions.

use tch::{Kind, TchError, Tensor, no_grad};

use crate::model::NamedTensor;

/// Elements of single precision in 64 bytes.
const ALIGNMENT: i64 = 16;

/// The trained tensors of a network: those of the backbone, then those of the last layer.
pub struct Parameters {
    values: Tensor,
    slots: Vec<Slot>,
    /// Where the last layer begins.
    head: i64,
    /// Zeros that stand for the gaps between gradients.
    gap: Tensor,
}

struct Slot {
    name: String,
    /// Shares its memory with the network's tensor; a leaf of the graph.
    tensor: Tensor,
    size: Vec<i64>,
    stride: Vec<i64>,
    offset: i64,
    numel: i64,
}

impl Parameters {
    /// Moves the tensors into a flat buffer. They stay what the network computes with, with the memory layout that they had.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn gather(backbone: Vec<NamedTensor>, head: Vec<NamedTensor>) -> Result<Self, TchError> {
        let first_of_head = backbone.len();
        let (mut slots, mut offset, mut head_offset) = (Vec::new(), 0, 0);
        for (index, NamedTensor { name, tensor }) in backbone.into_iter().chain(head).enumerate() {
            if index == first_of_head {
                head_offset = offset;
            }
            let (size, stride, numel) = (tensor.size(), tensor.stride(), tensor.numel() as i64);
            slots.push(Slot { name, tensor, size, stride, offset, numel });
            offset += padded(numel);
        }
        let device = slots.first().map_or(tch::Device::Cpu, |slot| slot.tensor.device());
        let values = Tensor::f_zeros([offset], (Kind::Float, device))?;
        no_grad(|| {
            for slot in &mut slots {
                let mut view = slot.view(&values)?;
                view.f_copy_(&slot.tensor)?;
                slot.tensor.f_set_data(&view)?;
            }
            Ok::<_, TchError>(())
        })?;
        let gap = Tensor::f_zeros([ALIGNMENT], (Kind::Float, device))?;
        Ok(Self { values, slots, head: head_offset, gap })
    }

    /// The flat buffer.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The backbone's part of a flat buffer and the last layer's, as views.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn groups(&self, flat: &Tensor) -> Result<[Tensor; 2], TchError> {
        let total = flat.size1()?;
        Ok([flat.f_narrow(0, 0, self.head)?, flat.f_narrow(0, self.head, total - self.head)?])
    }

    /// The gradient of a scalar loss, as a flat buffer.
    ///
    /// # Errors
    /// What libtorch reports, out of memory above all.
    pub fn gradient(&self, loss: &Tensor) -> Result<Tensor, TchError> {
        let leaves: Vec<&Tensor> = self.slots.iter().map(|slot| &slot.tensor).collect();
        let gradients = Tensor::f_run_backward(&[loss], &leaves, false, false)?;
        no_grad(|| {
            let mut parts = Vec::with_capacity(2 * gradients.len());
            for (slot, gradient) in self.slots.iter().zip(gradients) {
                // In the parameter's own order of memory, whatever order the gradient has.
                let gradient = if gradient.stride() == slot.stride {
                    gradient
                } else {
                    let mut ordered = Tensor::f_empty_strided(
                        slot.size.as_slice(),
                        slot.stride.as_slice(),
                        (Kind::Float, gradient.device()),
                    )?;
                    ordered.f_copy_(&gradient)?;
                    ordered
                };
                parts.push(gradient.f_as_strided([slot.numel], [1], None)?);
                let gap = padded(slot.numel) - slot.numel;
                if gap > 0 {
                    parts.push(self.gap.f_narrow(0, 0, gap)?);
                }
            }
            Tensor::f_cat(&parts, 0)
        })
    }

    /// Computes something with the network's tensors set to other values, another flat buffer, without copying any.
    ///
    /// # Errors
    /// What `compute` or libtorch reports; the tensors have their own values again in any case.
    pub fn with_values<T, E: From<TchError>>(
        &mut self,
        values: &Tensor,
        compute: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.point_at(values)?;
        let result = compute();
        let own = self.values.shallow_clone();
        self.point_at(&own)?;
        result
    }

    fn point_at(&mut self, values: &Tensor) -> Result<(), TchError> {
        no_grad(|| {
            self.slots
                .iter_mut()
                .try_for_each(|slot| slot.view(values).and_then(|view| slot.tensor.f_set_data(&view)))
        })
    }

    /// The tensors of a flat buffer by name, as views.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn named(&self, flat: &Tensor) -> Result<Vec<NamedTensor>, TchError> {
        self.slots
            .iter()
            .map(|slot| Ok(NamedTensor { name: slot.name.clone(), tensor: slot.view(flat)? }))
            .collect()
    }

    /// The layout as text. Two buffers with equal descriptions hold the same tensors at the same offsets.
    pub fn description(&self) -> String {
        let lines = self
            .slots
            .iter()
            .map(|Slot { name, size, stride, offset, .. }| format!("{name} {size:?} {stride:?} {offset}\n"));
        lines.collect()
    }
}

impl Slot {
    fn view(&self, flat: &Tensor) -> Result<Tensor, TchError> {
        flat.f_as_strided(self.size.as_slice(), self.stride.as_slice(), self.offset)
    }
}

fn padded(numel: i64) -> i64 {
    (numel + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}
