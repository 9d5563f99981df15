//! `sortie verify`: a trial twice more, once uninterrupted and once killed and resumed, and whether both came to the same result.

use sortie_core::certificate::{metrics_digest, weights_digest};
use sortie_core::machine::WorkKind;
use sortie_core::requirements::Requirements;
use sortie_core::spec::{SweepSpec, Verification};

use super::store::Store;
use crate::store::StoreError;
use crate::store::backend::{ReportedData, VERIFIES};
use crate::store::types::{Reuse, SubmitOptions, TrialEvent, WorkerLine};
use crate::store::writer::{Command, Note};

/// How many verifications of one trial are kept.
const VERIFICATIONS_MAX: u32 = 1_000;

/// What verifies a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The uninterrupted sweep, and the one whose first attempt kills itself.
    pub sweeps: [String; 2],
    /// Who runs both.
    pub worker_id: String,
    /// Its host and process.
    pub worker: String,
    /// The index of the last step.
    pub steps: u64,
}

/// Whether a resumed run came to what an uninterrupted one came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// One hash over the killed run's weights and logits; none if it reported none.
    pub weights_digest: Option<String>,
    /// One hash over its evaluations and losses.
    pub metrics_digest: String,
    /// The step after whose update it killed itself.
    pub kill_at: u64,
    /// The last step that it did not make again; none if it was not resumed.
    pub resumed_at: Option<u64>,
    /// The index of the last step.
    pub steps: u64,
    /// Host and process of its worker.
    pub worker: String,
    /// Why the two are not identical; none if they are.
    pub difference: Option<String>,
}

impl Store {
    /// Submits a trial twice more, to a worker that is there and able.
    ///
    /// # Errors
    /// [`StoreError::Spec`] for steps that do not fit, [`StoreError::Verification`] when nobody can run it.
    #[tracing::instrument(level = "debug", skip_all, fields(trial = %name, kill_at = kill_at))]
    pub async fn verify(&self, name: &str, kill_at: u64, steps: Option<u64>) -> Result<Verified, StoreError> {
        let history = self.backend.history(self.find(name).await?).await?;
        let spec = self.spec(&history.sweep).await?;
        let worker = self.able_worker(&spec.require, &spec.kinds()).await?;
        let verification = Verification { kill_at, steps, worker: worker.worker.id.clone() };
        let prefix = self.free_prefix(&format!("{VERIFIES}{}", history.line.spec_hash.short())).await?;
        let [first, second] = spec.verified(&history.line.point, &verification, &prefix)?;
        // It must not reuse the trial's own result.
        let options = SubmitOptions { reuse: Reuse::Never, priority: None };
        for sweep in [&first, &second] {
            self.submit(sweep, options).await?;
        }
        let steps = first.work.steps().unwrap_or_default();
        let place = format!("{}:{}", worker.worker.host, worker.worker.pid);
        Ok(Verified { sweeps: [first.name, second.name], worker_id: worker.worker.id, worker: place, steps })
    }

    /// A worker that may run such trials, the one that runs the fewest now.
    async fn able_worker(
        &self,
        require: &Requirements,
        kinds: &[WorkKind],
    ) -> Result<WorkerLine, StoreError> {
        let mut workers = self.backend.workers(Some(self.settings.silent_after())).await?;
        workers.retain(|line| {
            let quarantined = line.quarantines().any(|fault| kinds.contains(&fault.kind));
            !line.left && !quarantined && line.worker.abilities.meet(require)
        });
        let first = workers.into_iter().min_by_key(|line| line.trials.len());
        first.ok_or_else(|| {
            StoreError::Verification(
                "no worker is there that may run this trial; `sortie workers` lists them".to_owned(),
            )
        })
    }

