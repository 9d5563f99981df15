//! Results as text: tables for a terminal, Markdown and LaTeX, and CSV and JSON for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use comfy_table::{LineStyle, Table, TableStyle};

use sortie_core::metrics::{Method, Metric};
use sortie_core::named;
use sortie_core::selection::Selection;

use crate::axis::AxisValue;
use crate::chosen::{self, Chosen};
use crate::metric_spec::MetricChoice;
use crate::results::{Cell, CellKey, Mean, Results, key};
use crate::rows::{CellValue, Column, ColumnKind, RowFormat, RowWriter};
use crate::scale::Scale;
use crate::shared::DATASET;
use crate::statistics::Estimate;

/// The format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A table for a terminal.
    Table,
    /// One line per cell, full precision.
    Csv,
    /// JSON, a stable contract for other tools.
    Json,
    /// Markdown for a report.
    Markdown,
    /// LaTeX for a paper: tabular environments with booktabs' rules.
    Latex,
}
named!(Format, "format", { Table => "table", Csv => "csv", Json => "json", Markdown => "markdown", Latex => "latex" });

/// The sign ± where the best settings were taken.
const PAIRS_OF_SEEDS: &str = "± standard error of the mean over pairs of seeds";

/// The columns of a table of several datasets.
const DATASETS_NOTE: &str = "columns: a dataset's mean over its held-out domains; mean: that of all datasets, ± as of independent ones";

/// One rule below the header, and no other rules.
pub(crate) const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

