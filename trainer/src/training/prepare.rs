//! Loads everything that a trial needs before its first step: device, images, splits, network and features.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sortie_core::finetune::{Finetune, FinetuneSpec, Settings};
use sortie_core::record::Fingerprint;
use sortie_core::split::Split;
use tch::Device;

use super::evaluation::Trajectory;
use super::inputs::{BatchSource, resize_image};
use super::micro_batches::MicroBatches;
use super::network::BLOCKS;
use super::preparation::PreparationReporter;
use super::state::{TrainingProgress, TrialState};
use super::{Network, Normaliser, Optimiser, Parameters, TrialEnvironment, TrialSink, Update};
use crate::error::TrialError;
use crate::libtorch;
use crate::model::{Backbone, LoadRequest, Pretrained};
use sortie_data::{
    BilinearResizer, DatasetFolder, Images, Progress, RESIZED_BYTES_MAX, Resized, SharedArray, split_domains,
};

/// Loads everything, and reports the fingerprint. `load` supplies the pretrained network.
pub(super) fn prepare<'a>(
    load: impl FnOnce(&LoadRequest) -> Result<Pretrained, TrialError>,
    spec: &'a FinetuneSpec,
    environment: &TrialEnvironment,
    sink: &mut dyn TrialSink,
) -> Result<TrialState<'a>, TrialError> {
    let settings = &spec.settings;
    // This comes first, because the CUDA libraries must be loaded before any other call of libtorch.
    let device = environment.device.open()?;
    set_threads(environment.threads)?;
    let images = load_images(spec, environment, &PreparationReporter::new(&mut *sink))?;
    let splits = checked_splits(&images, spec, environment)?;
    let pretrained = load(&LoadRequest {
        cache: &environment.cache_dir,
        backbone: settings.backbone,
        weights: &settings.weights,
        seed: spec.point.seed,
        device,
        precision: settings.precision,
        batch_norm: settings.batch_norm,
    })?;
    let fingerprint = Fingerprint {
        software: concat!("sortie-trainer ", env!("CARGO_PKG_VERSION")).to_owned(),
        dataset_digest: images.digest().to_owned(),
        weights_digest: pretrained.weights_digest,
        libtorch: libtorch::loaded_build(),
        device: environment.device.describe(),
        threads: tch::get_num_threads().max(1).unsigned_abs(),
        ..Fingerprint::default()
    };
    let (network, source) = network_and_batch_source(
        pretrained.backbone,
        images,
        splits,
        spec,
        device,
        &fingerprint,
        &mut *sink,
    )?;
    let parameters = Parameters::gather(network.body_parameters(), network.head_parameters())?;
    let (weight_decay, head_lr_factor) = (spec.point.weight_decay, spec.point.head_lr_factor);
    let update =
        Update { rule: settings.optimizer, momentum: settings.momentum, weight_decay, head_lr_factor };
    sink.started(&fingerprint).map_err(TrialError::Sink)?;
    Ok(TrialState {
        spec,
        source: Arc::new(source),
        network,
        parameters,
        optimiser: Optimiser::new(update),
        micro_batches: MicroBatches::new(settings.micro_batch),
        trajectory: Trajectory::default(),
        fingerprint,
        progress: TrainingProgress::default(),
        final_logits: BTreeMap::new(),
    })
}

/// Sets how many threads libtorch computes with.
fn set_threads(threads: Option<usize>) -> Result<(), TrialError> {
    if let Some(threads) = threads {
        let threads = i32::try_from(threads.max(1))
            .map_err(|_| TrialError::Machine(format!("{threads} threads are too many")))?;
        tch::set_num_threads(threads);
    }
    Ok(())
}

/// The `in`/`out` split of every domain, neither side of which may be empty.
fn checked_splits(
    images: &Images,
    spec: &FinetuneSpec,
    environment: &TrialEnvironment,
) -> Result<Vec<Split>, TrialError> {
    let dataset = &spec.settings.dataset;
    let splits = split_domains(images, dataset.domains.len(), dataset.split_by, spec.point.split_seed);
    for (split, domain) in splits.iter().zip(&dataset.domains) {
        if split.in_.is_empty() || split.out.is_empty() {
            let folder = environment.data_root.join(&dataset.name).join(domain);
            let reason = "the domain has too few images for a split of 80 to 20";
            return Err(TrialError::bad_data(&folder, reason));
        }
    }
    Ok(splits)
}