    /// The first number behind this under which no verification stands yet.
    async fn free_prefix(&self, prefix: &str) -> Result<String, StoreError> {
        for number in 1..=VERIFICATIONS_MAX {
            let name = format!("{prefix}-{number}");
            if self.backend.sweep(&format!("{name}-a")).await?.is_none() {
                return Ok(name);
            }
        }
        Err(StoreError::Verification(format!("this trial was verified {VERIFICATIONS_MAX} times")))
    }

    /// Compares two runs that [`Store::verify`] submitted, and notes the outcome with the trial.
    ///
    /// # Errors
    /// [`StoreError::Verification`] while or if one has no result, or when they are no such pair.
    #[tracing::instrument(level = "debug", skip_all, fields(trial = %name))]
    pub async fn certify(&self, name: &str, sweeps: &[String; 2]) -> Result<Certificate, StoreError> {
        let trial = self.find(name).await?;
        let [whole, killed] = [self.spec(&sweeps[0]).await?, self.spec(&sweeps[1]).await?];
        let (Some(kill_at), None, true) = (killed.kill_at, whole.kill_at, whole.work == killed.work) else {
            return Err(StoreError::Verification(format!(
                "sweeps {} and {} do not verify a trial",
                sweeps[0], sweeps[1]
            )));
        };
        let (first, second) = (self.proof(&whole).await?, self.proof(&killed).await?);
        let certificate = Certificate {
            weights_digest: weights_digest(&second.artifacts),
            metrics_digest: metrics_digest(&second.evaluations, &second.losses),
            kill_at,
            resumed_at: second.resumed.map(|resumed| resumed.step),
            steps: killed.work.steps().unwrap_or_default(),
            worker: second.worker.clone(),
            difference: difference(&first, &second),
        };
        let event =
            TrialEvent { at_ms: 0, token: None, what: "verified".to_owned(), detail: certificate.line() };
        let note = Note { trial, event };
        self.command(|reply| Command::Note(note, reply)).await?;
        Ok(certificate)
    }

    async fn proof(&self, sweep: &SweepSpec) -> Result<ReportedData, StoreError> {
        let missing = || {
            StoreError::Verification(format!(
                "sweep {0} has no result; `sortie trials {0}` says why",
                sweep.name
            ))
        };
        let [(trial, _)] = self.backend.find(Some(&sweep.name), "", 2).await?[..] else {
            return Err(missing());
        };
        self.backend.proof(trial).await?.ok_or_else(missing)
    }
}

/// Why two runs are not the same, the most telling reason first.
fn difference(whole: &ReportedData, killed: &ReportedData) -> Option<String> {
    let weights = [weights_digest(&whole.artifacts), weights_digest(&killed.artifacts)];
    match &killed.resumed {
        None => return Some("the killed run was not resumed: it started again at step 0".to_owned()),
        Some(resumed) if !resumed.exact => {
            return Some(
                "the killed run was resumed on another device, number of threads or libtorch".to_owned(),
            );
        }
        Some(_) => {}
    }
    if metrics_digest(&whole.evaluations, &whole.losses)
        != metrics_digest(&killed.evaluations, &killed.losses)
    {
        return Some("evaluations or losses differ".to_owned());
    }
    match weights {
        [Some(whole), Some(killed)] if whole == killed => None,
        [Some(_), Some(_)] => Some("weights or logits differ".to_owned()),
        _ => Some("the digests of weights and logits were not reported".to_owned()),
    }
}

impl Certificate {
    /// The outcome in one line.
    fn line(&self) -> String {
        let Self { weights_digest, metrics_digest, kill_at, resumed_at, steps, worker, difference } = self;
        let resumed =
            resumed_at.map_or("not resumed".to_owned(), |step| format!("resumed after step {step}"));
        let outcome = difference
            .as_deref()
            .map_or("identical to an uninterrupted run".to_owned(), |why| format!("NOT identical: {why}"));
        let weights = weights_digest.as_deref().unwrap_or("none");
        format!(
            "killed at step {kill_at} of {steps}, {resumed}, on {worker}: {outcome}; weights {weights}, metrics {metrics_digest}"
        )
    }
}
