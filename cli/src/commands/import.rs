//! `sortie import`: results of other programs as a sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sortie_analysis::domainbed::{self, Folders, MISSING, Run};
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::named;
use sortie_core::parameters::Scalar;
use sortie_core::record::Fingerprint;
use sortie_core::trial::Point;
use sortie_proto::v1;
use sortie_proto::v1::complete_request::Outcome;

use crate::connection::{Client, ClientError, Connection, ImportWorker};
use crate::output;

/// Store the results of another program as a sweep of its own.
///
/// domainbed: a folder of run folders, as DomainBed and programs that descend from it write them. Fractions keep their last bit; -1 and NaN
/// count as not measured. The sweep's grid is that of the runs: trials without a run are cancelled, and shown as missing. Importing
/// again adds new runs; results that were imported before stay as they are, even if their run has more records now.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The program that wrote the files: domainbed.
    program: Program,
    /// The folder that holds the run folders.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The new sweep's name.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Of several datasets, the one to import.
    #[arg(long, value_name = "DATASET")]
    dataset: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Programs whose files can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    DomainBed,
}
named!(Program, "program", { DomainBed => "domainbed" });

/// Imports, and prints what was imported.
///
/// # Errors
/// One line: the files cannot be read, or the coordinator refuses.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let Arguments { program: Program::DomainBed, folder, name, dataset, json } = arguments;
    let Folders { runs, repeated, contradicted, torn, empty } = domainbed::read(folder)?;
    let tree = ImportedRuns::of(runs, dataset.as_deref())?;
    let mut client = Client::connect(connection).await?;
    let request =
        v1::SubmitRequest { text: tree.sweep_file(name)?, discovered: None, no_reuse: true, priority: None };
    let mut progress = client.submit(request).await?;
    while progress.message().await.map_err(ClientError::from)?.is_some() {}
    let missing = tree.match_trials(&mut client, name).await?;
    let mut import_worker = ImportWorker::connect(connection, &tag(name)).await?;
    let delivered = tree.deliver(&mut import_worker, name).await;
    import_worker.leave().await?;
    let imported = delivered?;
    tree.check(&mut client, name).await?;
    let (runs, unfinished) = (tree.runs.len(), tree.runs.values().filter(|run| !run.done).count());
    if *json {
        return output::json(&json!({
            "sweep": name, "runs": runs, "imported": imported, "missing": missing, "unfinished": unfinished,
            "repeated": repeated, "contradicted": contradicted, "torn": torn, "empty": empty,
        }));
    }
    let mut text = format!("sweep {name}: {imported} of {runs} runs imported");
    if imported < runs {
        text.push_str("; the others were there already");
    }
    for (count, what) in [
        (missing, "runs of the grid are not in the folder: cancelled"),
        (unfinished, "runs do not say that they came to their end (no file \"done\")"),
        (repeated, "lines say a step again: the first counts"),
        (contradicted, "of these say something else"),
        (torn, "lines are torn"),
        (empty, "folders have no record"),
    ] {
        if count > 0 {
            text.push_str(&format!("\n  {count} {what}"));
        }
    }
    output::text(&text)
}

/// The identity of a run: algorithm, hparams_seed, trial_seed and held-out domains.
type Key = (String, i64, i64, Vec<usize>);

/// The runs of one dataset.
struct ImportedRuns {
    dataset: String,
    domains: Vec<String>,
    runs: BTreeMap<Key, Run>,
}

