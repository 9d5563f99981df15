//! `sortie import`: results of other programs as sweeps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use sortie_analysis::domainbed::{self, Folders, ImportedSweep, Run};
use sortie_core::job::StateName;
use sortie_core::named;
use sortie_core::record::Fingerprint;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Point;
use sortie_proto::v1;
use sortie_proto::v1::complete_request::Outcome;

use crate::connection::{Client, ClientError, Connection, ImportWorker};
use crate::output;

/// The largest text of what a sweep notes of its runs' records besides its trials: some ten thousand records.
const NOTES_BYTES_MAX: usize = 4 << 20;

/// Store the results of another program as a sweep of its own.
///
/// domainbed: a tree of run folders, as DomainBed and programs that descend from it (SWAD, the code of "Fine-tuning with Very Large Dropout")
/// write them. Fractions keep their last bit; -1 and NaN count as not measured. Runs on several datasets become a sweep each,
/// NAME-DATASET. Runs that hold out no domain, or more than two, are skipped and counted.
///
/// The sweep's grid is that of the runs. Its axes are algorithm and hparams_seed; seed and hyper-parameters too, where they were set by
/// hand and not drawn by hparams_seed. Runs that `sortie export` wrote are the trials that they were. Trials without a run are cancelled,
/// and shown as missing. Importing again adds new runs; results that were imported before stay as they are, even if their run has more
/// records now.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The program that wrote the files: domainbed.
    program: Program,
    /// The folder that holds the run folders.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The new sweep's name. Where there are several datasets, each becomes NAME-DATASET.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Of several datasets, the one to import. Its sweep is called NAME.
    #[arg(long, value_name = "DATASET")]
    dataset: Option<String>,
    /// Print one JSON object. Where there are several datasets, it has a list `sweeps`.
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
    let Folders { runs, torn, empty } = domainbed::read(folder)?;
    let datasets = datasets(runs, name, dataset.as_deref())?;
    let mut client = Client::connect(connection).await?;
    // All of them are looked at before any is stored.
    let mut imports = Vec::new();
    for (name, (dataset, runs)) in datasets {
        imports.push(Import::prepare(&mut client, &name, &dataset, runs).await?);
    }
    let mut counts = Vec::new();
    for import in &imports {
        counts.push(import.import(&mut client, connection).await?);
    }
    if *json {
        let mut said = match counts.as_slice() {
            [one] => json!(one),
            several => json!({ "sweeps": several }),
        };
        (said["torn"], said["empty"]) = (torn.into(), empty.into());
        return output::json(&said);
    }
    let mut text: String = counts.iter().map(Counts::text).collect();
    for (count, what) in [(torn, "lines are torn"), (empty, "folders have no record")] {
        if count > 0 {
            text.push_str(&format!("  {count} {what}\n"));
        }
    }
    output::text(&text)
}

/// The runs of each dataset that is imported, by the names of the sweeps.
fn datasets(
    runs: Vec<Run>,
    name: &str,
    dataset: Option<&str>,
) -> Result<BTreeMap<String, (String, Vec<Run>)>> {
    let mut found: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    for run in runs {
        found.entry(run.dataset.clone()).or_default().push(run);
    }
    if let Some(dataset) = dataset {
        let Some(runs) = found.remove(domainbed::name_of(dataset)) else {
            let known: Vec<String> = found.into_keys().collect();
            bail!("--dataset {dataset}: there are only runs on {}", known.join(", "));
        };
        return Ok([(name.to_owned(), (domainbed::name_of(dataset).to_owned(), runs))].into());
    }
    let several = found.len() > 1;
    let named = |dataset: &str| if several { format!("{name}-{dataset}") } else { name.to_owned() };
    Ok(found.into_iter().map(|(dataset, runs)| (named(&dataset), (dataset, runs))).collect())
}

/// What was imported of one dataset.
#[derive(Debug, Serialize)]
struct Counts {
    sweep: String,
    runs: usize,
    imported: usize,
    missing: usize,
    unfinished: usize,
    skipped: usize,
    repeated: usize,
    contradicted: usize,
}

