//! Decides which images and masks are in each batch, and makes the batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_core::finetune::{FinetuneSpec, OutTransform};
use sortie_core::metrics::SplitName;
use sortie_core::random::{Purpose, stream};
use sortie_core::split::Split;
use tch::Tensor;

use super::super::evaluation::EvalSplit;
use super::super::network::dropout_mask;
use super::{Augmentation, Normaliser, Sample, draw_batch};
use crate::error::TrialError;
use sortie_data::{BilinearResizer, Images, Resized, SharedArray};

/// Images per evaluation batch, as in the reference code; the last one of a split may be smaller, no image is dropped.
pub(crate) const EVALUATION_BATCH: usize = 128;

/// Evaluation batches of features are kept up to this size in all.
const KEPT_BYTES_MAX: usize = 256 << 20;

/// A batch of network inputs.
pub(crate) struct Batch {
    /// [n, 3, side, side], or [n, features] where features are computed once for the whole trial.
    pub(crate) inputs: Tensor,
    /// [n], classes as integers, on the device.
    pub(crate) labels: Tensor,
    /// The dropout mask of a training step, [n, width]; none at rate 0 and in evaluation.
    pub(crate) mask: Option<Tensor>,
}

impl Batch {
    /// The same tensors, which nobody changes.
    fn share(&self) -> Self {
        let Self { inputs, labels, mask } = self;
        let mask = mask.as_ref().map(Tensor::shallow_clone);
        Self { inputs: inputs.shallow_clone(), labels: labels.shallow_clone(), mask }
    }
}

/// Names a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BatchRequest {
    /// The training batch of a step.
    Train { step: u64 },
    /// The images of a split from one position to another, at the evaluation after a step.
    Evaluate { step: u64, eval_split: EvalSplit, from: usize, to: usize },
}

/// Images or features, and how batches are made of them.
pub(crate) struct BatchSource {
    pub(crate) spec: FinetuneSpec,
    pub(crate) images: Images,
    /// All images under the evaluation transform.
    pub(crate) resized: Option<Resized>,
    pub(crate) splits: Vec<Split>,
    pub(crate) normaliser: Normaliser,
    /// Length of the representation that dropout acts on.
    pub(crate) width: i64,
    /// Features of all images, computed once, instead of the images.
    pub(crate) features: Option<SharedArray>,
}

/// Makes batches. Those of features that are evaluated are the same every time, so they are made once.
#[derive(Default)]
pub(super) struct BatchMaker {
    kept: BTreeMap<(EvalSplit, usize), Batch>,
    kept_bytes: usize,
}

impl BatchMaker {
    pub(super) fn make(&mut self, source: &BatchSource, request: BatchRequest) -> Result<Batch, TrialError> {
        let (BatchRequest::Evaluate { eval_split, from, .. }, Some(_)) = (request, &source.features) else {
            return source.make(request);
        };
        if let Some(batch) = self.kept.get(&(eval_split, from)) {
            return Ok(batch.share());
        }
        let batch = source.make(request)?;
        let bytes = batch.inputs.numel() * size_of::<f32>();
        if self.kept_bytes + bytes <= KEPT_BYTES_MAX {
            self.kept_bytes += bytes;
            self.kept.insert((eval_split, from), batch.share());
        }
        Ok(batch)
    }
}

impl BatchSource {
    /// What is evaluated: `out` of the training domains, then `in` and `out` of the held-out ones. Training domains' `in` is not, as in
    /// the reference.
    pub(crate) fn eval_splits(&self) -> Vec<EvalSplit> {
        let domains = &self.spec.settings.dataset.domains;
        let training =
            self.spec.training_domains().map(|(domain, _)| EvalSplit { domain, split: SplitName::Out });
        let held_out = domains.iter().enumerate().filter(|(_, name)| self.spec.is_held_out(name));
        training
            .chain(held_out.flat_map(|(domain, _)| {
                [SplitName::In, SplitName::Out].map(|split| EvalSplit { domain, split })
            }))
            .collect()
    }

    /// The images of a split, in the order of their logits.
    pub(crate) fn indices(&self, EvalSplit { domain, split }: EvalSplit) -> &[usize] {
        match split {
            SplitName::In => &self.splits[domain].in_,
            SplitName::Out => &self.splits[domain].out,
        }
    }

    /// The batches of the rest of a trial, in order.
    pub(crate) fn requests(
        self: &Arc<Self>,
        first: u64,
        evaluate_before: Option<u64>,
    ) -> impl Iterator<Item = BatchRequest> + Send + use<> {
        let source = Arc::clone(self);
        let last = source.spec.settings.steps;
        let pending = evaluate_before.map(|step| source.evaluation(step)).unwrap_or_default();
        let steps = (first..=last).flat_map(move |step| {
            let evaluation =
                if source.spec.is_evaluation_step(step) { source.evaluation(step) } else { Vec::new() };
            std::iter::once(BatchRequest::Train { step }).chain(evaluation)
        });
        pending.into_iter().chain(steps)
    }

    /// The batches of the evaluation after a step.
    pub(crate) fn evaluation(&self, step: u64) -> Vec<BatchRequest> {
        let mut requests = Vec::new();
        for eval_split in self.eval_splits() {
            let n = self.indices(eval_split).len();
            requests.extend((0..n).step_by(EVALUATION_BATCH).map(|from| {
                let to = n.min(from + EVALUATION_BATCH);
                BatchRequest::Evaluate { step, eval_split, from, to }
            }));
        }
        requests
    }

