//! Whether an interrupted run has the same result as an uninterrupted one.

use serde::Serialize;

/// The comparison of two runs of a trial, one of which was killed and resumed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Certificate {
    /// Whether both have the same weights, logits and metrics, to the byte.
    pub identical: bool,
    /// The digest of the weights and logits; none if they were not reported.
    pub weights_digest: Option<String>,
    /// The digest of all evaluations and losses.
    pub metrics_digest: String,
    /// The step after whose update the second run was killed.
    pub kill_at: u64,
    /// The last step that it did not repeat; none if it started again.
    pub resumed_at: Option<u64>,
    /// The index of the last step.
    pub steps: u64,
    /// The worker that ran both: host and process.
    pub worker: String,
    /// Why they are not identical.
    pub difference: Option<String>,
}

impl Certificate {
    /// The comparison in some lines.
    pub fn text(&self) -> String {
        let Self {
            identical,
            weights_digest,
            metrics_digest,
            kill_at,
            resumed_at,
            steps,
            worker,
            difference,
        } = self;
        let resumed =
            resumed_at.map_or("not resumed".to_owned(), |step| format!("resumed after step {step}"));
        let outcome = if *identical {
            "identical".to_owned()
        } else {
            format!("NOT identical: {}", difference.as_deref().unwrap_or_default())
        };
        let weights = weights_digest.as_deref().unwrap_or("not reported");
        format!(
            "{outcome}\n  killed   at step {kill_at} of {steps}, {resumed}\n  worker   {worker}\n  weights  {weights}\n  metrics  {metrics_digest}\n"
        )
    }
}
