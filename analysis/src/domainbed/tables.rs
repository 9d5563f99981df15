//! The tables of DomainBed's collector.

use std::collections::BTreeMap;

use super::registry::{ALGORITHMS, DATASETS};
use super::{Run, SelectionMethod, numpy};

/// Width of a cell in a dataset's table.
const DATASET_CELL: usize = 20;
/// Width of a cell in a table of averages.
const AVERAGES_CELL: usize = 25;
/// The text of a cell without values.
const NOTHING: &str = "X";

/// All tables of these runs, as `domainbed.scripts.collect_results` prints them.
///
/// As in DomainBed, incomplete runs count with the steps that they have, and unknown datasets are left out.
pub fn tables(runs: &[Run], methods: &[SelectionMethod]) -> String {
    let mut text = format!("Total records: {}\n", records(runs));
    all(&mut text, runs, methods, Form::Text);
    text
}

/// The same as it prints with `--latex`: a document with booktabs' rules.
pub fn latex(runs: &[Run], methods: &[SelectionMethod]) -> String {
    let mut text = LATEX_HEAD.to_owned();
    text.push_str(&format!("% Total records: {}\n", records(runs)));
    all(&mut text, runs, methods, Form::Latex);
    text.push_str("\\end{document}\n");
    text
}

/// The lines before the first table.
const LATEX_HEAD: &str = "\\documentclass{article}
\\usepackage{booktabs}
\\usepackage{adjustbox}
\\begin{document}
\\section{Full DomainBed results}
";

/// How tables are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Latex,
}

impl Form {
    /// What separates a mean and its error.
    fn sign(self) -> &'static str {
        match self {
            Self::Text => "+/-",
            Self::Latex => "$\\pm$",
        }
    }
}

/// The number of records, which count if no table shows their run too.
fn records(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.records.len()).sum()
}

/// Adds the tables of each method: its datasets, then its averages.
fn all(text: &mut String, runs: &[Run], methods: &[SelectionMethod], form: Form) {
    // Runs without records do not count.
    let runs: Vec<&Run> = runs.iter().filter(|run| !run.records.is_empty()).collect();
    let algorithms = algorithms(&runs);
    let datasets: Vec<_> =
        DATASETS.into_iter().filter(|(name, _)| runs.iter().any(|run| run.dataset == *name)).collect();
    let heading = |text: &mut String, command: &str, title: &str| {
        if form == Form::Latex {
            text.push_str(&format!("\n\\{command}{{{title}}}\n"));
        }
    };
    for &method in methods {
        heading(text, "subsection", &format!("Model selection: {}", method.title()));
        let groups = Groups::of(&runs, method);
        for &(dataset, labels) in &datasets {
            let rows = algorithms.iter().map(|algorithm| {
                let cell = |env| {
                    groups
                        .of_algorithm(dataset, algorithm)
                        .filter(move |(key, _)| key.test_env == env)
                        .map(|(_, accuracy)| *accuracy)
                };
                let cells = (0..labels.len()).map(|env| MeanCell::of(&cell(env).collect::<Vec<_>>(), form));
                row(cells.collect())
            });
            heading(text, "subsubsection", dataset);
            let head = format!("Dataset: {dataset}, model selection method: {}", method.title());
            table(text, form, &head, labels, &algorithms, rows, DATASET_CELL);
        }
        let rows = algorithms.iter().map(|algorithm| {
            let cell = |&(dataset, _): &(&str, &[&str])| {
                let mut trials: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
                for (key, accuracy) in groups.of_algorithm(dataset, algorithm) {
                    trials.entry(key.trial_seed).or_default().push(*accuracy);
                }
                let means: Vec<f64> = trials.values().map(|accuracies| numpy::mean(accuracies)).collect();
                MeanCell::of(&means, form)
            };
            row(datasets.iter().map(cell).collect())
        });
        if datasets.is_empty() {
            continue;
        }
        heading(text, "subsubsection", "Averages");
        let names: Vec<&str> = datasets.iter().map(|(name, _)| *name).collect();
        let head = format!("Averages, model selection method: {}", method.title());
        table(text, form, &head, &names, &algorithms, rows, AVERAGES_CELL);
    }
}