    fn make(&self, request: BatchRequest) -> Result<Batch, TrialError> {
        match request {
            BatchRequest::Train { step } => self.training_batch(step),
            BatchRequest::Evaluate { step, eval_split, from, to } => {
                let settings = &self.spec.settings;
                let is_held_out = self.spec.is_held_out(&settings.dataset.domains[eval_split.domain]);
                let augment =
                    settings.augment && settings.out_transform == OutTransform::Train && !is_held_out;
                let indices = &self.indices(eval_split)[from..to];
                let chosen: Vec<_> = indices
                    .iter()
                    .zip(from..)
                    .map(|(&index, position)| ChosenImage { domain: eval_split.domain, index, position })
                    .collect();
                self.batch(&chosen, augment.then_some((Purpose::EvaluationAugmentation, step)), None)
            }
        }
    }

    /// The batch that a step draws from every training domain, with the step's dropout mask.
    fn training_batch(&self, step: u64) -> Result<Batch, TrialError> {
        let Self { spec, .. } = self;
        let (seed, settings) = (spec.point.seed, &spec.settings);
        let mut chosen = Vec::new();
        for (domain, _) in spec.training_domains() {
            let drawn = draw_batch(seed, domain, step, &self.splits[domain].in_, settings.batch_per_domain);
            chosen.extend(drawn.into_iter().enumerate().map(|(position, index)| ChosenImage {
                domain,
                index,
                position,
            }));
        }
        let shape = [chosen.len() as i64, self.width];
        let mask = match dropout_mask(seed, step, spec.point.dropout, (shape[0] * shape[1]) as usize) {
            Some(mask) => {
                Some(Tensor::f_from_slice(&mask)?.f_view(shape)?.f_to_device(self.normaliser.device)?)
            }
            None => None,
        };
        self.batch(&chosen, settings.augment.then_some((Purpose::Augmentation, step)), mask)
    }

    /// A batch of images under the random transform of a purpose and a step, or under the evaluation transform.
    fn batch(
        &self,
        chosen: &[ChosenImage],
        random: Option<(Purpose, u64)>,
        mask: Option<Tensor>,
    ) -> Result<Batch, TrialError> {
        let labels: Vec<i64> =
            chosen.iter().map(|choice| self.images.label(choice.domain, choice.index) as i64).collect();
        let labels = Tensor::f_from_slice(&labels)?.f_to_device(self.normaliser.device)?;
        let inputs = match (&self.features, random) {
            (Some(features), _) => rows(features, chosen)?.f_to_device(self.normaliser.device)?,
            (None, Some((purpose, step))) => self.augmented_inputs(chosen, purpose, step)?,
            (None, None) => {
                let images: Vec<_> = chosen.iter().map(|choice| (choice.domain, choice.index)).collect();
                self.plain_inputs(&images)?
            }
        };
        Ok(Batch { inputs, labels, mask })
    }

    fn augmented_inputs(
        &self,
        chosen: &[ChosenImage],
        purpose: Purpose,
        step: u64,
    ) -> Result<Tensor, TrialError> {
        let mut samples = Vec::with_capacity(chosen.len());
        for &ChosenImage { domain, index, position } in chosen {
            let image = self.images.pixels(domain, index)?;
            let mut rng = stream(self.spec.point.seed, purpose, domain as u32, step, position as u64);
            let augmentation = Augmentation::draw(&mut rng, image.height, image.width);
            samples.push(Sample { image, augmentation });
        }
        Ok(self.normaliser.input(&samples)?)
    }

    /// The network inputs of images as the evaluation transform shows them.
    pub(crate) fn plain_inputs(&self, chosen: &[(usize, usize)]) -> Result<Tensor, TrialError> {
        let pixels = self.spec.settings.pixels;
        let mut bytes = Vec::with_capacity(chosen.len() * (pixels * pixels * 3) as usize);
        let mut resizer = BilinearResizer::default();
        for &(domain, index) in chosen {
            match &self.resized {
                Some(resized) => bytes.extend_from_slice(resized.get(domain, index)?),
                None => {
                    bytes.extend_from_slice(&resize_image(&mut resizer, &self.images, domain, index, pixels)?)
                }
            }
        }
        Ok(self.normaliser.plain_input(&bytes)?)
    }
}

/// An image under the evaluation transform: the whole of it, as Pillow would resize it, [pixels, pixels, 3].
pub(crate) fn resize_image(
    resizer: &mut BilinearResizer,
    images: &Images,
    domain: usize,
    index: usize,
    pixels: u32,
) -> Result<Box<[u8]>, TrialError> {
    let resized = resizer.resize(images.pixels(domain, index)?, pixels as usize, pixels as usize);
    Ok(resized.map_err(TrialError::Other)?.pixels)
}

/// An image of a batch.
#[derive(Clone, Copy)]
struct ChosenImage {
    domain: usize,
    index: usize,
    /// Its position among the images of its domain in the batch, or in the split. Its random transform is drawn from this counter.
    position: usize,
}

fn rows(features: &SharedArray, chosen: &[ChosenImage]) -> Result<Tensor, TrialError> {
    let rows = chosen.iter().map(|choice| features.get(choice.domain, choice.index));
    let rows: Vec<&[f32]> = rows.collect::<Result<_, _>>()?;
    Ok(Tensor::f_from_slice(&rows.concat())?.f_view([chosen.len() as i64, -1])?)
}
