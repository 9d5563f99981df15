//! Writes the trainer's reports as events.

use std::io::{self, Write};

use sortie_core::artifact::{Artifact, Resumed};
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::metrics::{Evaluation, TrainingLoss};
use sortie_core::packing::DeviceMemory;
use sortie_core::pipe::{Event, Preparation, Progress};
use sortie_core::record::Fingerprint;

use crate::error::{SinkError, TrialError};
use crate::training::TrialSink;

/// Losses are written in groups of this many, or before the next evaluation.
const LOSSES_PER_EVENT: usize = 16;
/// The reports of an earlier attempt are written again in groups of this many.
const ROWS_PER_EVENT: usize = 128;

/// Writes the reports of a trial as lines to its agent.
#[derive(Debug)]
pub struct EventSink<W> {
    out: W,
    pending_losses: Vec<TrainingLoss>,
    /// The step whose evaluation gave a loss that is no number.
    diverged: Option<u64>,
}

impl<W: Write> EventSink<W> {
    /// A sink into a pipe or, in tests, a buffer.
    pub fn new(out: W) -> Self {
        Self { out, pending_losses: Vec::new(), diverged: None }
    }

    /// Writes how the trial ended, after the losses that are still pending.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn end(mut self, ending: Outcome) -> io::Result<()> {
        self.flush_losses()?;
        self.write_event(&Event::Outcome(ending))
    }

    /// What the trainer's result means for the coordinator.
    pub fn ending_of(&self, result: Result<(), TrialError>) -> Outcome {
        if let Some(step) = self.diverged {
            return Outcome::Diverged { step };
        }
        match result {
            Ok(()) => Outcome::Succeeded,
            Err(TrialError::Diverged { step, .. }) => Outcome::Diverged { step },
            Err(error) => Outcome::Failed {
                class: error.class().unwrap_or(ErrorClass::Transient),
                message: error.to_string(),
            },
        }
    }

    fn flush_losses(&mut self) -> io::Result<()> {
        if self.pending_losses.is_empty() {
            return Ok(());
        }
        let losses = std::mem::take(&mut self.pending_losses);
        self.write_event(&Event::Losses(losses))
    }

    /// Writes one event.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn write_event(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        // One write per line: a line is torn only by the end of the process, and then the agent drops its half.
        self.out.write_all(&line)?;
        self.out.flush()
    }
}

impl<W: Write + Send> TrialSink for EventSink<W> {
    fn preparing(&mut self, preparation: &Preparation) -> Result<(), SinkError> {
        Ok(self.write_event(&Event::Preparation(preparation.clone()))?)
    }

    fn started(&mut self, fingerprint: &Fingerprint) -> Result<(), SinkError> {
        Ok(self.write_event(&Event::Fingerprint(fingerprint.clone()))?)
    }

    fn adapted(&mut self, fingerprint: &Fingerprint) -> Result<(), SinkError> {
        Ok(self.write_event(&Event::Fingerprint(fingerprint.clone()))?)
    }

    fn needed(&mut self, memory: &DeviceMemory) -> Result<(), SinkError> {
        Ok(self.write_event(&Event::Memory(*memory))?)
    }

    fn resumed(
        &mut self,
        resumed: &Resumed,
        losses: &[TrainingLoss],
        evaluations: &[Evaluation],
    ) -> Result<(), SinkError> {
        self.write_event(&Event::Resumed(*resumed))?;
        for losses in losses.chunks(ROWS_PER_EVENT) {
            self.write_event(&Event::Losses(losses.to_vec()))?;
        }
        for evaluations in evaluations.chunks(ROWS_PER_EVENT) {
            self.write_event(&Event::Evaluations(evaluations.to_vec()))?;
        }
        Ok(self.write_event(&Event::Progress(Progress { step: resumed.step }))?)
    }

    fn artifact(&mut self, artifact: &Artifact) -> Result<(), SinkError> {
        Ok(self.write_event(&Event::Artifact(artifact.clone()))?)
    }

