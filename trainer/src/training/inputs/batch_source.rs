//! What a trial feeds its network, made ahead of time on a thread of its own: the step never waits for data that could have been ready.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use sortie_core::finetune::{FinetuneSpec, OutTransform};
use sortie_core::metrics::SplitName;
use sortie_core::random::{Purpose, stream};
use sortie_core::split::Split;
use tch::{Device, Tensor};

use super::augment::Augmentation;
use super::network::dropout_mask;
use super::stopwatch::now;
use super::trajectory::Part;
use super::{Normaliser, Sample, draw_batch};
use crate::error::TrialError;
use crate::libtorch;
use sortie_data::{BilinearResizer, Images, Resized, SharedArray};

/// Batches that lie ready: one is enough to hide its making, the second evens out what takes longer now and then.
const AHEAD: usize = 2;
/// Images per evaluation batch, as in the reference code; the last one of a split may be smaller, no image is dropped.
pub(super) const EVALUATION_BATCH: usize = 128;

/// A batch of network inputs.
pub(super) struct Batch {
    /// [n, 3, side, side], or [n, features] where they were computed once and for all.
    pub(super) inputs: Tensor,
    /// [n], on the host's side of the network: classes as integers, on the device.
    pub(super) labels: Tensor,
    /// The dropout mask of a training step, [n, width]; none at rate 0 and in evaluation.
    pub(super) mask: Option<Tensor>,
}

/// One batch that the trial will want.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Request {
    /// The training batch of a step.
    Train { step: u64 },
    /// The images of a part from one position to another, at the evaluation after a step.
    Evaluate { step: u64, part: Part, from: usize, to: usize },
}

/// Images or features, and how batches are made of them.
pub(super) struct Source {
    pub(super) spec: FinetuneSpec,
    pub(super) images: Images,
    /// All images under the evaluation transform.
    pub(super) resized: Option<Resized>,
    pub(super) splits: Vec<Split>,
    pub(super) normaliser: Normaliser,
    /// Length of the representation that dropout acts on.
    pub(super) width: i64,
    /// Features of all images, computed once, instead of the images.
    pub(super) features: Option<SharedArray>,
}

impl Source {
    /// What is evaluated: `out` of the training domains, then `in` and `out` of the held-out ones. Training domains' `in` is not, as in
    /// the reference.
    pub(super) fn parts(&self) -> Vec<Part> {
        let domains = &self.spec.settings.dataset.domains;
        let training = self.spec.training_domains().map(|(domain, _)| (domain, SplitName::Out));
        let held_out = domains.iter().enumerate().filter(|(_, name)| self.spec.is_held_out(name));
        training
            .chain(held_out.flat_map(|(domain, _)| [(domain, SplitName::In), (domain, SplitName::Out)]))
            .collect()
    }

    /// The images of a part, in the order in which their logits are kept.
    pub(super) fn indices(&self, (domain, split): Part) -> &[usize] {
        match split {
            SplitName::In => &self.splits[domain].in_,
            SplitName::Out => &self.splits[domain].out,
        }
    }

    /// Everything that the trial will want after this step, in order.
    pub(super) fn requests(
        self: &Arc<Self>,
        first: u64,
        evaluate_before: Option<u64>,
    ) -> impl Iterator<Item = Request> + Send + use<> {
        let source = Arc::clone(self);
        let last = source.spec.settings.steps;
        let pending = evaluate_before.map(|step| source.evaluation(step)).unwrap_or_default();
        let steps = (first..=last).flat_map(move |step| {
            let evaluation =
                if source.spec.is_evaluation_step(step) { source.evaluation(step) } else { Vec::new() };
            std::iter::once(Request::Train { step }).chain(evaluation)
        });
        pending.into_iter().chain(steps)
    }

    /// The batches of the evaluation after a step.
    pub(super) fn evaluation(&self, step: u64) -> Vec<Request> {
        let mut requests = Vec::new();
        for part in self.parts() {
            let n = self.indices(part).len();
            requests.extend((0..n).step_by(EVALUATION_BATCH).map(|from| {
                let to = n.min(from + EVALUATION_BATCH);
                Request::Evaluate { step, part, from, to }
            }));
        }
        requests
    }

    fn make(&self, request: Request) -> Result<Batch, TrialError> {
        match request {
            Request::Train { step } => self.training_batch(step),
            Request::Evaluate { step, part, from, to } => {
                let settings = &self.spec.settings;
                let is_held_out = self.spec.is_held_out(&settings.dataset.domains[part.0]);
                let augment =
                    settings.augment && settings.out_transform == OutTransform::Train && !is_held_out;
                let indices = &self.indices(part)[from..to];
                let chosen: Vec<_> = indices
                    .iter()
                    .zip(from..)
                    .map(|(&index, position)| Choice { domain: part.0, index, position })
                    .collect();
                self.batch(&chosen, augment.then_some((Purpose::EvaluationAugmentation, step)), None)
            }
        }
    }

