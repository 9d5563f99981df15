//! Everything that a trial needs before its first step: device, images, splits, network, features, a checkpoint to go on from.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sortie_core::finetune::{Finetune, FinetuneSpec};
use sortie_core::record::Fingerprint;
use tch::Device;

use super::inputs::{EVALUATION_BATCH, Features, Source};
use super::leave::Leaver;
use super::optimiser::Update;
use super::resume::trial_id;
use super::run::{Progress, Trial};
use super::saver::{Place, Saver};
use super::trajectory::Trajectory;
use super::{Network, Normaliser, Optimiser, Parameters, TrialEnvironment, TrialSink};
use crate::data::{DatasetFolder, Images, default_budget_bytes, split_domains};
use crate::error::TrialError;
use crate::model;

impl<'a> Trial<'a> {
    /// Loads everything, tells what the trial runs on, and goes on from a checkpoint if there is one.
    pub(super) fn start(spec: &'a FinetuneSpec, environment: &TrialEnvironment, sink: &mut dyn TrialSink) -> Result<Self, TrialError> {
        let settings = &spec.settings;
        // First of all, for the CUDA libraries must be loaded before any other call of libtorch.
        let device = environment.device.open(&environment.cache_dir)?;
        if let Some(threads) = environment.threads {
            let threads = i32::try_from(threads.max(1)).map_err(|_| TrialError::BadConfig(format!("{threads} threads are too many")))?;
            tch::set_num_threads(threads);
        }
        let images = load_images(spec, environment)?;
        let splits = split_domains(&images, settings.dataset.domains.len(), settings.dataset.split_by, spec.point.split_seed);
        for (split, domain) in splits.iter().zip(&settings.dataset.domains) {
            if split.in_.is_empty() || split.out.is_empty() {
                let folder = environment.data_root.join(&settings.dataset.name).join(domain);
                return Err(TrialError::bad_data(&folder, "the domain has too few images for a split of 80 to 20"));
            }
        }
        let pretrained = model::load(&environment.cache_dir, settings.backbone, device)?;
        let fingerprint = Fingerprint {
            software: concat!("sortie-worker ", env!("CARGO_PKG_VERSION")).to_owned(),
            dataset_digest: images.digest().to_owned(),
            weights_digest: pretrained.weights_digest,
            libtorch: env!("SORTIE_LIBTORCH_VERSION").to_owned(),
            device: environment.device.describe(),
            threads: tch::get_num_threads().max(1).unsigned_abs(),
        };
        let normaliser = Normaliser { device, pixels: i64::from(settings.pixels), normalisation: pretrained.backbone.normalisation() };
        let network = Network::fresh(pretrained.backbone, settings.finetune, spec.point.seed, settings.dataset.classes.len(), device)?;
        let mut source = Source { spec: spec.clone(), images, splits, normaliser, width: network.width(), features: None };
        if settings.finetune == Finetune::Linear && !settings.augment {
            source.features = Some(all_features(&network, &source)?);
        }
        let parameters = Parameters::gather(network.body_parameters(), network.head_parameters())?;
        let (weight_decay, head_lr_factor) = (spec.point.weight_decay, spec.point.head_lr_factor);
        let update = Update { rule: settings.optimizer, momentum: settings.momentum, weight_decay, head_lr_factor };
        sink.started(&fingerprint).map_err(TrialError::Sink)?;

        let artifacts = &environment.artifacts;
        let open = |url: &String| Place::open(url, trial_id(spec), artifacts.token.0);
        let place = artifacts.store.as_ref().map(open).transpose()?;
        let mut trial = Self {
            spec,
            source: Arc::new(source),
            network,
            parameters,
            optimiser: Optimiser::new(update),
            trajectory: Trajectory::default(),
            fingerprint,
            leaver: Leaver {
                saver: Saver::start(artifacts.store.as_ref().map(open).transpose()?, &artifacts.checkpoints)?,
                can_save: place.is_some(),
                keep: artifacts.keep,
                interval_min: artifacts.interval_min,
                last: Instant::now(),
                cost: 0.0,
                kill_at: artifacts.kill_at,
                final_logits: Default::default(),
            },
            stop: Arc::clone(&environment.stop),
            progress: Progress::default(),
        };
        trial.resume(place.as_ref(), &artifacts.checkpoints, sink)?;
        Ok(trial)
    }
}

/// The backbone's outputs for every image of the dataset, as the evaluation transform shows it.
fn all_features(network: &Network, source: &Source) -> Result<Features, TrialError> {
    let (mut values, mut starts, mut rows) = (Vec::new(), Vec::new(), 0);
    for domain in 0..source.splits.len() {
        starts.push(rows);
        let n = source.images.len(domain);
        for from in (0..n).step_by(EVALUATION_BATCH) {
            let inputs = source.plain_inputs(domain, from..n.min(from + EVALUATION_BATCH))?;
            let features = network.block_features(&inputs)?.f_to_device(Device::Cpu)?.f_view([-1])?;
            values.extend(Vec::<f32>::try_from(features)?);
        }
        rows += n;
    }
    let width = values.len() / rows.max(1);
    Ok(Features { values, width, starts })
}

fn load_images(spec: &FinetuneSpec, environment: &TrialEnvironment) -> Result<Images, TrialError> {
    let root: &Path = &environment.data_root;
    let folder = DatasetFolder::scan(root, &spec.settings.dataset)?;
    let budget = environment.image_budget_bytes.unwrap_or_else(default_budget_bytes);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(environment.threads.unwrap_or(0)).build();
    let pool = pool.map_err(|error| TrialError::Other(format!("cannot start threads: {error}")))?;
    pool.install(|| Images::load(folder, budget))
}
