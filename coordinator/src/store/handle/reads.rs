//! What users ask.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_core::finetune::Methods;
use sortie_core::inputs::dispute;
use sortie_core::job::StateName;
use sortie_core::keep::{Lacks, LeftFiles, Needs};
use sortie_core::keys::{AttemptToken, TrialKey};
use sortie_core::machine::{Fault, HeldUp, WorkKind, held_up};
use sortie_core::metrics::Method;
use sortie_core::record::TrialRecord;
use sortie_core::requirements::Requirements;
use sortie_core::spec::SweepSpec;
use sortie_core::status::SweepState;
use sortie_core::trial::Work;

use super::store::Store;
use crate::store::StoreError;
use crate::store::backend::{SweepRow, VERIFIES};
use crate::store::query::Rows;
use crate::store::types::{
    ArtifactLocation, Log, LogPart, Outlook, Page, PageRequest, SweepStatus, TrialArtifacts, TrialHistory,
    TrialLine, WorkerLine,
};

/// Trials that are listed where a name means several.
const CANDIDATES_SHOWN: usize = 5;
/// A worker that was not seen for this long is listed only among all.
const WORKERS_LISTED: Duration = Duration::from_secs(3_600);

impl Store {
    /// What a sweep's trials run.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    pub async fn work(&self, sweep: &str) -> Result<Work, StoreError> {
        Ok(self.spec(sweep).await?.work)
    }

    /// A sweep as it was submitted.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    #[tracing::instrument(level = "debug", skip_all, fields(%sweep))]
    pub async fn spec(&self, sweep: &str) -> Result<SweepSpec, StoreError> {
        Ok(self.sweep(sweep).await?.spec)
    }

    pub(super) async fn sweep(&self, name: &str) -> Result<SweepRow, StoreError> {
        match self.backend.sweep(name).await? {
            Some(row) => Ok(row),
            None => Err(self.unknown(name).await?),
        }
    }

    pub(super) async fn unknown(&self, name: &str) -> Result<StoreError, StoreError> {
        let names = self.backend.sweep_names().await?;
        let known = match names.as_slice() {
            [] => "none was submitted yet".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        Ok(StoreError::UnknownSweep { name: name.to_owned(), known })
    }

    /// How far one sweep is, or all of them that are not archived, in the order of their submission.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    #[tracing::instrument(level = "debug", skip_all, fields(sweep = sweep))]
    pub async fn status(&self, sweep: Option<&str>) -> Result<Vec<SweepStatus>, StoreError> {
        let status = self.backend.status(sweep, false).await?;
        match sweep {
            Some(name) if status.is_empty() => Err(self.unknown(name).await?),
            _ => self.with_reasons(status).await,
        }
    }

    /// How far all sweeps are, the archived ones too.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn status_of_all(&self) -> Result<Vec<SweepStatus>, StoreError> {
        let status = self.backend.status(None, true).await?;
        self.with_reasons(status).await
    }

    /// The same, with the reasons why trials wait that no worker may run.
    async fn with_reasons(&self, mut status: Vec<SweepStatus>) -> Result<Vec<SweepStatus>, StoreError> {
        let pins = self.backend.pins().await?;
        let any_dispute = pins.iter().any(|(input, pins)| pins.dispute(input).is_some());
        for status in &mut status {
            let waits = status.state == SweepState::Open && status.queued > 0;
            if waits && (any_dispute || status.running == 0 && !status.delayed) {
                let spec = self.spec(&status.sweep).await?;
                let dispute = dispute(&spec.inputs(), &pins);
                status.held_up = match dispute {
                    Some(reason) => Some(HeldUp { reason, stuck: status.running == 0 }),
                    None if status.running > 0 || status.delayed => None,
                    None => self.outlook_of(&spec.require, &spec.kinds(), false).await?.held_up,
                };
            }
        }
        Ok(status)
    }

    /// Why a sweep's trials do not run, or would not, and what is held against the machines of live workers.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all, fields(sweep = spec.name))]
    pub async fn outlook(&self, spec: &SweepSpec) -> Result<Outlook, StoreError> {
        let outlook = self.outlook_of(&spec.require, &spec.kinds(), !spec.combine.is_empty()).await?;
        let dispute = dispute(&spec.inputs(), &self.backend.pins().await?);
        let dispute = dispute.map(|reason| HeldUp { reason, stuck: true });
        Ok(Outlook { held_up: dispute.or(outlook.held_up), ..outlook })
    }

    async fn outlook_of(
        &self,
        require: &Requirements,
        kinds: &[WorkKind],
        combines: bool,
    ) -> Result<Outlook, StoreError> {
        let workers = self.backend.workers(Some(self.settings.silent_after())).await?;
        let faults = self.backend.faults().await?;
        let now = self.backend.now().await?;
        let workers: Vec<_> = workers.into_iter().filter(|line| !line.left).collect();
        let live: Vec<_> = workers.iter().map(WorkerLine::candidate).collect();
        let held_up = held_up(&live, require, kinds, &faults, now);
        let is_live = |fault: &&Fault| live.iter().any(|candidate| candidate.machine == fault.machine);
        let of_kind = faults.iter().filter(|fault| kinds.contains(&fault.kind)).filter(is_live);
        let held_against = of_kind.filter_map(|fault| fault.held_against(now));
        let disks = if combines { own_disks(&workers) } else { None };
        Ok(Outlook { held_up, faults: held_against.chain(disks).collect() })
    }

    /// A page of a sweep's trials in the order in which they run: those from this position on. The next page starts at
    /// [`Page::next`]. Pages, not one long cursor: a slow reader must not keep a connection.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    #[tracing::instrument(level = "debug", skip_all, fields(%sweep, from = from))]
    pub async fn trials(
        &self,
        sweep: &str,
        state: Option<StateName>,
        from: i64,
    ) -> Result<Page<TrialLine>, StoreError> {
        let id = self.sweep(sweep).await?.id;
        self.backend.trials(id, state, from).await
    }

    /// A page of a sweep's trials, each with the evaluations of its accepted attempt.
    ///
    /// # Errors
    /// [`StoreError::UnknownSweep`].
    #[tracing::instrument(level = "debug", skip_all, fields(%sweep))]
    pub async fn records(
        &self,
        sweep: &str,
        portion: impl Into<PageRequest>,
    ) -> Result<Page<TrialRecord>, StoreError> {
        let sweep = self.sweep(sweep).await?;
        let methods: Vec<Method> = sweep.methods().collect();
        let mut page = self.backend.records(sweep.id, portion.into()).await?;
        for record in &mut page.rows {
            record.validation.retain(|row| methods.contains(&row.method));
            record.held_out.retain(|row| methods.contains(&row.method));
        }
        Ok(page)
    }

    /// The history of a trial, named by a unique prefix of its id or by SWEEP/PREFIX.
    ///
    /// # Errors
    /// [`StoreError::Trial`] when it names none or several.
    #[tracing::instrument(level = "debug", skip_all, fields(trial = %name))]
    pub async fn history(&self, name: &str) -> Result<TrialHistory, StoreError> {
        let mut history = self.backend.history(self.find(name).await?).await?;
        if let Some(origin) = self.origin(&history.line).await? {
            history.events.extend(self.backend.history(origin).await?.events);
            history.events.sort_by_key(|event| (event.at_ms, event.what == "reused"));
        }
        Ok(history)
    }

    /// The files that the trial with this history should have left for its sweep and did not. Only results can lack any, and what
    /// combinations leave nobody names.
    ///
    /// # Errors
    /// [`StoreError::Trial`] when the trial is gone.
    pub async fn lacks(&self, history: &TrialHistory, spec: &SweepSpec) -> Result<Lacks, StoreError> {
        let TrialHistory { sweep, line, .. } = history;
        if line.state != StateName::Succeeded || spec.combines(&line.point) {
            return Ok(Lacks::default());
        }
        let left = self.artifacts(&format!("{sweep}/{}", line.spec_hash)).await?.artifacts;
        // Every result has the methods that its sweep asks for.
        let needs = Needs { methods: Methods::default(), ..spec.needs_and_keeps() };
        let left = LeftFiles::of(left.iter().map(|left| &left.artifact));
        Ok(needs.lacks(left, Methods::default()))
    }

    /// A trial's files.
    ///
    /// # Errors
    /// [`StoreError::Trial`] when the name names none or several.
    #[tracing::instrument(level = "debug", skip_all, fields(trial = %name))]
    pub async fn artifacts(&self, name: &str) -> Result<TrialArtifacts, StoreError> {
        self.backend.artifacts(self.find(name).await?).await
    }

    /// The trial whose attempt gave a reused trial its result.
    async fn origin(&self, line: &TrialLine) -> Result<Option<TrialKey>, StoreError> {
        match &line.reused_from {
            Some(sweep) => self.find(&format!("{sweep}/{}", line.spec_hash)).await.map(Some),
            None => Ok(None),
        }
    }

    /// Which attempt's output is meant: that of an attempt at a trial; the newest one's unless one is named, and for a trial that reuses another sweep's result
    /// that of the attempt that gave it.
    ///
    /// # Errors
    /// [`StoreError::Trial`] when the name names none or several.
    #[tracing::instrument(level = "debug", skip_all, fields(trial = %name, token = token.map(tracing::field::display)))]
    pub async fn log(&self, name: &str, token: Option<AttemptToken>) -> Result<Log, StoreError> {
        let trial = self.find(name).await?;
        let TrialHistory { line, token: accepted, .. } = self.backend.history(trial).await?;
        match self.origin(&line).await? {
            None => self.backend.log(trial, token).await,
            Some(origin) => match self.backend.log(origin, token.or(accepted)).await {
                Err(StoreError::UnknownToken(_)) => self.backend.log(trial, token).await,
                log => log,
            },
        }
    }

    /// The part of that output after a batch; 0 for the beginning, none at the end. A line says what was left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log_part(&self, log: &Log, after: u64) -> Result<Option<LogPart>, StoreError> {
        let Some(token) = log.token else { return Ok(None) };
        let (mut text, mut last) = (Vec::new(), after);
        for (sequence, printed) in self.backend.log_part(token, after).await? {
            if log.cut.is_some_and(|cut| last <= cut && cut < sequence) {
                text.extend(format!("\n[{} bytes of output are left out here]\n", log.left_out).into_bytes());
            }
            text.extend(printed);
            last = sequence;
        }
        Ok((last > after).then_some(LogPart { text, last }))
    }

    /// The whole output.
    ///
    /// # Errors
    /// As [`Store::log`].
    pub async fn log_text(&self, name: &str, token: Option<AttemptToken>) -> Result<Vec<u8>, StoreError> {
        let log = self.log(name, token).await?;
        let (mut text, mut after) = (Vec::new(), 0);
        while let Some(part) = self.log_part(&log, after).await? {
            text.extend(part.text);
            after = part.last;
        }
        Ok(text)
    }

    pub(super) async fn find(&self, name: &str) -> Result<TrialKey, StoreError> {
        let (sweep, prefix) =
            name.rsplit_once('/').map_or((None, name), |(sweep, prefix)| (Some(sweep), prefix));
        let named = |found: &str| StoreError::Trial { name: name.to_owned(), found: found.to_owned() };
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(named("no trial: ids are hexadecimal digits"));
        }
        let found = self.backend.find(sweep, &prefix.to_ascii_lowercase(), CANDIDATES_SHOWN + 1).await?;
        // One that was verified is meant itself, not its copies, which come last.
        let originals: Vec<_> = found.iter().take_while(|(_, name)| !name.starts_with(VERIFIES)).collect();
        let meant: Vec<_> = if originals.is_empty() { found.iter().collect() } else { originals };
        match (meant.as_slice(), sweep) {
            ([], Some(sweep)) => self.sweep(sweep).await.and_then(|_| Err(named("no trial"))),
            ([], None) => Err(named("no trial")),
            ([(id, _)], _) => Ok(*id),
            (several, _) => {
                let names: Vec<&str> = several.iter().map(|(_, name)| name.as_str()).collect();
                Err(StoreError::several_trials(name, &names, CANDIDATES_SHOWN))
            }
        }
    }

    /// Workers that were seen lately, or all that ever were.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all, fields(all = all))]
    pub async fn workers(&self, all: bool) -> Result<Vec<WorkerLine>, StoreError> {
        self.backend.workers((!all).then_some(WORKERS_LISTED)).await
    }

    /// Answers a query in SQL over the views that docs/sql.md describes, within a time that includes the reader's.
    ///
    /// # Errors
    /// [`StoreError::Query`] for what may not be asked, with what the database said; [`StoreError::SlowQuery`],
    /// [`StoreError::QueriesRunning`] and [`StoreError::Database`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn query(&self, sql: &str, limit: Duration) -> Result<Rows, StoreError> {
        self.backend.query(sql, limit).await
    }
}

/// What combinations lack where the results of several machines go to their own disks.
fn own_disks(live: &[WorkerLine]) -> Option<String> {
    let own = live.iter().filter(|line| line.worker.checkpoints == Some(ArtifactLocation::Local));
    let hosts: BTreeMap<&str, &str> =
        own.map(|line| (line.worker.machine.as_str(), line.worker.host.as_str())).collect();
    (hosts.len() > 1).then(|| {
        let hosts = hosts.into_values().collect::<Vec<_>>().join(", ");
        format!(
            "a combination reads all its members on one machine, but the results of {hosts} go to their own disks: \
             give the coordinator a --store that all of them reach"
        )
    })
}