    /// The images that a step draws from every training domain, and the step's dropout mask.
    fn training_batch(&self, step: u64) -> Result<Batch, TrialError> {
        let Self { spec, .. } = self;
        let (seed, settings) = (spec.point.seed, &spec.settings);
        let mut chosen = Vec::new();
        for (domain, _) in spec.training_domains() {
            let drawn = draw_batch(seed, domain, step, &self.splits[domain].in_, settings.batch_per_domain);
            chosen.extend(drawn.into_iter().enumerate().map(|(position, index)| Choice {
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
        chosen: &[Choice],
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

    fn augmented_inputs(&self, chosen: &[Choice], purpose: Purpose, step: u64) -> Result<Tensor, TrialError> {
        let mut samples = Vec::with_capacity(chosen.len());
        for &Choice { domain, index, position } in chosen {
            let image = self.images.pixels(domain, index);
            let mut rng = stream(self.spec.point.seed, purpose, domain as u32, step, position as u64);
            let augmentation = Augmentation::draw(&mut rng, image.height, image.width);
            samples.push(Sample { image, augmentation });
        }
        Ok(self.normaliser.input(&samples)?)
    }

    /// The network inputs of images as the evaluation transform shows them.
    pub(super) fn plain_inputs(&self, chosen: &[(usize, usize)]) -> Result<Tensor, TrialError> {
        let pixels = self.spec.settings.pixels;
        let mut bytes = Vec::with_capacity(chosen.len() * (pixels * pixels * 3) as usize);
        let mut resizer = BilinearResizer::default();
        for &(domain, index) in chosen {
            match &self.resized {
                Some(resized) => bytes.extend_from_slice(resized.get(domain, index)),
                None => bytes.extend_from_slice(&resize(&mut resizer, &self.images, domain, index, pixels)?),
            }
        }
        Ok(self.normaliser.plain_input(&bytes)?)
    }
}

/// An image under the evaluation transform: the whole of it, as Pillow would resize it, [pixels, pixels, 3].
pub(super) fn resize(
    resizer: &mut BilinearResizer,
    images: &Images,
    domain: usize,
    index: usize,
    pixels: u32,
) -> Result<Box<[u8]>, TrialError> {
    let resized = resizer.resize(images.pixels(domain, index), pixels as usize, pixels as usize);
    Ok(resized.map_err(TrialError::Other)?.pixels)
}

/// An image of a batch.
#[derive(Clone, Copy)]
struct Choice {
    domain: usize,
    index: usize,
    /// Its place in its domain's part of the batch, or in the split: what its random transform is drawn from.
    position: usize,
}

fn rows(features: &SharedArray, chosen: &[Choice]) -> Result<Tensor, TrialError> {
    let rows: Vec<&[f32]> = chosen.iter().map(|choice| features.get(choice.domain, choice.index)).collect();
    Ok(Tensor::f_from_slice(&rows.concat())?.f_view([chosen.len() as i64, -1])?)
}

/// Makes batches ahead of their use.
pub(super) struct Feeder {
    batches: Option<Receiver<Result<(Request, Batch), TrialError>>>,
    thread: Option<JoinHandle<()>>,
    /// How long the trial waited for batches so far.
    pub(super) waited: Duration,
}

impl Feeder {
    /// Starts making these batches, in this order, on as many threads of libtorch's.
    pub(super) fn start(
        source: &Arc<Source>,
        threads: i32,
        requests: impl Iterator<Item = Request> + Send + 'static,
    ) -> Result<Self, TrialError> {
        let (outbox, batches) = sync_channel(AHEAD);
        let source = Arc::clone(source);
        let thread = std::thread::Builder::new().name("sortie-feeder".into()).spawn(move || {
            // For this thread alone: few that compete with those that train.
            tch::set_num_threads(threads);
            let gpu = if let Device::Cuda(index) = source.normaliser.device { Some(index) } else { None };
            if let Some(error) = gpu.and_then(|gpu| libtorch::own_stream(gpu).err()) {
                let _ = outbox.send(Err(error.into()));
                return;
            }
            for request in requests {
                let batch = source.make(request).and_then(|batch| {
                    gpu.map_or(Ok(()), libtorch::finish_stream)?;
                    Ok((request, batch))
                });
                let failed = batch.is_err();
                if outbox.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        let thread = thread.map_err(|error| TrialError::Other(format!("cannot start a thread: {error}")))?;
        Ok(Self { batches: Some(batches), thread: Some(thread), waited: Duration::ZERO })
    }

    /// The next batch, which must be this one.
    ///
    /// # Errors
    /// What its making reported.
    pub(super) fn next(&mut self, wanted: Request) -> Result<Batch, TrialError> {
        let begun = now();
        let batch = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        self.waited += begun.elapsed();
        match batch {
            Some(Ok((request, batch))) if request == wanted => {
                let tensors = [Some(&batch.inputs), Some(&batch.labels), batch.mask.as_ref()];
                tensors
                    .into_iter()
                    .flatten()
                    .filter(|tensor| tensor.device().is_cuda())
                    .try_for_each(libtorch::receive)?;
                Ok(batch)
            }
            Some(Ok((request, _))) => {
                Err(TrialError::Other(format!("batch {request:?} was made where {wanted:?} was due")))
            }
            Some(Err(error)) => Err(error),
            None => Err(TrialError::Other("the thread that makes batches ended".to_owned())),
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        // A thread that waits to hand over a batch sees that nobody wants it.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was answered by the missing batch.
            let _ = thread.join();
        }
    }
}
