//! One trial from start to end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sortie_core::finetune::{FinetuneSpec, OutTransform};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::random::{Purpose, stream};
use sortie_core::record::Fingerprint;
use sortie_core::split::Split;
use tch::{Device, Reduction, Tensor};

use super::augment::Augmentation;
use super::evaluate::evaluate;
use super::network::{Network, dropout_mask, initial_head};
use super::sgd::{Group, Sgd};
use super::{Normaliser, Sample, TrialEnvironment, TrialSink, draw_batch};
use crate::data::{DatasetFolder, Images, default_budget_bytes, split_domains};
use crate::error::TrialError;
use crate::model;

/// Runs a trial to its end: `steps + 1` updates, evaluations after the update of each evaluation step, everything told to `sink`.
///
/// The same specification gives the same numbers, byte for byte, wherever the [`Fingerprint`] is the same. It sets the process's
/// libtorch threads, so a process runs one trial at a time.
///
/// # Errors
/// See [`TrialError`]; [`TrialError::Diverged`] ends the trial at the first training loss that is not finite. A panic of a library
/// becomes [`TrialError::Other`], or out of memory where its text says so: none leaves this function.
pub fn run_trial(spec: &FinetuneSpec, environment: &TrialEnvironment, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
    // Nothing that a panic could leave half-changed outlives the trial: state is dropped with it, and the caller ends its process.
    let result = catch_unwind(AssertUnwindSafe(|| Trial::start(spec, environment, sink)?.train(sink)));
    result.unwrap_or_else(|panic| Err(TrialError::from_libtorch_text(panic_text(panic.as_ref()))))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the trial panicked without a message")
}

struct Trial<'a> {
    spec: &'a FinetuneSpec,
    device: Device,
    images: Images,
    splits: Vec<Split>,
    network: Network,
    optimiser: Sgd,
    normaliser: Normaliser,
}

impl<'a> Trial<'a> {
    fn start(spec: &'a FinetuneSpec, environment: &TrialEnvironment, sink: &mut dyn TrialSink) -> Result<Self, TrialError> {
        let settings = &spec.settings;
        // First of all, for the CUDA libraries must be loaded before any other call of libtorch.
        let device = environment.device.open(&environment.cache_dir)?;
        if let Some(threads) = environment.threads {
            let threads = i32::try_from(threads.max(1)).map_err(|_| TrialError::BadConfig(format!("{threads} threads are too many")))?;
            tch::set_num_threads(threads);
        }
        let images = load_images(spec, environment)?;
        let domains = settings.dataset.domains.len();
        let splits = split_domains(&images, domains, settings.dataset.split_by, spec.point.split_seed);
        for (split, domain) in splits.iter().zip(&settings.dataset.domains) {
            if split.in_.is_empty() || split.out.is_empty() {
                let folder = environment.data_root.join(&settings.dataset.name).join(domain);
                return Err(TrialError::bad_data(&folder, "the domain has too few images for a split of 80 to 20"));
            }
        }
        let pretrained = model::load(&model::LoadRequest {
            cache: &environment.cache_dir,
            backbone: settings.backbone,
            weights: &settings.weights,
            seed: spec.point.seed,
            device,
            precision: settings.precision,
        })?;
        let normalisation = pretrained.backbone.normalisation();
        let (weight, bias) = initial_head(spec.point.seed, pretrained.backbone.width(), settings.dataset.classes.len());
        let network = Network::new(pretrained.backbone, &weight, &bias, device)?;
        let groups = vec![
            Group { lr_factor: 1.0, parameters: network.backbone_parameters() },
            Group { lr_factor: spec.point.head_lr_factor, parameters: network.head_parameters() },
        ];
        let optimiser = Sgd::new(groups, settings.momentum, spec.point.weight_decay);
        sink.started(&Fingerprint {
            software: concat!("sortie-worker ", env!("CARGO_PKG_VERSION")).to_owned(),
            dataset_digest: images.digest().to_owned(),
            weights_digest: pretrained.weights_digest,
            libtorch: env!("SORTIE_LIBTORCH_VERSION").to_owned(),
            device: environment.device.describe(),
            threads: tch::get_num_threads().max(1).unsigned_abs(),
        })
        .map_err(TrialError::Sink)?;
        let normaliser = Normaliser { device, pixels: i64::from(settings.pixels), normalisation };
        Ok(Self { spec, device, images, splits, network, optimiser, normaliser })
    }

    fn train(&mut self, sink: &mut dyn TrialSink) -> Result<(), TrialError> {
        for step in 0..=self.spec.settings.steps {
            let loss = self.update(step)?;
            sink.trained(step, loss).map_err(TrialError::Sink)?;
            if self.spec.is_evaluation_step(step) {
                let evaluations = self.evaluate(step)?;
                sink.evaluated(step, &evaluations).map_err(TrialError::Sink)?;
            }
        }
        Ok(())
    }