    fn trained(&mut self, loss: TrainingLoss) -> Result<(), SinkError> {
        self.pending_losses.push(loss);
        if self.pending_losses.len() >= LOSSES_PER_EVENT {
            self.flush_losses()?;
        }
        Ok(self.write_event(&Event::Progress(Progress { step: loss.step }))?)
    }

    fn evaluated(&mut self, step: u64, evaluations: &[Evaluation]) -> Result<(), SinkError> {
        if evaluations.iter().any(|evaluation| evaluation.loss.is_some_and(|loss| !loss.is_finite())) {
            // The update of this step broke the network although the loss before it was a number. Its next training loss would be none;
            // at the last step there is no next, and a broken network must not count as a result.
            self.diverged = Some(step);
            return Err("the network's outputs are no numbers any more".into());
        }
        self.flush_losses()?;
        Ok(self.write_event(&Event::Evaluations(evaluations.to_vec()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::metrics::{Method, Score, SplitName};

    fn evaluation(loss: f64) -> Evaluation {
        let score = Score::Counts { n: 2, correct: 1 };
        Evaluation {
            method: Method::Plain,
            step: 1,
            domain: "ink".into(),
            split: SplitName::Out,
            score: Some(score),
            loss: Some(loss),
            metrics: Default::default(),
            seconds: None,
        }
    }

    fn events(out: &[u8]) -> Vec<Event> {
        out.split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn losses_are_reported_before_the_next_evaluation_and_before_the_end() {
        let loss = |step, loss| TrainingLoss { step, loss, seconds: Some(0.5 * step as f64) };
        let mut out = Vec::new();
        let mut sink = EventSink::new(&mut out);
        sink.trained(loss(0, 2.0)).unwrap();
        sink.trained(loss(1, 1.5)).unwrap();
        sink.evaluated(1, &[evaluation(0.5)]).unwrap();
        sink.trained(loss(2, 1.0)).unwrap();
        let ending = sink.ending_of(Ok(()));
        sink.end(ending).unwrap();
        let progress = |step| Event::Progress(Progress { step });
        assert_eq!(
            events(&out),
            [
                progress(0),
                progress(1),
                Event::Losses(vec![loss(0, 2.0), loss(1, 1.5)]),
                Event::Evaluations(vec![evaluation(0.5)]),
                progress(2),
                Event::Losses(vec![loss(2, 1.0)]),
                Event::Outcome(Outcome::Succeeded),
            ]
        );
    }

    #[test]
    fn an_evaluation_that_is_no_number_is_divergence() {
        let mut sink = EventSink::new(Vec::new());
        let refused = sink.evaluated(9, &[evaluation(0.5), evaluation(f64::NAN)]).unwrap_err();
        assert_eq!(sink.ending_of(Err(TrialError::Sink(refused))), Outcome::Diverged { step: 9 });
        assert!(sink.out.is_empty());
    }

    #[test]
    fn every_error_has_its_ending() {
        let sink = EventSink::new(Vec::new());
        assert_eq!(
            sink.ending_of(Err(TrialError::Diverged { step: 4, loss: f64::NAN })),
            Outcome::Diverged { step: 4 }
        );
        let failed = |error: TrialError| match sink.ending_of(Err(error)) {
            Outcome::Failed { class, message } => (class, message),
            other => panic!("{other:?}"),
        };
        let path = std::path::Path::new("/data/PACS");
        assert_eq!(
            failed(TrialError::bad_data(path, "is missing")),
            (ErrorClass::Machine, "/data/PACS: is missing".to_owned())
        );
        assert_eq!(failed(TrialError::BadConfig("no GPU".into())).0, ErrorClass::BadConfig);
        assert_eq!(failed(TrialError::OutOfMemory("CUDA".into())).0, ErrorClass::OutOfMemory);
        assert_eq!(failed(TrialError::Other("odd".into())), (ErrorClass::Transient, "odd".to_owned()));
    }
}