impl Results {
    /// The results as text that ends with a line break.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Table => self.table(),
            Format::Csv => self.csv(),
            Format::Json => self.json(),
            Format::Markdown => self.markdown(),
            Format::Latex => self.latex(),
        }
    }

    fn table(&self) -> String {
        let mut text = format!("{}\n", self.caption());
        for block in self.blocks() {
            let mut table = Table::new();
            table.load_style(STYLE).set_header(block.header).add_rows(block.rows);
            text.push_str(&format!("\n{}\n{}\n", block.title, table.trim_fmt()));
        }
        text.push_str(&format!("\n{}\n", self.legend()));
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("{}\n", markdown_text(&self.caption()));
        for block in self.blocks() {
            let header: Vec<String> = block.header.iter().map(|cell| markdown_text(cell)).collect();
            let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
            text.push_str(&format!("\n**{}**\n\n", block.title));
            text.push_str(&line(&header));
            text.push_str(&line(&vec!["---".to_owned(); header.len()]));
            for mut row in block.rows {
                for value in &mut row[..block.texts] {
                    *value = markdown_text(value);
                }
                text.push_str(&line(&row));
            }
        }
        text.push_str(&format!("\n{}\n", markdown_text(&self.legend())));
        text
    }

    fn latex(&self) -> String {
        let comment = |text: &str| format!("% {}\n", text.replace('\n', " "));
        let mut text = comment(&self.caption());
        for block in self.blocks() {
            let columns =
                format!("{}{}", "l".repeat(block.texts), "r".repeat(block.header.len() - block.texts));
            let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
            let numbers = |(column, cell): (usize, &String)| match cell.strip_suffix('*') {
                Some(best) if column >= block.texts => format!("\\textbf{{{}}}", latex_text(best)),
                _ => latex_text(cell),
            };
            text.push_str(&format!(
                "\n{}\\begin{{tabular}}{{{columns}}}\n\\toprule\n",
                comment(&block.title)
            ));
            text.push_str(&line(block.header.iter().map(|cell| latex_text(cell)).collect()));
            text.push_str("\\midrule\n");
            for row in &block.rows {
                text.push_str(&line(row.iter().enumerate().map(numbers).collect()));
            }
            text.push_str("\\bottomrule\n\\end{tabular}\n");
        }
        text.push_str(&format!("\n{}", comment(&self.legend().replace("* best", "bold: best"))));
        text
    }

    fn json(&self) -> String {
        // Numbers, texts and maps with text keys always encode.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    fn csv(&self) -> String {
        // Writing to memory cannot fail, and the bytes are text.
        let bytes = self.write_cells(RowFormat::Csv, Vec::new()).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Writes a row for each cell, and returns the writer.
    ///
    /// # Errors
    /// With the error of the system.
    pub fn write_cells<W: Write + Send>(&self, format: RowFormat, out: W) -> io::Result<W> {
        write_cells(&[(None, self)], format, out)
    }

    /// The type of an axis's values: text if they have several; none without a value.
    fn axis_kind(&self, index: usize) -> Option<ColumnKind> {
        let kinds = self.cells.iter().filter_map(|cell| match cell.row.get(index) {
            Some((_, AxisValue::Scalar(scalar))) => Some(ColumnKind::of(scalar)),
            Some((_, AxisValue::Whole(_))) => Some(ColumnKind::Integer),
            Some((_, AxisValue::Absent)) | None => None,
        });
        kinds.reduce(ColumnKind::and)
    }

    /// The values of a cell, without those of its axes and its dataset.
    fn cell_values<'a>(&'a self, cell: &'a Cell) -> Vec<CellValue<'a>> {
        let mut values: Vec<CellValue<'a>> =
            cell.held_out.as_deref().map(CellValue::Text).into_iter().collect();
        values.push(CellValue::Text(self.metric.name()));
        let measured = [Some(cell.iid), cell.held_out.as_ref().map(|_| cell.ood)];
        for Estimate { mean, se, n } in measured.into_iter().flatten() {
            let number = |value: Option<f64>| value.map_or(CellValue::Absent, CellValue::Number);
            values.extend([number(mean), number(se), CellValue::Integer(n as u64)]);
        }
        values.extend([cell.planned, cell.done].map(|count| CellValue::Integer(count as u64)));
        if self.best {
            let names = cell.chosen.iter().map(|chosen| format!("{} ({})", chosen.name(), chosen.seeds));
            values.push(CellValue::Made(names.collect::<Vec<_>>().join("; ")));
        }
        values
    }

    /// One line on the sweep, the selection and the number of trials.
    pub(crate) fn caption(&self) -> String {
        let Self { sweep, selection, method, planned, done, failed, diverged, cancelled, .. } = self;
        let model =
            if *method == Method::Plain { String::new() } else { format!(", weights used: {method}") };
        let best = if self.best { ", best setting of each row" } else { "" };
        let what = if sweep.contains(", ") { "sweeps" } else { "sweep" };
        format!(
            "{what} {sweep}{model}, selection {selection}{best}: {done} of {planned} trials done, {failed} failed, {diverged} diverged, {cancelled} cancelled{}",
            if *done == 0 { "; no result yet" } else { "" }
        )
    }

    /// Explains the selection, the splits and the signs in the tables.
    pub(crate) fn legend(&self) -> String {
        let blocks = self.blocks();
        let is_used = |sign: char| {
            let has = |entry: &String| entry.contains(sign);
            let numbers = |block: &Block| block.rows.iter().any(|row| row[block.texts..].iter().any(has));
            blocks.iter().any(numbers)
        };
        let signs = [
            ('±', if self.best { PAIRS_OF_SEEDS } else { "± standard error of the mean over trials" }),
            ('*', "* best of a complete column, with all that are shown as equal to it"),
            ('(', "(done/planned) of an incomplete cell"),
        ];
        let mut used = vec![selection_note(self.selection, &self.metrics())];
        used.push("in/out: train/validation split".to_owned());
        used.extend(step_note(self.selection, self.method, &self.metrics().selected_by));
        used.extend(combined_note(&self.combined_steps));
        used.extend(self.of_datasets.then(|| DATASETS_NOTE.to_owned()));
        used.extend(
            signs.into_iter().filter(|(sign, _)| is_used(*sign)).map(|(_, meaning)| meaning.to_owned()),
        );
        used.extend(self.missing_classes.note().map(str::to_owned));
        let unmeasured: usize = self.cells.iter().map(|cell| cell.done - cell.measured).sum();
        if unmeasured > 0 {
            used.push(format!(
                "succeeded trials without the evaluations that this table needs: {unmeasured}"
            ));
        }
        used.join("; ")
    }

    pub(crate) fn blocks(&self) -> Vec<Block> {
        let (scale, metric) = (self.scale(), self.metric.name());
        let mut blocks = if self.is_plain {
            let title = scale.with_unit(&format!("{metric} (out split, mean over domains)"));
            vec![self.block(title, &scale, |cell| &cell.iid, |mean| &mean.iid, true)]
        } else {
            let split = self.ood_split_label();
            let ood = scale.with_unit(&format!("o.o.d. {metric} (held-out domain, {split} split)"));
            let iid = scale.with_unit(&format!("i.i.d. {metric} (training domains, out split)"));
            vec![
                self.block(ood, &scale, |cell| &cell.ood, |mean| &mean.ood, true),
                self.block(iid, &scale, |cell| &cell.iid, |mean| &mean.iid, false),
            ]
        };
        blocks.extend(self.chosen_block());
        blocks
    }

    /// The settings that were taken as the best; none if there was nothing to choose.
    fn chosen_block(&self) -> Option<Block> {
        let mut rows = Vec::new();
        for mean in &self.means {
            let cells = self.cells.iter().filter(|cell| cell.row == mean.row && !cell.chosen.is_empty());
            let choices: Vec<(&str, &[Chosen])> =
                cells.map(|cell| (cell.held_out.as_deref().unwrap_or("-"), cell.chosen.as_slice())).collect();
            for (domain, setting, seeds) in chosen::lines(&choices) {
                let row = mean.row.iter().map(|(_, value)| value.to_string());
                rows.push(row.chain([domain, setting, seeds]).collect());
            }
        }
        let mut header: Vec<String> = self.axes.iter().map(|axis| axis.to_string()).collect();
        header.extend(["held out", "best setting", "pairs of seeds"].map(str::to_owned));
        let title = "settings taken as the best".to_owned();
        (!rows.is_empty()).then(|| Block { title, texts: header.len() - 1, header, rows })
    }

    pub(crate) fn ood_split_label(&self) -> &'static str {
        match self.ood_split {
            crate::OodSplit::All => "in + out",
            other => other.as_str(),
        }
    }

    fn block(
        &self,
        title: String,
        scale: &Scale,
        of_cell: fn(&Cell) -> &Estimate,
        of_mean: fn(&Mean) -> &Estimate,
        mark: bool,
    ) -> Block {
        // Of different datasets none is better.
        let mark = mark && !self.axes.iter().any(|axis| axis.as_str() == DATASET);
        let mut header: Vec<String> = self.axes.iter().map(|axis| axis.to_string()).collect();
        let mut rows: Vec<Vec<String>> = self
            .means
            .iter()
            .map(|mean| mean.row.iter().map(|(_, value)| value.to_string()).collect())
            .collect();
        let cells: BTreeMap<CellKey<'_>, &Cell> = self.cells.iter().map(|cell| (cell.key(), cell)).collect();
        for domain in &self.domains {
            let column = self.means.iter().map(|mean| {
                let cell = cells.get(&(&*mean.row, Some(domain.as_str())))?;
                let estimate = *of_cell(cell);
                // A succeeded trial without these evaluations is not in the mean, so it counts as not done.
                Some(Entry { estimate, planned: cell.planned, done: cell.measured, shows_progress: true })
            });
            add_column(&mut rows, column.collect(), scale, mark);
            header.push(domain.clone());
        }
        let means = self.means.iter();
        let column = means.map(|mean| {
            Some(Entry {
                estimate: *of_mean(mean),
                planned: mean.planned,
                done: mean.done,
                shows_progress: false,
            })
        });
        add_column(&mut rows, column.collect(), scale, mark);
        for (row, mean) in rows.iter_mut().zip(&self.means) {
            row.push(format!("{}/{}", mean.done, mean.planned));
        }
        header.extend(["mean".to_owned(), "done".to_owned()]);
        Block { title, texts: self.axes.len(), header, rows }
    }
}

