//! The results of several sweeps: those of each dataset, and the table that has a column for each.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;
use sortie_core::combine::COMBINE;

use crate::axis::{Axis, AxisValue};
use crate::render::{Block, Format};
use crate::results::{Cell, Mean, Results, RowKey};
use crate::rows::RowFormat;
use crate::shared::DATASET;
use crate::statistics::Estimate;

/// The results of one or several sweeps.
#[derive(Clone, Debug, PartialEq)]
pub struct JointResults {
    /// The sweeps, in the order in which they were asked for.
    pub sweeps: Vec<String>,
    /// The results on each dataset.
    pub parts: Vec<(String, Results)>,
    /// The table of all of them: with several datasets a column for each, else the only part's.
    table: Results,
}

impl JointResults {
    /// Of parts with the same axes; at least one.
    pub(super) fn of(sweeps: Vec<String>, axes: Vec<Axis>, mut parts: Vec<(String, Results)>) -> Self {
        for (dataset, _) in parts.iter_mut().filter(|(dataset, _)| dataset.is_empty()) {
            "-".clone_into(dataset);
        }
        let mut table = match parts.as_slice() {
            [(_, only)] => only.clone(),
            parts => joined(axes, parts),
        };
        table.sweep = sweeps.join(", ");
        Self { sweeps, parts, table }
    }

    /// Whether trials succeeded, and none has the values that were asked for.
    pub fn is_unmeasured(&self) -> bool {
        self.table.is_unmeasured()
    }

    /// The results as text that ends with a line break. One sweep has the JSON of [`Results`]; several have a list of these.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Json if self.sweeps.len() > 1 => self.json(),
            // Writing to memory cannot fail, and the bytes are text.
            Format::Csv => {
                String::from_utf8(self.write_cells(RowFormat::Csv, Vec::new()).unwrap_or_default())
                    .unwrap_or_default()
            }
            _ => self.table.render(format),
        }
    }

    /// Writes a row for each cell, and returns the writer. Those of several sweeps have a column for the dataset.
    ///
    /// # Errors
    /// With the error of the system.
    pub fn write_cells<W: Write + Send>(&self, format: RowFormat, out: W) -> io::Result<W> {
        let parts: Vec<(Option<&str>, &Results)> = match self.sweeps.as_slice() {
            [_] => vec![(None, &self.table)],
            _ => self.parts.iter().map(|(dataset, part)| (Some(dataset.as_str()), part)).collect(),
        };
        crate::render::write_cells(&parts, format, out)
    }

    /// The tables as text.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        self.table.blocks()
    }

    /// What explains the tables.
    pub(crate) fn legend(&self) -> String {
        self.table.legend()
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct DatasetResults<'a> {
            dataset: &'a str,
            results: &'a Results,
        }
        #[derive(Serialize)]
        struct Joint<'a> {
            sweeps: &'a [String],
            planned: usize,
            done: usize,
            datasets: Vec<DatasetResults<'a>>,
            means: &'a [Mean],
        }
        let joint = Joint {
            sweeps: &self.sweeps,
            planned: self.table.planned,
            done: self.table.done,
            datasets: self
                .parts
                .iter()
                .map(|(dataset, results)| DatasetResults { dataset, results })
                .collect(),
            means: &self.table.means,
        };
        // Numbers, texts and maps with text keys always encode.
        let mut text = serde_json::to_string_pretty(&joint).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// One table of several datasets: a column for each with its rows' means over held-out domains, and their mean.
