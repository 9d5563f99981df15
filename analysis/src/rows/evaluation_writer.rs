//! Writes every evaluation of a sweep as a row.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use sortie_core::metrics::{Evaluation, Method, Score, TrainingLoss};
use sortie_core::record::TrialRecord;

use super::{CellValue, Column, ColumnKind, RowFormat, RowWriter};
use crate::axis::in_order;
use crate::figure::CurveSplit;

/// The columns before the axes.
const TRIAL: [(&str, ColumnKind); 4] = [
    ("sweep", ColumnKind::Text),
    ("trial_id", ColumnKind::Text),
    ("state", ColumnKind::Text),
    ("held_out", ColumnKind::Text),
];
const SEEDS: [(&str, ColumnKind); 2] = [("seed", ColumnKind::Integer), ("split_seed", ColumnKind::Integer)];
const EVALUATION: [(&str, ColumnKind); 10] = [
    ("method", ColumnKind::Text),
    ("step", ColumnKind::Integer),
    ("domain", ColumnKind::Text),
    ("split", ColumnKind::Text),
    ("role", ColumnKind::Text),
    ("n", ColumnKind::Integer),
    ("correct", ColumnKind::Integer),
    ("accuracy", ColumnKind::Number),
    ("loss", ColumnKind::Number),
    ("seconds", ColumnKind::Number),
];

/// The axes of a sweep with the types of their values, and its named metrics, collected from its trials: the columns of a file must be
/// known before its first row.
#[derive(Clone, Debug, Default)]
pub struct ExportColumns {
    axes: BTreeMap<String, ColumnKind>,
    metrics: BTreeSet<String>,
}

impl ExportColumns {
    /// Adds the axes of a trial, and the named metrics of its evaluations.
    pub fn add(&mut self, record: &TrialRecord) {
        for (name, value) in &record.point.parameters {
            let kind = ColumnKind::of(value);
            match self.axes.get_mut(name) {
                Some(known) => *known = known.and(kind),
                None => {
                    self.axes.insert(name.clone(), kind);
                }
            }
        }
        for name in record.validation.iter().chain(&record.held_out).flat_map(|row| row.metrics.keys()) {
            if !self.metrics.contains(name) {
                self.metrics.insert(name.clone());
            }
        }
    }
}

/// Why a row cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationWriterError {
    /// A trial has an axis, a type of value or a metric that the file's columns lack.
    #[error("sweep {sweep} got new values of {column} while it was exported: export it again")]
    Changed {
        /// The sweep.
        sweep: String,
        /// The axis or metric.
        column: String,
    },
    /// With the error of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The numbers of rows that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportCounts {
    /// Trials.
    pub trials: u64,
    /// Trials without evaluations. Each is a row whose columns from `method` on are empty.
    pub without: u64,
    /// Evaluations. Each is a row.
    pub evaluations: u64,
    /// Training losses. Each is a row.
    pub losses: u64,
}

/// A file with a row for each evaluation: its trial's columns (`sweep`, `trial_id`, `state`, `held_out`, the axes, `seed`, `split_seed`),
/// then its own (`method`, `step`, `domain`, `split`, `role`, `n`, `correct`, `accuracy`, `loss`, `seconds`, and a column for each named metric). An axis
/// with the name of one of these columns is named `parameter.NAME`, a metric with the name of another column `metric.NAME`.
pub struct EvaluationWriter<W: Write + Send> {
    writer: RowWriter<W>,
    axes: Vec<Column>,
    metrics: Vec<String>,
    written: ExportCounts,
}

