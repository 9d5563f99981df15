//! Measures how fast a trial trains or evaluates on this machine. It runs the real loop for some time.

use std::sync::Arc;
use std::time::Duration;

use sortie_core::artifact::{Artifact, Resumed};
use sortie_core::finetune::FinetuneSpec;
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::pipe::BenchWork;
use sortie_core::record::Fingerprint;

use super::evaluation::evaluation_logits;
use super::inputs::{BatchRequest, Prefetcher};
use super::prepare::prepare;
use super::reporter::Reporter;
use super::run::{prefetcher_threads, update};
use super::stopwatch::now;
use super::{TrialEnvironment, TrialSink};
use crate::error::{SinkError, TrialError};
use crate::model::{self, LoadRequest, Pretrained};

/// Batches before the clock starts. In these, libraries choose kernels and allocate memory.
const WARM_UP_STEPS: usize = 2;
/// Batches that are measured at least.
const STEPS_MIN: usize = 3;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkSpeed {
    /// Images in a second.
    pub images_per_second: f64,
    /// The share of the time in which the loop waited for a batch.
    pub data_wait_fraction: f64,
    /// From the call to the first step: libraries, images, weights, caches.
    pub start_seconds: f64,
    /// What the trial ran on.
    pub fingerprint: Fingerprint,
}

/// Trains or evaluates a specification for some time. Where the pretrained weights are missing, random initialisation replaces them.
///
/// # Errors
/// As [`super::run_trial`].
pub fn measure_network(
    work: BenchWork,
    spec: &FinetuneSpec,
    environment: &TrialEnvironment,
    duration: Duration,
) -> Result<NetworkSpeed, TrialError> {
    let mut spec = spec.clone();
    // The last step is never reached; the clock ends the loop.
    (spec.settings.steps, spec.settings.evaluate_every) = (u64::MAX - 1, u64::MAX);
    let begun = now();
    let mut sink = NullSink;
    let mut state = prepare(load_or_random, &spec, environment, &mut sink)?;
    let mut reporter = Reporter::new(&mut sink);
    let start_seconds = begun.elapsed().as_secs_f64();
    let source = Arc::clone(&state.source);
    let requests = (0..).flat_map(move |step| match work {
        BenchWork::Train => vec![BatchRequest::Train { step }],
        BenchWork::Evaluate => source.evaluation(step),
    });
    let mut prefetcher = Prefetcher::start(&state.source, prefetcher_threads(), requests.clone())?;
    let (mut clock, mut images) = (now(), 0);
    for (round, request) in (0..).zip(requests) {
        if round == WARM_UP_STEPS {
            (clock, images, prefetcher.waited) = (now(), 0, Duration::ZERO);
        }
        match request {
            BatchRequest::Train { step } => {
                update(step, &mut state, &mut prefetcher, &mut reporter)?;
                images += spec.batch();
            }
            BatchRequest::Evaluate { from, to, .. } => {
                let batch = prefetcher.next(request)?;
                // Reading a number waits for the device, as the sums of an evaluation do.
                let _ = evaluation_logits(&state.network, &batch.inputs)?.f_sum(None)?.f_double_value(&[])?;
                images += (to - from) as u64;
            }
        }
        if round >= WARM_UP_STEPS + STEPS_MIN - 1 && clock.elapsed() >= duration {
            break;
        }
    }
    reporter.report_losses(0, &mut state.progress)?;
    let seconds = clock.elapsed().as_secs_f64();
    Ok(NetworkSpeed {
        images_per_second: images as f64 / seconds,
        data_wait_fraction: prefetcher.waited.as_secs_f64() / seconds,
        start_seconds,
        fingerprint: state.fingerprint,
    })
}

fn load_or_random(request: &LoadRequest) -> Result<Pretrained, TrialError> {
    match model::find_weights(request.cache, request.weights, request.backbone) {
        Ok(_) => model::load(request),
        Err(_) => model::load_random(request),
    }
}

/// Discards all reports of a measurement.
struct NullSink;

impl TrialSink for NullSink {
    fn started(&mut self, _: &Fingerprint) -> Result<(), SinkError> {
        Ok(())
    }
    fn resumed(&mut self, _: &Resumed, _: &[TrainingLoss], _: &[Evaluation]) -> Result<(), SinkError> {
        Ok(())
    }
    fn trained(&mut self, _: TrainingLoss) -> Result<(), SinkError> {
        Ok(())
    }
    fn evaluated(&mut self, _: u64, _: &[Evaluation]) -> Result<(), SinkError> {
        Ok(())
    }
    fn artifact(&mut self, _: &Artifact) -> Result<(), SinkError> {
        Ok(())
    }
}