    /// One update on a batch from every training domain; the batch's mean loss before it.
    fn update(&mut self, step: u64) -> Result<f64, TrialError> {
        let Self { spec, device, .. } = *self;
        let (seed, settings) = (spec.point.seed, &spec.settings);
        let (mut samples, mut labels) = (Vec::new(), Vec::new());
        for (domain, _) in spec.training_domains() {
            let drawn = draw_batch(seed, domain, step, &self.splits[domain].in_, settings.batch_per_domain);
            for (position, index) in drawn.into_iter().enumerate() {
                let counter = (Purpose::Augmentation, step, position as u64);
                let (sample, label) = self.sample(domain, index, settings.augment.then_some(counter))?;
                samples.push(sample);
                labels.push(label);
            }
        }
        let inputs = self.normaliser.input(&samples)?;
        let labels = Tensor::f_from_slice(&labels)?.f_to_device(device)?;
        let shape = [samples.len() as i64, self.network.width()];
        drop(samples);
        let mask = match dropout_mask(seed, step, spec.point.dropout, (shape[0] * shape[1]) as usize) {
            Some(mask) => Some(Tensor::f_from_slice(&mask)?.f_view(shape)?.f_to_device(device)?),
            None => None,
        };
        let logits = self.network.logits(&inputs, mask.as_ref())?;
        let loss = logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            return Err(TrialError::Diverged { step, loss: value });
        }
        self.optimiser.step(&loss, spec.lr_at(step))?;
        Ok(value)
    }

    /// `out` of the training domains, `in` and `out` of the held-out ones. Training domains' `in` is not evaluated, as in the reference.
    fn evaluate(&self, step: u64) -> Result<Vec<Evaluation>, TrialError> {
        let settings = &self.spec.settings;
        let augment_out = settings.augment && settings.out_transform == OutTransform::Train;
        let mut evaluations = Vec::new();
        for (domain, _) in self.spec.training_domains() {
            evaluations.push(self.evaluate_split(step, domain, SplitName::Out, augment_out)?);
        }
        for held_out in &self.spec.point.held_out {
            let domain = settings.dataset.domain_index(held_out);
            let domain =
                domain.ok_or_else(|| TrialError::BadConfig(format!("{held_out:?} is not a domain of {}", settings.dataset.name)))?;
            evaluations.push(self.evaluate_split(step, domain, SplitName::In, false)?);
            evaluations.push(self.evaluate_split(step, domain, SplitName::Out, false)?);
        }
        Ok(evaluations)
    }

    fn evaluate_split(&self, step: u64, domain: usize, split: SplitName, augment: bool) -> Result<Evaluation, TrialError> {
        let indices = match split {
            SplitName::In => &self.splits[domain].in_,
            SplitName::Out => &self.splits[domain].out,
        };
        let counts = evaluate(&self.network, &self.normaliser, indices.len(), |position| {
            let counter = (Purpose::EvaluationAugmentation, step, position as u64);
            self.sample(domain, indices[position], augment.then_some(counter))
        })?;
        let domain = self.spec.settings.dataset.domains[domain].clone();
        let score = Score::Counts { n: counts.n, correct: counts.correct };
        Ok(Evaluation { method: Method::Plain, step, domain, split, score, loss: Some(counts.loss) })
    }

    /// An image with the training transform of its counter, or with the evaluation transform, and its class.
    fn sample(&self, domain: usize, index: usize, counter: Option<(Purpose, u64, u64)>) -> Result<(Sample<'_>, i64), TrialError> {
        let image = self.images.pixels(domain, index)?;
        let (height, width) = (image.height, image.width);
        let augmentation = match counter {
            Some((purpose, step, position)) => {
                let mut rng = stream(self.spec.point.seed, purpose, domain as u32, step, position);
                Augmentation::draw(&mut rng, height, width)
            }
            None => Augmentation::none(height, width),
        };
        Ok((Sample { image, augmentation }, self.images.label(domain, index) as i64))
    }
}

fn load_images(spec: &FinetuneSpec, environment: &TrialEnvironment) -> Result<Images, TrialError> {
    let folder = DatasetFolder::scan(&environment.data_root, &spec.settings.dataset)?;
    let budget = environment.image_budget_bytes.unwrap_or_else(default_budget_bytes);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(environment.threads.unwrap_or(0)).build();
    let pool = pool.map_err(|error| TrialError::Other(format!("cannot start threads: {error}")))?;
    pool.install(|| Images::load(folder, budget))
}