impl Counts {
    fn text(&self) -> String {
        let Self { sweep, runs, imported, missing, unfinished, skipped, repeated, contradicted } = self;
        let mut text = format!("sweep {sweep}: {imported} of {runs} runs imported");
        if imported < runs {
            text.push_str("; the others were there already");
        }
        text.push('\n');
        for (count, what) in [
            (missing, "runs of the grid are not in the folder: cancelled"),
            (unfinished, "runs do not say that they came to their end (no file \"done\")"),
            (skipped, "runs hold out no domain or more than two: skipped"),
            (repeated, "lines say a step again: the first counts"),
            (contradicted, "of these say something else"),
        ] {
            if *count > 0 {
                text.push_str(&format!("  {count} {what}\n"));
            }
        }
        text
    }
}

/// A sweep that is imported.
struct Import {
    sweep: ImportedSweep,
    request: v1::SubmitRequest,
}

/// A trial of the sweep, as the coordinator lists it.
struct StoredTrial {
    id: String,
    point: Point,
    state: StateName,
}

impl Import {
    /// Compares the runs with what is stored.
    async fn prepare(client: &mut Client, name: &str, dataset: &str, runs: Vec<Run>) -> Result<Self> {
        let is_there = client.status_of_all().await?.iter().any(|status| status.sweep == name);
        let (mut axes, mut trials) = (BTreeSet::new(), Vec::new());
        if is_there {
            axes.extend(client.describe(name).await?.grid.axes.into_keys());
            trials = stored_trials(client, name).await?;
        }
        let sweep = ImportedSweep::of(name, dataset, runs, &axes)?;
        let succeeded = trials.iter().filter(|trial| trial.state == StateName::Succeeded);
        let known: BTreeSet<String> =
            succeeded.filter_map(|trial| Some(sweep.run_at(&trial.point)?.name.clone())).collect();
        let request = request(&sweep, &known)?;
        Ok(Self { sweep, request })
    }

    /// Stores the sweep and delivers the runs.
    async fn import(&self, client: &mut Client, connection: &Connection) -> Result<Counts> {
        let name = &self.sweep.name;
        let mut progress = client.submit(self.request.clone()).await?;
        while progress.message().await.map_err(ClientError::from)?.is_some() {}
        let missing = self.match_trials(client).await?;
        let mut import_worker = ImportWorker::connect(connection, &tag(name)).await?;
        let delivered = self.deliver(&mut import_worker).await;
        import_worker.leave().await?;
        let imported = delivered?;
        self.check(client).await?;
        let runs = || self.sweep.trials().map(|(_, run)| run);
        let (repeated, contradicted): (Vec<usize>, Vec<usize>) = runs().map(Run::repeated).unzip();
        Ok(Counts {
            sweep: name.clone(),
            runs: runs().len(),
            imported,
            missing,
            unfinished: runs().filter(|run| !run.done).count(),
            skipped: self.sweep.skipped(),
            repeated: repeated.iter().sum(),
            contradicted: contradicted.iter().sum(),
        })
    }

    /// Cancels the trials that have no run, and retries those that have one now. Returns how many have none.
    async fn match_trials(&self, client: &mut Client) -> Result<usize> {
        let (mut missing, mut cancel, mut retry) = (0, Vec::new(), Vec::new());
        for StoredTrial { id, point, state } in stored_trials(client, &self.sweep.name).await? {
            let there = self.sweep.run_at(&point).is_some();
            missing += usize::from(!there);
            match (there, state) {
                (false, StateName::Queued) => cancel.push(id),
                (true, StateName::Cancelled) => retry.push(id),
                _ => {}
            }
        }
        for (ids, action) in [(cancel, v1::ControlAction::Cancel), (retry, v1::ControlAction::Retry)] {
            for ids in ids.chunks(sortie_proto::TRIALS_NAMED_MAX) {
                let (sweep, action, trials) = (self.sweep.name.clone(), action.into(), ids.to_vec());
                client
                    .control(v1::ControlRequest { sweep, action, trials, ..v1::ControlRequest::default() })
                    .await?;
            }
        }
        Ok(missing)
    }