fn joined(axes: Vec<Axis>, parts: &[(String, Results)]) -> Results {
    let mut rows: BTreeMap<RowKey, Vec<Option<&Mean>>> = BTreeMap::new();
    for (index, (_, part)) in parts.iter().enumerate() {
        for mean in &part.means {
            rows.entry(row_key(mean)).or_insert_with(|| vec![None; parts.len()])[index] = Some(mean);
        }
    }
    // With the dataset among the rows there is nothing for columns.
    let in_rows = axes.iter().any(|axis| axis.as_str() == DATASET);
    let (mut cells, mut means) = (Vec::new(), Vec::new());
    for ((_, values), row) in rows {
        let key: Vec<(Axis, AxisValue)> = axes.iter().cloned().zip(values).collect();
        if !in_rows {
            let there = parts
                .iter()
                .zip(&row)
                .filter_map(|((dataset, part), mean)| Some(dataset_cell(&key, dataset, (*mean)?, part)));
            cells.extend(there);
        }
        means.push(over_datasets(key, &row, in_rows));
    }
    let sum = |count: fn(&Results) -> usize| parts.iter().map(|(_, part)| count(part)).sum();
    let first = &parts[0].1;
    let datasets: Vec<String> = parts.iter().map(|(dataset, _)| dataset.clone()).collect();
    let unlike = parts.iter().map(|(_, part)| part).find(|part| !part.missing_classes.is_refuse());
    Results {
        planned: sum(|part| part.planned),
        done: sum(|part| part.done),
        failed: sum(|part| part.failed),
        diverged: sum(|part| part.diverged),
        cancelled: sum(|part| part.cancelled),
        missing_classes: unlike.unwrap_or(first).missing_classes,
        combined_steps: parts
            .iter()
            .flat_map(|(_, part)| &part.combined_steps)
            .copied()
            .collect::<BTreeSet<_>>(),
        is_plain: parts.iter().any(|(_, part)| part.is_plain),
        of_datasets: true,
        domains: if in_rows { Vec::new() } else { datasets },
        cells,
        means,
        axes,
        ..first.clone()
    }
}

fn row_key(mean: &Mean) -> RowKey {
    let combines =
        mean.row.iter().any(|(axis, value)| axis.as_str() == COMBINE && *value != AxisValue::Absent);
    (combines, mean.row.iter().map(|(_, value)| value.clone()).collect())
}

/// The mean of a row on a dataset as a cell.
fn dataset_cell(row: &[(Axis, AxisValue)], dataset: &str, mean: &Mean, part: &Results) -> Cell {
    let own = part.cells.iter().filter(|cell| cell.row == mean.row);
    Cell {
        row: row.to_vec(),
        held_out: Some(dataset.to_owned()),
        iid: mean.iid,
        ood: mean.ood,
        planned: mean.planned,
        done: mean.done,
        chosen: Vec::new(),
        measured: own.map(|cell| cell.measured).sum(),
        values: mean.values.clone(),
    }
}

/// The mean of a row over all datasets; none where one has no mean. Where the row is of one dataset only, that one's.
fn over_datasets(row: Vec<(Axis, AxisValue)>, means: &[Option<&Mean>], of_one: bool) -> Mean {
    let there: Vec<&Mean> = means.iter().flatten().copied().collect();
    let estimate = |value: fn(&Mean) -> Estimate| match there.as_slice() {
        [only] if of_one => value(only),
        _ => mean_of(&means.iter().map(|mean| mean.map(value)).collect::<Vec<_>>()),
    };
    Mean {
        iid: estimate(|mean| mean.iid),
        ood: estimate(|mean| mean.ood),
        planned: there.iter().map(|mean| mean.planned).sum(),
        done: there.iter().map(|mean| mean.done).sum(),
        values: Vec::new(),
        replicates: there.iter().map(|mean| mean.replicates).sum(),
        row,
    }
}

/// The mean of the estimates of all datasets, whose errors do not depend on each other.
fn mean_of(estimates: &[Option<Estimate>]) -> Estimate {
    let n = estimates.len();
    let means: Option<Vec<f64>> = estimates.iter().map(|estimate| (*estimate)?.mean).collect();
    let errors: Option<Vec<f64>> = estimates.iter().map(|estimate| (*estimate)?.se).collect();
    let Some(means) = means else { return Estimate::of(&[]) };
    let se = errors.map(|errors| errors.iter().map(|se| se * se).sum::<f64>().sqrt() / n as f64);
    Estimate { mean: Some(means.iter().sum::<f64>() / n as f64), se, n }
}