impl ImportedRuns {
    fn of(runs: Vec<Run>, dataset: Option<&str>) -> Result<Self> {
        let datasets: BTreeSet<String> = runs.iter().map(|run| run.dataset.clone()).collect();
        let known = datasets.iter().cloned().collect::<Vec<_>>().join(", ");
        let dataset = match (dataset, datasets.len()) {
            (Some(dataset), _) if datasets.contains(dataset) => dataset.to_owned(),
            (Some(dataset), _) => bail!("--dataset {dataset}: there are only runs on {known}"),
            (None, 1) => known,
            (None, _) => bail!("there are runs on several datasets ({known}): name one with --dataset"),
        };
        let (mut found, mut envs) = (BTreeMap::new(), 0);
        for run in runs.into_iter().filter(|run| run.dataset == dataset) {
            if run.test_envs.is_empty()
                || run.test_envs.len() > 2
                || run.trial_seed < 0
                || run.hparams_seed < 0
            {
                let Run { name, test_envs, trial_seed, hparams_seed, .. } = &run;
                bail!(
                    "run {name} has test_envs {test_envs:?}, trial_seed {trial_seed} and hparams_seed {hparams_seed}; allowed: one or two domains, seeds from 0"
                );
            }
            envs = run
                .records
                .iter()
                .map(|record| record.in_acc.len())
                .chain(run.test_envs.iter().map(|env| env + 1))
                .fold(envs, usize::max);
            // Conditions of users name runs by their algorithm.
            let name = run.algorithm.as_str();
            if name.is_empty()
                || name != name.trim()
                || name.contains(" and ")
                || name.contains(char::is_control)
            {
                bail!(
                    "run {} has the algorithm {name:?}; allowed: names without \" and \", and without spaces at their ends",
                    run.name
                );
            }
            let key = (run.algorithm.clone(), run.hparams_seed, run.trial_seed, run.test_envs.clone());
            let name = run.name.clone();
            if let Some(other) = found.insert(key, run) {
                bail!("runs {} and {name} have the same algorithm, seeds and held-out domains", other.name);
            }
        }
        Ok(Self { domains: domainbed::domain_names(&dataset, envs), dataset, runs: found })
    }

    /// The sweep file that plans these runs. Its command exists nowhere.
    fn sweep_file(&self, name: &str) -> Result<String> {
        let seeds = |seed: fn(&Key) -> i64| self.runs.keys().map(seed).collect::<BTreeSet<_>>();
        let algorithms: BTreeSet<&String> = self.runs.keys().map(|(algorithm, ..)| algorithm).collect();
        let held_out: BTreeSet<usize> = self.runs.keys().flat_map(|(.., envs)| envs.clone()).collect();
        let held_out: Vec<&String> = held_out.into_iter().filter_map(|env| self.domains.get(env)).collect();
        let pairs = self.runs.keys().any(|(.., envs)| envs.len() == 2);
        let file = json!({
            "name": name,
            "select": if pairs { ["iid", "loo", "oracle"].as_slice() } else { ["iid", "oracle"].as_slice() },
            // The sweep's name is part of its trials' ids, because DomainBed's seeds do not identify what was run.
            "run": { "command": [domainbed::IMPORTED, name] },
            "data": { "dataset": self.dataset, "domains": self.domains },
            "require": { "tags": [tag(name)] },
            "grid": {
                "algorithm": algorithms,
                "hparams_seed": seeds(|(_, seed, ..)| *seed),
                "held_out": held_out,
                "splits": seeds(|(_, _, seed, _)| *seed),
                "seeds": [0],
            },
        });
        let table = toml::Table::try_from(file).context("cannot write the sweep file")?;
        toml::to_string(&table).context("cannot write the sweep file")
    }

    fn run_at(&self, point: &Point) -> Option<&Run> {
        let algorithm = match point.parameters.get("algorithm")? {
            Scalar::Text(algorithm) => algorithm.clone(),
            other => other.to_string(),
        };
        let hparams_seed = point.parameters.get("hparams_seed")?.as_number()? as i64;
        let env = |domain: &String| self.domains.iter().position(|known| known == domain);
        let mut envs: Vec<usize> = point.held_out.iter().map(env).collect::<Option<_>>()?;
        envs.sort_unstable();
        self.runs.get(&(algorithm, hparams_seed, i64::try_from(point.split_seed).ok()?, envs))
    }

    /// The points of a sweep's trials, with their states.
    async fn trials(client: &mut Client, name: &str) -> Result<Vec<(Point, StateName)>> {
        let mut trials = client.trials(name, None).await?;
        let mut found = Vec::new();
        while let Some(trial) = trials.message().await.map_err(ClientError::from)? {
            let point = trial.point.context("the coordinator sent a trial without its point")?;
            found.push((
                point.try_into().map_err(ClientError::from)?,
                v1::TrialState::read("trial.state", trial.state)?,
            ));
        }
        Ok(found)
    }