/// The network with its fresh last layer, and what makes its inputs.
fn network_and_batch_source(
    backbone: Box<dyn Backbone>,
    images: Images,
    splits: Vec<Split>,
    spec: &FinetuneSpec,
    device: Device,
    fingerprint: &Fingerprint,
    sink: &mut dyn TrialSink,
) -> Result<(Network, BatchSource), TrialError> {
    let settings = &spec.settings;
    let pixels = i64::from(settings.pixels);
    let normaliser = Normaliser { device, pixels, normalisation: backbone.normalisation() };
    let network = Network::fresh(backbone, settings, spec.point.seed, device)?;
    let progress = PreparationReporter::new(sink);
    let resized = resized(&images, settings.pixels, &progress)?;
    let (spec, width) = (spec.clone(), network.width());
    let mut source = BatchSource { spec, images, resized, splits, normaliser, width, features: None };
    if settings.finetune == Finetune::Linear && !settings.augment {
        source.features = Some(features(&network, &source, fingerprint, &progress)?);
    }
    Ok((network, source))
}

/// All images under the evaluation transform, shared by the trials of the machine. None for a dataset that is too large.
fn resized(images: &Images, pixels: u32, progress: &dyn Progress) -> Result<Option<Resized>, TrialError> {
    let bytes = images.count() as u64 * u64::from(pixels) * u64::from(pixels) * 3;
    if bytes > RESIZED_BYTES_MAX {
        return Ok(None);
    }
    let mut resizer = BilinearResizer::default();
    let mut begun = false;
    let mut make = |chosen: &[(usize, usize)]| {
        if !std::mem::replace(&mut begun, true) {
            progress.begin("resizing", images.count() as u64);
        }
        let mut bytes = Vec::with_capacity(chosen.len() * (pixels * pixels * 3) as usize);
        for &(domain, index) in chosen {
            bytes.extend_from_slice(&resize_image(&mut resizer, images, domain, index, pixels)?);
        }
        progress.advance(chosen.len() as u64);
        Ok(bytes)
    };
    images.resized(pixels, &mut make).map(Some)
}

/// The backbone's outputs for every image of the dataset under the evaluation transform. The first trial on a machine computes them for
/// all trials there that run on the same device.
fn features(
    network: &Network,
    source: &BatchSource,
    fingerprint: &Fingerprint,
    progress: &dyn Progress,
) -> Result<SharedArray, TrialError> {
    let Fingerprint { libtorch, device, threads, weights_digest, .. } = fingerprint;
    let Settings { backbone, precision, pixels, .. } = source.spec.settings;
    let key = format!(
        "blocks of {backbone} {weights_digest}, {pixels} px, {precision}, libtorch {libtorch}, {device}, {threads} threads"
    );
    let width = BLOCKS * network.width();
    let mut begun = false;
    let mut make = |chosen: &[(usize, usize)]| {
        if !std::mem::replace(&mut begun, true) {
            progress.begin("computing features", source.images.count() as u64);
        }
        let features = network.block_features(&source.plain_inputs(chosen)?)?;
        let numbers = Vec::<f32>::try_from(features.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
        progress.advance(chosen.len() as u64);
        Ok(numbers)
    };
    source.images.rows(&key, width as usize, &mut make)
}

fn load_images(
    spec: &FinetuneSpec,
    environment: &TrialEnvironment,
    progress: &dyn Progress,
) -> Result<Images, TrialError> {
    let root: &Path = &environment.data_root;
    let folder = DatasetFolder::scan(root, &spec.settings.dataset)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(environment.threads.unwrap_or(0)).build();
    let pool = pool.map_err(|error| TrialError::Machine(format!("cannot start threads: {error}")))?;
    Ok(pool.install(|| Images::open(folder, &environment.cache_dir, spec.settings.cache_pixels, progress))?)
}