/// Writes a row for each cell of these results, which have the same axes, and returns the writer. Those of several sweeps have a column
/// for the dataset.
///
/// # Errors
/// With the error of the system.
pub(crate) fn write_cells<W: Write + Send>(
    parts: &[(Option<&str>, &Results)],
    format: RowFormat,
    out: W,
) -> io::Result<W> {
    let column = |name: &str, kind| Column { name: name.to_owned(), kind };
    let (number, integer) =
        (|name| column(name, ColumnKind::Number), |name| column(name, ColumnKind::Integer));
    let Some((dataset, first)) = parts.first() else { return Ok(out) };
    let mut columns: Vec<Column> = Vec::new();
    for (index, axis) in first.axes.iter().enumerate() {
        let kinds = parts.iter().filter_map(|(_, part)| part.axis_kind(index));
        let name = if axis.as_str() == METRIC { format!("parameter.{axis}") } else { key(axis) };
        columns.push(Column { name, kind: kinds.reduce(ColumnKind::and).unwrap_or(ColumnKind::Text) });
    }
    let kinds: Vec<ColumnKind> = columns.iter().map(|column| column.kind).collect();
    // The rows may have it already.
    let in_rows = first.axes.iter().any(|axis| axis.as_str() == DATASET);
    if dataset.is_some() && !in_rows {
        columns.push(column(DATASET, ColumnKind::Text));
    }
    let holds_out = parts.iter().any(|(_, part)| !part.is_plain);
    columns.extend(holds_out.then(|| column("held_out", ColumnKind::Text)));
    columns.push(column(METRIC, ColumnKind::Text));
    columns.extend([number("iid_mean"), number("iid_se"), integer("iid_n")]);
    if holds_out {
        columns.extend([number("ood_mean"), number("ood_se"), integer("ood_n")]);
    }
    columns.extend([integer("planned"), integer("done")]);
    columns.extend(first.best.then(|| column("chosen", ColumnKind::Text)));
    let mut writer = RowWriter::new(format, columns, out)?;
    for (dataset, part) in parts {
        for cell in &part.cells {
            let axes = cell.row.iter().zip(&kinds);
            let mut values: Vec<CellValue<'_>> =
                axes.map(|((_, value), kind)| CellValue::of_axis(value, *kind)).collect();
            values.extend(dataset.filter(|_| !in_rows).map(CellValue::Text));
            values.extend(part.cell_values(cell));
            writer.row(&values)?;
        }
    }
    writer.finish()
}