    /// Every run must have become a result.
    async fn check(&self, client: &mut Client) -> Result<()> {
        let (name, runs) = (&self.sweep.name, self.sweep.trials().len());
        let present = stored_trials(client, name)
            .await?
            .iter()
            .filter(|trial| trial.state == StateName::Succeeded && self.sweep.run_at(&trial.point).is_some())
            .count();
        if present != runs {
            bail!(
                "sweep {name} has results of {present} of the {runs} runs; import again, or see `sortie trials {name}`"
            );
        }
        Ok(())
    }

    /// Reports the runs to the coordinator. Returns how many were new.
    async fn deliver(&self, import_worker: &mut ImportWorker) -> Result<usize> {
        let mut delivered = 0;
        loop {
            let leases = import_worker.lease(&self.sweep.name).await?;
            if leases.is_empty() {
                return Ok(delivered);
            }
            for lease in leases {
                let spec = lease.spec.context("the coordinator sent a trial without its specification")?;
                let point = spec.point.context("the coordinator sent a trial without its point")?;
                let run = self
                    .sweep
                    .run_at(&point.try_into().map_err(ClientError::from)?)
                    .with_context(|| format!("trial {} is none of the runs", lease.trial_id))?;
                let fingerprint = Fingerprint {
                    software: "domainbed".to_owned(),
                    device: "not known".to_owned(),
                    ..Fingerprint::default()
                };
                let batch = v1::Batch {
                    sequence: 1,
                    fingerprint: Some(fingerprint.into()),
                    evaluations: self.sweep.evaluations(run).iter().map(Into::into).collect(),
                    log: log(run).into_bytes(),
                    ..v1::Batch::default()
                };
                let outcome = Some(Outcome::Succeeded(v1::Succeeded {}));
                import_worker
                    .complete(v1::CompleteRequest {
                        token: lease.token,
                        batch: Some(batch),
                        outcome,
                        ..v1::CompleteRequest::default()
                    })
                    .await?;
                delivered += 1;
            }
        }
    }
}

/// What stores a sweep, checked. `known` are the names of runs whose trials have a result already.
fn request(sweep: &ImportedSweep, known: &BTreeSet<String>) -> Result<v1::SubmitRequest> {
    let name = &sweep.name;
    let notes = sweep.notes(|run| known.contains(&run.name));
    let imported = if notes.is_empty() { String::new() } else { serde_json::to_string(&notes)? };
    if imported.len() > NOTES_BYTES_MAX {
        let records: usize = notes.further.iter().map(|of| of.records.len()).sum();
        bail!(
            "sweep {name}: {records} records repeat a step or measure nothing, {} bytes of text; allowed: at most {NOTES_BYTES_MAX}",
            imported.len()
        );
    }
    notes.check()?;
    let file = toml::Table::try_from(sweep.file(&tag(name))).context("cannot write the sweep file")?;
    let text = toml::to_string(&file).context("cannot write the sweep file")?;
    SweepSpec::parse(&text, None)?;
    Ok(v1::SubmitRequest { text, no_reuse: true, imported, ..v1::SubmitRequest::default() })
}

/// The trials of a sweep.
async fn stored_trials(client: &mut Client, name: &str) -> Result<Vec<StoredTrial>> {
    let mut trials = client.trials(name, None).await?;
    let mut found = Vec::new();
    while let Some(trial) = trials.message().await.map_err(ClientError::from)? {
        let point = trial.point.context("the coordinator sent a trial without its point")?;
        found.push(StoredTrial {
            id: trial.trial_id,
            point: point.try_into().map_err(ClientError::from)?,
            state: v1::TrialState::read("trial.state", trial.state)?,
        });
    }
    Ok(found)
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
