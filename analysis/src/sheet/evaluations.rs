//! Every evaluation of a sweep as a row.

use std::collections::BTreeMap;
use std::io::{self, Write};

use sortie_core::metrics::{Evaluation, Score};
use sortie_core::record::TrialRecord;
use sortie_core::trial::Point;

use super::{Column, Kind, Sheet, SheetFormat, Value};
use crate::axis::in_order;

/// What stands before the axes, and behind them.
const TRIAL: [(&str, Kind); 4] =
    [("sweep", Kind::Text), ("trial_id", Kind::Text), ("state", Kind::Text), ("held_out", Kind::Text)];
const SEEDS: [(&str, Kind); 2] = [("seed", Kind::Integer), ("split_seed", Kind::Integer)];
const EVALUATION: [(&str, Kind); 9] = [
    ("method", Kind::Text),
    ("step", Kind::Integer),
    ("domain", Kind::Text),
    ("split", Kind::Text),
    ("role", Kind::Text),
    ("n", Kind::Integer),
    ("correct", Kind::Integer),
    ("accuracy", Kind::Number),
    ("loss", Kind::Number),
];

/// The axes of a sweep and the types of their values, learned by looking at its trials one by one: a file's columns must be known before
/// its first row.
#[derive(Clone, Debug, Default)]
pub struct AxisKinds(BTreeMap<String, Kind>);

impl AxisKinds {
    /// Looks at a trial.
    pub fn see(&mut self, point: &Point) {
        for (name, value) in &point.parameters {
            let kind = Kind::of(value);
            match self.0.get_mut(name) {
                Some(known) => *known = known.and(kind),
                None => {
                    self.0.insert(name.clone(), kind);
                }
            }
        }
    }
}

/// Why a row cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationSheetError {
    /// The file's columns are written already.
    #[error("sweep {sweep} got new values of axis {axis} while it was exported: export it again")]
    Changed {
        /// The sweep.
        sweep: String,
        /// The axis.
        axis: String,
    },
    /// What the system says.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Trials.
    pub trials: u64,
    /// How many of them have no evaluation: a row each, whose columns from `method` on are empty.
    pub without: u64,
    /// Evaluations: a row each.
    pub evaluations: u64,
}

/// A file with a row for each evaluation: its trial's columns (`sweep`, `trial_id`, `state`, `held_out`, the axes, `seed`, `split_seed`), then its
/// own (`method`, `step`, `domain`, `split`, `role`, `n`, `correct`, `accuracy`, `loss`). An axis that is called like one of those stands
/// as `parameter.NAME`.
pub struct EvaluationSheet<W: Write + Send> {
    sheet: Sheet<W>,
    sweep: String,
    axes: Vec<Column>,
    written: Written,
}

impl<W: Write + Send> EvaluationSheet<W> {
    /// Writes what comes before the rows.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(sweep: &str, axes: &AxisKinds, format: SheetFormat, out: W) -> io::Result<Self> {
        let fixed = |columns: &[(&str, Kind)]| {
            columns.iter().map(|&(name, kind)| Column { name: name.to_owned(), kind }).collect::<Vec<_>>()
        };
        let taken =
            |name: &str| TRIAL.iter().chain(&SEEDS).chain(&EVALUATION).any(|(fixed, _)| *fixed == name);
        let axes: Vec<Column> = in_order(axes.0.keys().map(String::as_str).collect())
            .map(|name| Column { name: name.to_owned(), kind: axes.0[name] })
            .collect();
        let shown = axes.iter().map(|axis| {
            let name = if taken(&axis.name) { format!("parameter.{}", axis.name) } else { axis.name.clone() };
            Column { name, kind: axis.kind }
        });
        let columns =
            fixed(&TRIAL).into_iter().chain(shown).chain(fixed(&SEEDS)).chain(fixed(&EVALUATION)).collect();
        Ok(Self {
            sheet: Sheet::new(format, columns, out)?,
            sweep: sweep.to_owned(),
            axes,
            written: Written::default(),
        })
    }

    /// Writes a trial's evaluations; a trial without any is one row too, so that what failed is not forgotten.
    ///
    /// # Errors
    /// [`EvaluationSheetError::Changed`] if it has what [`AxisKinds`] did not see.
    pub fn push(&mut self, record: &TrialRecord) -> Result<(), EvaluationSheetError> {
        let TrialRecord { id, point, state, validation, held_out } = record;
        let changed =
            |axis: &str| EvaluationSheetError::Changed { sweep: self.sweep.clone(), axis: axis.to_owned() };
        for (name, value) in &point.parameters {
            let known = self.axes.iter().find(|axis| axis.name == *name).ok_or_else(|| changed(name))?;
            if known.kind.and(Kind::of(value)) != known.kind {
                return Err(changed(name));
            }
        }
        let (id, label) = (id.to_string(), point.held_out_label());
        let held_out_label = if label.is_empty() { Value::Absent } else { Value::Text(&label) };
        let mut row =
            vec![Value::Text(&self.sweep), Value::Text(&id), Value::Text(state.as_str()), held_out_label];
        let axes = self.axes.iter().map(|axis| (axis, point.parameters.get(&axis.name)));
        row.extend(
            axes.map(|(axis, value)| value.map_or(Value::Absent, |value| Value::of(value, axis.kind))),
        );
        row.extend([Value::Integer(point.seed), Value::Integer(point.split_seed)]);
        let own = row.len();
        for (role, evaluations) in [("training", validation), ("held-out", held_out)] {
            for evaluation in evaluations {
                row.truncate(own);
                row.extend(columns(evaluation, role));
                self.sheet.row(&row)?;
                self.written.evaluations += 1;
            }
        }
        self.written.trials += 1;
        if validation.is_empty() && held_out.is_empty() {
            row.extend(EVALUATION.map(|_| Value::Absent));
            self.sheet.row(&row)?;
            self.written.without += 1;
        }
        Ok(())
    }

    /// Writes what is left; gives the writer back.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(self) -> io::Result<(W, Written)> {
        Ok((self.sheet.finish()?, self.written))
    }
}

/// The values of [`EVALUATION`].
fn columns<'a>(evaluation: &'a Evaluation, role: &'static str) -> [Value<'a>; EVALUATION.len()] {
    let Evaluation { method, step, domain, split, score, loss } = evaluation;
    [
        Value::Text(method.as_str()),
        Value::Integer(*step),
        Value::Text(domain),
        Value::Text(split.as_str()),
        Value::Text(role),
        if score.n() == 0 { Value::Absent } else { Value::Integer(score.n()) },
        if let Score::Counts { correct, .. } = score { Value::Integer(*correct) } else { Value::Absent },
        Value::Number(score.accuracy()),
        loss.map_or(Value::Absent, Value::Number),
    ]
}