/// The column that names the metric.
const METRIC: &str = "metric";

/// The cells of a table as text.
pub(crate) struct Block {
    pub title: String,
    pub header: Vec<String>,
    /// The number of columns with texts. The others have numbers.
    pub texts: usize,
    pub rows: Vec<Vec<String>>,
}

struct Entry {
    estimate: Estimate,
    planned: usize,
    done: usize,
    /// Whether the entry shows done/planned. A row's mean has a column for it.
    shows_progress: bool,
}

/// Appends one entry to every row. The best is marked only in a complete column, where no missing value could be better.
fn add_column(rows: &mut [Vec<String>], column: Vec<Option<Entry>>, scale: &Scale, mark: bool) {
    let complete = column.iter().all(|entry| {
        entry.as_ref().is_some_and(|entry| entry.done == entry.planned && entry.estimate.mean.is_some())
    });
    let means = column.iter().flatten().filter_map(|entry| entry.estimate.mean);
    let best = scale.best(means).filter(|_| mark && complete && column.len() > 1);
    for (row, entry) in rows.iter_mut().zip(&column) {
        row.push(entry.as_ref().map(|entry| entry_text(entry, scale, best)).unwrap_or_default());
    }
}

fn entry_text(entry: &Entry, scale: &Scale, best: Option<f64>) -> String {
    let Estimate { mean, se, .. } = entry.estimate;
    let mut text = mean.map_or_else(|| "-".to_owned(), |mean| scale.text(mean));
    if let Some(se) = se {
        text.push_str(&format!(" ± {}", scale.text(se)));
    }
    if scale.shown_alike(mean, best) {
        text.push('*');
    }
    if entry.shows_progress && entry.done < entry.planned {
        text.push_str(&format!(" ({}/{})", entry.done, entry.planned));
    }
    text
}

/// What the selection method reads, and of which metric.
pub(crate) fn selection_note(selection: Selection, metrics: &MetricChoice) -> String {
    let by = match metrics {
        MetricChoice { selected_by, .. } if selected_by.is_accuracy() => String::new(),
        MetricChoice { selected_by, .. } => {
            format!(", {} ({} is best)", selected_by.name(), selected_by.goal())
        }
    };
    format!("selection {selection} reads {}{by}", selection.reads())
}

/// How the step of an average or an ensemble over steps is selected.
pub(crate) fn step_note(selection: Selection, method: Method, selected_by: &Metric) -> Option<String> {
    let step = match selection {
        Selection::Iid => format!("taken at the step where its own i.i.d. {} is best", selected_by.name()),
        Selection::Loo => "taken at the step that its own values select".to_owned(),
        Selection::Oracle | Selection::Last => "taken at the last step".to_owned(),
    };
    (method != Method::Plain).then(|| format!("weights used {method}: {step}"))
}

/// Where combinations of several trials were evaluated; none without combinations.
pub(crate) fn combined_note(steps: &BTreeSet<u64>) -> Option<String> {
    Some(format!("combinations of trials: evaluated once, at {}", combined_at(steps)?))
}

/// The steps after which combinations were evaluated, in words.
pub(crate) fn combined_at(steps: &BTreeSet<u64>) -> Option<String> {
    Some(match (steps.first()?, steps.last()?) {
        (first, last) if first == last => format!("step {first}, the last of their members"),
        (first, last) => format!("the last step of their members ({first} to {last})"),
    })
}

/// Escapes Markdown's markup: `art_painting` must not become italic.
pub(crate) fn markdown_text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.replace(['\n', '\r'], " ").chars() {
        if matches!(character, '\\' | '|' | '*' | '_' | '`' | '<' | '[') {
            plain.push('\\');
        }
        plain.push(character);
    }
    plain
}

/// Escapes LaTeX's special characters, and those that its usual encodings of fonts show as another one. Brackets and a star would be read
/// as arguments of the `\\` before them.
fn latex_text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => plain.push_str("\\textbackslash{}"),
            '~' => plain.push_str("\\textasciitilde{}"),
            '^' => plain.push_str("\\textasciicircum{}"),
            '±' => plain.push_str("$\\pm$"),
            '−' => plain.push_str("$-$"),
            '×' => plain.push_str("$\\times$"),
            '<' => plain.push_str("\\textless{}"),
            '>' => plain.push_str("\\textgreater{}"),
            '|' => plain.push_str("\\textbar{}"),
            '`' => plain.push_str("\\textasciigrave{}"),
            '"' => plain.push_str("''"),
            '[' | ']' | '*' => plain.extend(['{', character, '}']),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => plain.extend(['\\', character]),
            '\n' | '\r' => plain.push(' '),
            _ => plain.push(character),
        }
    }
    plain
}
