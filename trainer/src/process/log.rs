//! The log of a trial, for `sortie logs`: a line at each evaluation and each file, and at most one in half a minute in between.

use std::io::Write;
use std::time::{Duration, Instant};

use sortie_core::artifact::{Artifact, ArtifactKind, Resumed};
use sortie_core::finetune::FinetuneSpec;
use sortie_core::job::Outcome;
use sortie_core::metrics::{Evaluation, Method, TrainingLoss};
use sortie_core::packing::DeviceMemory;
use sortie_core::parameters::number;
use sortie_core::pipe::{Assignment, Preparation};
use sortie_core::record::Fingerprint;

use super::EventSink;
use crate::error::SinkError;
use crate::training::{TrialSink, now};

/// Between evaluations a line is written this often at the most.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Writes the lines. What it cannot write is left out: a log that is closed ends no trial.
#[derive(Debug)]
pub(super) struct TrialLog<L> {
    out: L,
    spec: FinetuneSpec,
    /// Which attempt it is: 1 for the first.
    attempt: u32,
    /// Images of one update.
    images: u64,
    /// When the last line was written.
    written: Instant,
    /// What was prepared when the last line was written.
    preparing: String,
    /// Since when the steps below were made.
    since: Instant,
    steps: u64,
    loss: f64,
    last_step: u64,
}

impl<L: Write> TrialLog<L> {
    /// The log of this attempt.
    pub(super) fn new(assignment: &Assignment, out: L) -> Self {
        let spec = assignment.spec.clone();
        let images = spec.batch();
        let (written, preparing) = (now(), String::new());
        let (since, steps, loss, last_step) = (written, 0, 0.0, 0);
        Self {
            out,
            spec,
            attempt: assignment.attempt,
            images,
            written,
            preparing,
            since,
            steps,
            loss,
            last_step,
        }
    }

    fn line(&mut self, text: &str) {
        // One write, so that lines of libraries come before or after it.
        let _ = self.out.write_all(format!("{text}\n").as_bytes());
        self.written = now();
    }

    fn preparing(&mut self, preparation: &Preparation) {
        if self.preparing != preparation.what || self.written.elapsed() >= LINE_INTERVAL {
            self.preparing.clone_from(&preparation.what);
            self.line(&preparation.to_string());
        }
    }

    fn started(&mut self, fingerprint: &Fingerprint) {
        let Fingerprint { device, threads, libtorch, .. } = fingerprint;
        self.line(&format!("data and weights are loaded; {device}, {threads} threads, libtorch {libtorch}"));
        self.begin_counting();
    }

    fn began(&mut self, passed_over: usize) {
        // A first attempt has no checkpoint to miss.
        let why = match (passed_over, self.attempt) {
            (0, ..=1) => String::new(),
            (0, _) => ": there was no checkpoint".to_owned(),
            (1, _) => ": the checkpoint could not be read".to_owned(),
            (count, _) => format!(": none of the {count} checkpoints could be read"),
        };
        self.line(&format!("started from step 0{why}"));
    }

    fn resumed(&mut self, resumed: &Resumed) {
        let exactly = if resumed.exact {
            ""
        } else {
            ", not exactly: on another device, number of threads or libtorch"
        };
        self.line(&format!("resumed after step {}{exactly}", resumed.step));
        self.begin_counting();
    }

    fn trained(&mut self, loss: &TrainingLoss) {
        (self.steps, self.loss, self.last_step) = (self.steps + 1, self.loss + loss.loss, loss.step);
        if self.written.elapsed() >= LINE_INTERVAL {
            self.progress();
        }
    }

    /// What the steps since the last such line were.
    fn progress(&mut self) {
        let Self { spec, images, since, steps, loss, last_step: step, .. } = &*self;
        if *steps == 0 {
            return;
        }
        let (loss, lr) = (loss / *steps as f64, short(spec.lr_at(*step)));
        let seconds = since.elapsed().as_secs_f64();
        let speed = (steps * images) as f64 / seconds.max(1e-9);
        let digits = usize::from(speed < 10.0);
        self.line(&format!("step {step}  loss {loss:.4}  lr {lr}  {speed:.digits$} images/s"));
        self.begin_counting();
    }

