//! Passes the results of a trial on to its sink.

use std::collections::VecDeque;
use std::time::Instant;

use sortie_core::artifact::{Artifact, Resumed};
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::record::Fingerprint;
use tch::Device;

use super::TrialSink;
use super::state::TrainingProgress;
use super::stopwatch::now;
use crate::error::TrialError;
use crate::libtorch::{PendingValue, gpu_memory};

/// Reports to a sink, and holds the losses that the device has not delivered yet.
pub(super) struct Reporter<'a> {
    sink: &'a mut dyn TrialSink,
    /// Losses of the last updates and when those were made, in seconds. They are not part of the progress yet.
    pending_losses: VecDeque<(PendingValue, f64)>,
    begun: Instant,
    /// The time of the attempts that this one goes on from, in seconds.
    seconds_before: f64,
    /// The most memory of a GPU that was reported.
    memory_peak: u64,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(sink: &'a mut dyn TrialSink) -> Self {
        let pending_losses = VecDeque::new();
        Self { sink, pending_losses, begun: now(), seconds_before: 0.0, memory_peak: 0 }
    }

    /// Seconds since training began, without the time between attempts.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds_before + self.begun.elapsed().as_secs_f64()
    }

    /// Adds the loss of the next update.
    pub(super) fn add_loss(&mut self, loss: PendingValue) {
        self.pending_losses.push_back((loss, self.seconds()));
    }

    /// Reports the losses of all updates but the last `pending_max`. A loss that is not finite ends the trial.
    pub(super) fn report_losses(
        &mut self,
        pending_max: usize,
        progress: &mut TrainingProgress,
    ) -> Result<(), TrialError> {
        while self.pending_losses.len() > pending_max {
            let Some((pending, seconds)) = self.pending_losses.pop_front() else { break };
            let (step, loss) = (progress.losses.len() as u64, pending.value()?);
            if !loss.is_finite() {
                return Err(TrialError::Diverged { step, loss });
            }
            let loss = TrainingLoss { step, loss, seconds: Some(seconds) };
            progress.losses.push(loss);
            self.sink.trained(loss).map_err(TrialError::Sink)?;
        }
        Ok(())
    }

    /// Reports the evaluations after a step.
    pub(super) fn report_evaluations(
        &mut self,
        step: u64,
        evaluations: &[Evaluation],
    ) -> Result<(), TrialError> {
        self.sink.evaluated(step, evaluations).map_err(TrialError::Sink)
    }

    /// Reports how much memory of its GPU the trial has needed, if that is more than before.
    pub(super) fn report_memory(&mut self, device: Device) -> Result<(), TrialError> {
        let Device::Cuda(gpu) = device else { return Ok(()) };
        // A trial that cannot tell what it needs does not share its device.
        let Ok(memory) = gpu_memory(gpu) else { return Ok(()) };
        if memory.peak > self.memory_peak {
            self.memory_peak = memory.peak;
            self.sink.needed(&memory).map_err(TrialError::Sink)?;
        }
        Ok(())
    }

    /// Reports a file of the artifact store, or its digest alone.
    pub(super) fn report_artifact(&mut self, artifact: &Artifact) -> Result<(), TrialError> {
        self.sink.artifact(artifact).map_err(TrialError::Sink)
    }

    /// Reports how many images are computed at a time from now on.
    pub(super) fn report_micro_batch(&mut self, fingerprint: &Fingerprint) -> Result<(), TrialError> {
        self.sink.adapted(fingerprint).map_err(TrialError::Sink)
    }

    /// Reports that the trial starts from step 0, and how many checkpoints could not be read.
    pub(super) fn report_beginning(&mut self, passed_over: usize) -> Result<(), TrialError> {
        self.sink.began(passed_over).map_err(TrialError::Sink)
    }

    /// Reports that the trial continues from a checkpoint, and everything that an earlier attempt reported up to there.
    pub(super) fn report_resumed(
        &mut self,
        resumed: &Resumed,
        progress: &TrainingProgress,
    ) -> Result<(), TrialError> {
        (self.begun, self.seconds_before) = (now(), progress.seconds());
        self.sink.resumed(resumed, &progress.losses, &progress.evaluations).map_err(TrialError::Sink)
    }
}