    /// Cancels the trials that have no run, and retries those that have one now. Returns how many have none.
    async fn match_trials(&self, client: &mut Client, name: &str) -> Result<usize> {
        let mut missing = 0;
        for (point, state) in Self::trials(client, name).await? {
            let there = self.run_at(&point).is_some();
            missing += usize::from(!there);
            let action = match (there, state) {
                (false, StateName::Queued) => v1::ControlAction::Cancel,
                (true, StateName::Cancelled) => v1::ControlAction::Retry,
                _ => continue,
            };
            let text = |name: &str| point.parameters.get(name).map(ToString::to_string).unwrap_or_default();
            let condition = format!(
                "algorithm={} and hparams_seed={} and held_out={} and split={}",
                text("algorithm"),
                text("hparams_seed"),
                point.held_out_label(),
                point.split_seed
            );
            let (sweep, action) = (name.to_owned(), action.into());
            client
                .control(v1::ControlRequest { sweep, action, r#where: condition, ..Default::default() })
                .await?;
        }
        Ok(missing)
    }

    /// Every run must have become a result.
    async fn check(&self, client: &mut Client, name: &str) -> Result<()> {
        let trials = Self::trials(client, name).await?;
        let present = trials
            .iter()
            .filter(|(point, state)| *state == StateName::Succeeded && self.run_at(point).is_some())
            .count();
        if present != self.runs.len() {
            bail!(
                "sweep {name} has results of {present} of the {} runs; import again, or see `sortie trials {name}`",
                self.runs.len()
            );
        }
        Ok(())
    }

    /// Reports the runs to the coordinator. Returns how many were new.
    async fn deliver(&self, import_worker: &mut ImportWorker, name: &str) -> Result<usize> {
        let mut delivered = 0;
        loop {
            let leases = import_worker.lease(name).await?;
            if leases.is_empty() {
                return Ok(delivered);
            }
            for lease in leases {
                let spec = lease.spec.context("the coordinator sent a trial without its specification")?;
                let point: Point = spec
                    .point
                    .context("the coordinator sent a trial without its point")?
                    .try_into()
                    .map_err(ClientError::from)?;
                let run = self
                    .run_at(&point)
                    .with_context(|| format!("trial {} is none of the runs", lease.trial_id))?;
                let fingerprint = Fingerprint {
                    software: "domainbed".to_owned(),
                    device: "not known".to_owned(),
                    ..Fingerprint::default()
                };
                let batch = v1::Batch {
                    sequence: 1,
                    fingerprint: Some(fingerprint.into()),
                    evaluations: self.evaluations(run).iter().map(Into::into).collect(),
                    log: log(run).into_bytes(),
                    ..v1::Batch::default()
                };
                let outcome = Some(Outcome::Succeeded(v1::Succeeded {}));
                import_worker
                    .complete(v1::CompleteRequest { token: lease.token, batch: Some(batch), outcome })
                    .await?;
                delivered += 1;
            }
        }
    }

    fn evaluations(&self, run: &Run) -> Vec<Evaluation> {
        let mut evaluations = Vec::new();
        for record in &run.records {
            for (split, accuracies) in [(SplitName::In, &record.in_acc), (SplitName::Out, &record.out_acc)] {
                for (domain, &value) in
                    self.domains.iter().zip(accuracies).filter(|(_, value)| **value != MISSING)
                {
                    let score = Score::Value { value, n: 0 };
                    let step = u64::try_from(record.step).unwrap_or_default();
                    evaluations.push(Evaluation {
                        method: Method::Plain,
                        step,
                        domain: domain.clone(),
                        split,
                        score,
                        loss: None,
                    });
                }
            }
        }
        evaluations
    }
}

/// The output of `sortie logs` for an imported run.
fn log(run: &Run) -> String {
    let hparams = serde_json::to_string(&run.hparams).unwrap_or_default();
    let end =
        if run.done { "" } else { "\nit does not say that it came to its end: there is no file \"done\"" };
    format!("imported from {}\nhparams {hparams}{end}\n", run.name)
}

/// A tag that only the importing command has, so that no worker takes a trial of the sweep.
fn tag(name: &str) -> String {
    format!("import-{name}")
}