    fn begin_counting(&mut self) {
        (self.since, self.steps, self.loss) = (now(), 0, 0.0);
    }

    fn evaluated(&mut self, step: u64, evaluations: &[Evaluation]) {
        self.progress();
        for method in Method::ALL {
            let own: Vec<&Evaluation> = evaluations.iter().filter(|row| row.method == *method).collect();
            if own.is_empty() {
                continue;
            }
            let which = if *method == Method::Plain { String::new() } else { format!(", {method}") };
            let accuracies = self.accuracies(&own);
            self.line(&format!("evaluated after step {step}{which}: {accuracies}"));
        }
        // No step was made meanwhile.
        self.begin_counting();
    }

    /// `art out .887, sketch in .912 out .887 (held out)`: domain by domain.
    fn accuracies(&self, evaluations: &[&Evaluation]) -> String {
        let mut domains: Vec<(&str, String)> = Vec::new();
        for row in evaluations {
            let Some(accuracy) = row.accuracy() else { continue };
            let text = format!("{accuracy:.3}");
            let text = format!(" {} {}", row.split, text.strip_prefix('0').unwrap_or(&text));
            match domains.last_mut().filter(|(domain, _)| *domain == row.domain) {
                Some((_, splits)) => splits.push_str(&text),
                None => domains.push((&row.domain, text)),
            }
        }
        let domain = |(domain, splits): &(&str, String)| {
            let held_out = if self.spec.is_held_out(domain) { " (held out)" } else { "" };
            format!("{domain}{splits}{held_out}")
        };
        domains.iter().map(domain).collect::<Vec<_>>().join(", ")
    }

    fn artifact(&mut self, artifact: &Artifact) {
        let Artifact { kind, method, step, key, bytes, .. } = artifact;
        // Of the others only the digest is reported.
        if key.is_empty() {
            return;
        }
        let size = size(*bytes);
        self.line(&match kind {
            ArtifactKind::Checkpoint => format!("checkpoint after step {step} ({size})"),
            _ => format!("{kind} of the {method} model after step {step} ({size})"),
        });
    }

    /// The last line.
    pub(super) fn ended(&mut self, outcome: &Outcome) {
        self.progress();
        self.line(&match outcome {
            Outcome::Succeeded => "succeeded".to_owned(),
            Outcome::Diverged { step } => format!("diverged: the loss of step {step} is no number"),
            Outcome::Failed { class, message } => format!("failed, {class}: {message}"),
        });
    }
}

/// A number with three digits, as people write it.
fn short(value: f64) -> String {
    format!("{value:.2e}").parse().map_or_else(|_| number(value), number)
}

/// A length in the largest unit of which it has at least one.
fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} bytes");
    };
    let count = bytes as f64 / unit as f64;
    let digits = usize::from(count < 10.0);
    format!("{count:.digits$} {name}")
}

/// Reports to the agent, and writes the log.
#[derive(Debug)]
pub(super) struct LoggedSink<'a, W, L> {
    pub(super) sink: &'a mut EventSink<W>,
    pub(super) log: TrialLog<L>,
}