/// The algorithms that DomainBed knows in its order, then the others in the order of the runs.
fn algorithms<'a>(runs: &[&'a Run]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        if !names.contains(&run.algorithm.as_str()) {
            names.push(&run.algorithm);
        }
    }
    names.sort_by_key(|name| ALGORITHMS.iter().position(|known| known == name).unwrap_or(ALGORITHMS.len()));
    names
}

/// The accuracy of a method for each (dataset, algorithm, held-out domain, trial seed), in the order of the runs.
struct Groups<'a>(Vec<(GroupKey<'a>, f64)>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey<'a> {
    dataset: &'a str,
    algorithm: &'a str,
    test_env: usize,
    trial_seed: i64,
}

impl<'a> Groups<'a> {
    fn of(runs: &[&'a Run], method: SelectionMethod) -> Self {
        let mut order: Vec<GroupKey<'a>> = Vec::new();
        let mut groups: BTreeMap<GroupKey<'a>, Vec<&'a Run>> = BTreeMap::new();
        for run in runs {
            for &test_env in &run.test_envs {
                let key = GroupKey {
                    dataset: &run.dataset,
                    algorithm: &run.algorithm,
                    test_env,
                    trial_seed: run.trial_seed,
                };
                let group = groups.entry(key).or_default();
                if group.is_empty() {
                    order.push(key);
                }
                group.push(run);
            }
        }
        Self(
            order
                .into_iter()
                .filter_map(|key| Some((key, method.accuracy(key.test_env, &groups[&key])?)))
                .collect(),
        )
    }

    fn of_algorithm(&self, dataset: &str, algorithm: &str) -> impl Iterator<Item = &(GroupKey<'a>, f64)> {
        self.0.iter().filter(move |(key, _)| key.dataset == dataset && key.algorithm == algorithm)
    }
}

/// A mean with its error, as text and as a number.
struct MeanCell {
    text: String,
    mean: Option<f64>,
}

impl MeanCell {
    fn of(values: &[f64], form: Form) -> Self {
        if values.is_empty() {
            return Self { text: NOTHING.to_owned(), mean: None };
        }
        let root = (values.len() as f64).sqrt();
        let shares: Vec<f64> = values.iter().map(|value| value / root).collect();
        let (mean, error) = (100.0 * numpy::mean(values), 100.0 * numpy::deviation(&shares));
        Self { text: format!("{mean:.1} {} {error:.1}", form.sign()), mean: Some(mean) }
    }
}

/// Cells and the mean of their unrounded means.
fn row(cells: Vec<MeanCell>) -> Vec<String> {
    let means: Option<Vec<f64>> = cells.iter().map(|cell| cell.mean).collect();
    let average = means.map_or_else(
        || NOTHING.to_owned(),
        |means| format!("{:.1}", means.iter().sum::<f64>() / means.len() as f64),
    );
    cells.into_iter().map(|cell| cell.text).chain([average]).collect()
}

fn table(
    text: &mut String,
    form: Form,
    head: &str,
    labels: &[&str],
    algorithms: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    width: usize,
) {
    let heads = ["Algorithm"].into_iter().chain(labels.iter().copied()).chain(["Avg"]);
    let (between, end) = if form == Form::Latex { (" & ", "\\\\") } else { ("  ", "") };
    let line = |text: &mut String, cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.map(|cell| format!("{cell:<width$.width$}")).collect();
        text.push_str(&format!("{} {end}\n", padded.join(between)));
    };
    match form {
        Form::Text => {
            text.push_str(&format!("\n-------- {head}\n"));
            line(text, &mut heads.into_iter());
        }
        Form::Latex => {
            text.push_str("\n\\begin{center}\n\\adjustbox{max width=\\textwidth}{%\n");
            // A column of text and one for each number.
            text.push_str(&format!("\\begin{{tabular}}{{l{}}}\n\\toprule\n", "c".repeat(labels.len() + 1)));
            let bold: Vec<String> =
                heads.map(|head| format!("\\textbf{{{}}}", head.replace('%', "\\%"))).collect();
            line(text, &mut bold.iter().map(String::as_str));
            text.push_str("\\midrule\n");
        }
    }
    for (algorithm, row) in algorithms.iter().zip(rows) {
        line(text, &mut [*algorithm].into_iter().chain(row.iter().map(String::as_str)));
    }
    if form == Form::Latex {
        text.push_str("\\bottomrule\n\\end{tabular}}\n\\end{center}\n");
    }
}
