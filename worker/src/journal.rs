//! A hook for tests: what the coordinator has acknowledged, so that it can be checked afterwards that it was kept. Only programs that are
//! built with the feature `test-hooks` have it.
//!
//! The file is named by SORTIE_JOURNAL. It gets one JSON object a line, one `write` each. A line that was written survives the death of this
//! process, for the system has it; nothing is flushed, for no test of ours cuts the power. Floats are written as their 64 bits in
//! hexadecimal: what is compared later is what was sent.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::OnceLock;

use serde::Serialize;
use sortie_core::job::{Outcome, StateName};
use sortie_core::keys::AttemptToken;
use sortie_core::trial::SpecHash;
use sortie_proto::v1;

static FILE: OnceLock<Option<File>> = OnceLock::new();

#[derive(Serialize)]
struct Line<'a> {
    token: i64,
    trial: String,
    /// The batch's number; none for an end without a batch.
    sequence: Option<u64>,
    evaluations: Vec<EvaluationLine<'a>>,
    /// Step and bits.
    losses: Vec<(u64, String)>,
    /// How the attempt ended; none for a report.
    outcome: Option<StateName>,
}

#[derive(Serialize)]
struct EvaluationLine<'a> {
    method: &'a str,
    step: u64,
    domain: &'a str,
    split: &'a str,
    n: u64,
    correct: u64,
    loss: Option<String>,
    value: Option<String>,
    metrics: BTreeMap<&'a str, String>,
}

/// Notes what was acknowledged: a batch, an end, or both. Without SORTIE_JOURNAL it does nothing. A journal that cannot be written would
/// prove nothing, so the process ends.
pub(crate) fn note(
    token: AttemptToken,
    trial: SpecHash,
    batch: Option<&v1::Batch>,
    outcome: Option<&Outcome>,
) {
    let file = FILE.get_or_init(|| std::env::var_os("SORTIE_JOURNAL").map(|path| checked(open(&path))));
    if let Some(file) = file {
        checked(write(file, token, trial, batch, outcome));
    }
}

fn checked<T>(done: io::Result<T>) -> T {
    done.unwrap_or_else(|error| {
        tracing::error!(%error, "cannot write the journal of acknowledged calls");
        std::process::abort()
    })
}

fn open(path: &OsStr) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

fn write(
    mut file: &File,
    token: AttemptToken,
    trial: SpecHash,
    batch: Option<&v1::Batch>,
    outcome: Option<&Outcome>,
) -> io::Result<()> {
    let evaluations = batch.map_or(&[][..], |batch| &batch.evaluations);
    let losses = batch.map_or(&[][..], |batch| &batch.losses);
    let line = Line {
        token: token.0,
        trial: trial.to_string(),
        sequence: batch.map(|batch| batch.sequence),
        evaluations: evaluations.iter().map(evaluation_line).collect(),
        losses: losses.iter().map(|loss| (loss.step, bits(loss.loss))).collect(),
        outcome: outcome.map(|outcome| match outcome {
            Outcome::Succeeded => StateName::Succeeded,
            Outcome::Diverged { .. } => StateName::Diverged,
            Outcome::Failed { .. } => StateName::Failed,
        }),
    };
    let mut bytes = serde_json::to_vec(&line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

fn evaluation_line(evaluation: &v1::Evaluation) -> EvaluationLine<'_> {
    let v1::Evaluation { method, step, domain, split, n, correct, loss, value, metrics, seconds: _ } =
        evaluation;
    EvaluationLine {
        method,
        step: *step,
        domain,
        split,
        n: n.unwrap_or(0),
        correct: *correct,
        loss: loss.map(bits),
        value: value.map(bits),
        metrics: metrics.iter().map(|(name, value)| (name.as_str(), bits(*value))).collect(),
    }
}

fn bits(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}