impl<W: Write + Send, L: Write + Send> TrialSink for LoggedSink<'_, W, L> {
    fn preparing(&mut self, preparation: &Preparation) -> Result<(), SinkError> {
        self.log.preparing(preparation);
        self.sink.preparing(preparation)
    }

    fn started(&mut self, fingerprint: &Fingerprint) -> Result<(), SinkError> {
        self.log.started(fingerprint);
        self.sink.started(fingerprint)
    }

    fn adapted(&mut self, fingerprint: &Fingerprint) -> Result<(), SinkError> {
        self.sink.adapted(fingerprint)
    }

    fn needed(&mut self, memory: &DeviceMemory) -> Result<(), SinkError> {
        self.sink.needed(memory)
    }

    fn began(&mut self, passed_over: usize) -> Result<(), SinkError> {
        self.log.began(passed_over);
        self.sink.began(passed_over)
    }

    fn resumed(
        &mut self,
        resumed: &Resumed,
        losses: &[TrainingLoss],
        evaluations: &[Evaluation],
    ) -> Result<(), SinkError> {
        self.log.resumed(resumed);
        self.sink.resumed(resumed, losses, evaluations)
    }

    fn trained(&mut self, loss: TrainingLoss) -> Result<(), SinkError> {
        self.log.trained(&loss);
        self.sink.trained(loss)
    }

    fn evaluated(&mut self, step: u64, evaluations: &[Evaluation]) -> Result<(), SinkError> {
        self.log.evaluated(step, evaluations);
        self.sink.evaluated(step, evaluations)
    }

    fn artifact(&mut self, artifact: &Artifact) -> Result<(), SinkError> {
        self.log.artifact(artifact);
        self.sink.artifact(artifact)
    }
}

#[cfg(test)]
mod tests {
    use sortie_core::artifact::{Artifact, ArtifactKind, Resumed};
    use sortie_core::finetune::{Backbone, FinetunePoint, Settings};
    use sortie_core::job::ErrorClass;
    use sortie_core::keep::Keep;
    use sortie_core::keys::AttemptToken;
    use sortie_core::metrics::{Score, SplitName};
    use sortie_core::trial::{DatasetSpec, Layout, MissingClasses, SplitBy};

    use super::*;

    fn assignment(attempt: u32) -> Assignment {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let dataset = DatasetSpec {
            name: "PACS".into(),
            domains: words("art photo sketch"),
            classes: words("cat dog"),
            split_by: SplitBy::Image,
            layout: Layout::default(),
            missing_classes: MissingClasses::default(),
        };
        let point = FinetunePoint {
            held_out: words("sketch"),
            dropout: 0.0,
            lr: 5e-5,
            weight_decay: 0.0,
            head_lr_factor: 1.0,
            seed: 0,
            split_seed: 0,
        };
        Assignment {
            spec: FinetuneSpec { settings: Settings::reference(dataset, Backbone::ResNet18), point },
            data: "/data".into(),
            cache: "/cache".into(),
            device: "cpu".into(),
            threads: 1,
            store: None,
            token: AttemptToken(1),
            attempt,
            checkpoints: Vec::new(),
            keep: Keep::default(),
            kill_at: None,
            combination: None,
        }
    }

    fn row(method: Method, domain: &str, split: SplitName, correct: u64) -> Evaluation {
        let score = Some(Score::Counts { n: 1_000, correct });
        let domain = domain.to_owned();
        Evaluation {
            method,
            step: 300,
            domain,
            split,
            score,
            loss: None,
            metrics: Default::default(),
            seconds: None,
        }
    }

    fn artifact(kind: ArtifactKind, key: &str, bytes: u64) -> Artifact {
        let (method, key) = (Method::Plain, key.to_owned());
        Artifact { kind, method, step: 300, key, digest: "0a".repeat(32), bytes }
    }