impl<W: Write + Send> EvaluationWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// With the error of the system.
    pub fn new(columns: &ExportColumns, format: RowFormat, out: W) -> io::Result<Self> {
        let fixed = |columns: &[(&str, ColumnKind)]| {
            columns.iter().map(|&(name, kind)| Column { name: name.to_owned(), kind }).collect::<Vec<_>>()
        };
        let taken =
            |name: &str| TRIAL.iter().chain(&SEEDS).chain(&EVALUATION).any(|(fixed, _)| *fixed == name);
        let axes: Vec<Column> = in_order(columns.axes.keys().map(String::as_str).collect())
            .map(|name| Column { name: name.to_owned(), kind: columns.axes[name] })
            .collect();
        let shown = axes.iter().map(|axis| {
            let name = if taken(&axis.name) { format!("parameter.{}", axis.name) } else { axis.name.clone() };
            Column { name, kind: axis.kind }
        });
        let mut all: Vec<Column> =
            fixed(&TRIAL).into_iter().chain(shown).chain(fixed(&SEEDS)).chain(fixed(&EVALUATION)).collect();
        for metric in &columns.metrics {
            let taken = all.iter().any(|column| column.name == *metric);
            let name = if taken { format!("metric.{metric}") } else { metric.clone() };
            all.push(Column { name, kind: ColumnKind::Number });
        }
        Ok(Self {
            writer: RowWriter::new(format, all, out)?,
            axes,
            metrics: columns.metrics.iter().cloned().collect(),
            written: ExportCounts::default(),
        })
    }

    /// Writes the evaluations of a trial of a sweep, and these training losses of it. A trial without evaluations is one row, so that failed trials are in the file too.
    ///
    /// # Errors
    /// [`EvaluationWriterError::Changed`] if it has an axis, a type of value or a metric that [`ExportColumns`] lacks.
    pub fn push(
        &mut self,
        sweep: &str,
        record: &TrialRecord,
        losses: &[TrainingLoss],
    ) -> Result<(), EvaluationWriterError> {
        let TrialRecord { id, point, state, validation, held_out } = record;
        let changed = |column: &str| EvaluationWriterError::Changed {
            sweep: sweep.to_owned(),
            column: column.to_owned(),
        };
        for (name, value) in &point.parameters {
            let known = self
                .axes
                .iter()
                .find(|axis| axis.name == *name)
                .ok_or_else(|| changed(&format!("axis {name}")))?;
            if known.kind.and(ColumnKind::of(value)) != known.kind {
                return Err(changed(&format!("axis {name}")));
            }
        }
        let (id, label) = (id.to_string(), point.held_out_label());
        let held_out_label = if label.is_empty() { CellValue::Absent } else { CellValue::Text(&label) };
        let mut row = vec![
            CellValue::Text(sweep),
            CellValue::Text(&id),
            CellValue::Text(state.as_str()),
            held_out_label,
        ];
        let axes = self.axes.iter().map(|axis| (axis, point.parameters.get(&axis.name)));
        row.extend(
            axes.map(|(axis, value)| {
                value.map_or(CellValue::Absent, |value| CellValue::of(value, axis.kind))
            }),
        );
        row.extend([CellValue::Integer(point.seed), CellValue::Integer(point.split_seed)]);
        let own = row.len();
        for (role, evaluations) in [("training", validation), ("held-out", held_out)] {
            for evaluation in evaluations {
                row.truncate(own);
                row.extend(columns(evaluation, role));
                if let Some(name) = evaluation.metrics.keys().find(|name| !self.metrics.contains(name)) {
                    return Err(changed(&format!("metric {name}")));
                }
                let value = |name: &String| evaluation.metrics.get(name);
                row.extend(
                    self.metrics
                        .iter()
                        .map(|name| value(name).map_or(CellValue::Absent, |value| CellValue::Number(*value))),
                );
                self.writer.row(&row)?;
                self.written.evaluations += 1;
            }
        }
        for loss in losses {
            row.truncate(own);
            row.extend(columns_of_loss(loss));
            row.extend(self.metrics.iter().map(|_| CellValue::Absent));
            self.writer.row(&row)?;
        }
        self.written.losses += losses.len() as u64;
        self.written.trials += 1;
        if validation.is_empty() && held_out.is_empty() {
            row.truncate(own);
            row.extend(EVALUATION.map(|_| CellValue::Absent));
            row.extend(self.metrics.iter().map(|_| CellValue::Absent));
            self.writer.row(&row)?;
            self.written.without += 1;
        }
        Ok(())
    }

    /// Writes the remaining rows. Returns the output and the numbers of rows.
    ///
    /// # Errors
    /// With the error of the system.
    pub fn finish(self) -> io::Result<(W, ExportCounts)> {
        Ok((self.writer.finish()?, self.written))
    }
}

/// The values of [`EVALUATION`].
fn columns<'a>(evaluation: &'a Evaluation, role: &'static str) -> [CellValue<'a>; EVALUATION.len()] {
    let Evaluation { method, step, domain, split, score, loss, metrics: _, seconds } = evaluation;
    let n = score.map_or(0, Score::n);
    [
        CellValue::Text(method.as_str()),
        CellValue::Integer(*step),
        CellValue::Text(domain),
        CellValue::Text(split.as_str()),
        CellValue::Text(role),
        if n == 0 { CellValue::Absent } else { CellValue::Integer(n) },
        if let Some(Score::Counts { correct, .. }) = score {
            CellValue::Integer(*correct)
        } else {
            CellValue::Absent
        },
        evaluation.accuracy().map_or(CellValue::Absent, CellValue::Number),
        loss.map_or(CellValue::Absent, CellValue::Number),
        seconds.map_or(CellValue::Absent, CellValue::Number),
    ]
}

/// The same of a training loss.
fn columns_of_loss(loss: &TrainingLoss) -> [CellValue<'static>; EVALUATION.len()] {
    let TrainingLoss { step, loss, seconds } = *loss;
    [
        CellValue::Text(Method::Plain.as_str()),
        CellValue::Integer(step),
        CellValue::Absent,
        CellValue::Text(CurveSplit::Batch.as_str()),
        CellValue::Text("training"),
        CellValue::Absent,
        CellValue::Absent,
        CellValue::Absent,
        CellValue::Number(loss),
        seconds.map_or(CellValue::Absent, CellValue::Number),
    ]
}