    /// What a log has after this, with images per second as `N`.
    fn lines(attempt: u32, write: impl FnOnce(&mut LoggedSink<'_, Vec<u8>, &mut Vec<u8>>)) -> Vec<String> {
        let (mut sink, mut out) = (EventSink::new(Vec::new()), Vec::new());
        let log = TrialLog::new(&assignment(attempt), &mut out);
        write(&mut LoggedSink { sink: &mut sink, log });
        let speed = |line: &str| match line.strip_suffix(" images/s").and_then(|line| line.rsplit_once(' ')) {
            Some((line, speed)) if speed.parse::<f64>().is_ok_and(|speed| speed > 0.0) => {
                format!("{line} N images/s")
            }
            _ => line.to_owned(),
        };
        String::from_utf8(out).unwrap().lines().map(speed).collect()
    }

    fn loss(step: u64, loss: f64) -> TrainingLoss {
        TrainingLoss { step, loss, seconds: None }
    }

    #[test]
    fn a_trial_is_told_in_short_lines() {
        let told = lines(1, |sink| {
            sink.preparing(&Preparation { what: "decoding".into(), done: 0, total: 9 }).unwrap();
            sink.preparing(&Preparation { what: "decoding".into(), done: 5, total: 9 }).unwrap();
            let fingerprint = Fingerprint {
                device: "cpu".into(),
                threads: 2,
                libtorch: "2.11.0+cpu".into(),
                ..Fingerprint::default()
            };
            sink.started(&fingerprint).unwrap();
            sink.began(0).unwrap();
            sink.trained(loss(299, 0.5)).unwrap();
            sink.trained(loss(300, 0.3246)).unwrap();
            let (out, inside) = (SplitName::Out, SplitName::In);
            let rows = [
                row(Method::Plain, "art", out, 887),
                row(Method::Plain, "photo", out, 1_000),
                row(Method::Plain, "sketch", inside, 912),
                row(Method::Plain, "sketch", out, 0),
                row(Method::Average, "art", out, 9),
            ];
            sink.evaluated(300, &rows).unwrap();
            sink.artifact(&artifact(ArtifactKind::Checkpoint, "checkpoints/a", 45 << 20)).unwrap();
            sink.artifact(&artifact(ArtifactKind::FinalLogits, "", 7)).unwrap();
            sink.artifact(&artifact(ArtifactKind::FinalWeights, "w", 5 << 29)).unwrap();
            sink.log.ended(&Outcome::Succeeded);
        });
        let expected = [
            "decoding, 0 of 9 images",
            "data and weights are loaded; cpu, 2 threads, libtorch 2.11.0+cpu",
            "started from step 0",
            "step 300  loss 0.4123  lr 5e-5  N images/s",
            "evaluated after step 300: art out .887, photo out 1.000, sketch in .912 out .000 (held out)",
            "evaluated after step 300, average: art out .009",
            "checkpoint after step 300 (45 MiB)",
            "final-weights of the plain model after step 300 (2.5 GiB)",
            "succeeded",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_attempt_says_where_it_begins_and_how_it_ends() {
        let class = ErrorClass::BadData;
        let failed = Outcome::Failed { class, message: "no images".into() };
        let told = lines(2, |sink| {
            sink.began(0).unwrap();
            sink.began(1).unwrap();
            sink.began(2).unwrap();
            for exact in [true, false] {
                sink.resumed(&Resumed { token: AttemptToken(1), step: 7, exact }, &[], &[]).unwrap();
            }
            sink.trained(loss(8, 1.0)).unwrap();
            sink.log.ended(&failed);
            sink.log.ended(&Outcome::Diverged { step: 9 });
        });
        let expected = [
            "started from step 0: there was no checkpoint",
            "started from step 0: the checkpoint could not be read",
            "started from step 0: none of the 2 checkpoints could be read",
            "resumed after step 7",
            "resumed after step 7, not exactly: on another device, number of threads or libtorch",
            "step 8  loss 1.0000  lr 5e-5  N images/s",
            "failed, bad-data: no images",
            "diverged: the loss of step 9 is no number",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_log_that_is_closed_ends_nothing_and_steps_alone_write_no_line() {
        let mut sink = EventSink::new(Vec::new());
        let mut closed: &mut [u8] = &mut [];
        let mut sink = LoggedSink { sink: &mut sink, log: TrialLog::new(&assignment(1), &mut closed) };
        sink.began(0).unwrap();
        assert!(lines(1, |sink| (0..100).for_each(|step| sink.trained(loss(step, 1.0)).unwrap())).is_empty());
    }

    #[test]
    fn lengths_and_rates_have_few_digits() {
        let sizes = [(7, "7 bytes"), (1 << 10, "1.0 KiB"), (12 << 10, "12 KiB"), (3 << 29, "1.5 GiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        for (rate, text) in [(5e-5, "5e-5"), (0.001 * 0.1, "1e-4"), (0.012_345, "0.0123"), (0.0, "0")] {
            assert_eq!(short(rate), text);
        }
    }
}
