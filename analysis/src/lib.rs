//! Answers from finished trials: statistics, tables, machine-readable files, figures and reports. Pure: records in, text or bytes out; whoever
//! calls reads the store and writes the files.

mod axis;
mod collect;
mod diff;
pub mod domainbed;
mod figure;
mod measure;
mod paired;
mod render;
mod report;
mod results;
mod sheet;
mod statistics;

pub use axis::{Axis, AxisValue, parameter_names};
pub use collect::Collector;
pub use diff::{Diff, Example, Fact, Only, Places, Run, Shared, Side, diff};
pub use figure::png::png;
pub use figure::{FigureError, FigureKind, FigureQuestion, figure};
pub use measure::OodSplit;
pub use paired::{Comparison, DomainDifference, Paired, PairedError, paired};
pub use render::{Format, markdown_text};
pub use report::{ReportQuestion, ReportSubject, report};
pub use results::{Cell, Mean, Question, Results, ResultsError, results};
pub use sheet::{AxisKinds, EvaluationSheet, EvaluationSheetError, SheetFormat, Written, csv_text};
pub use statistics::{Estimate, seeds_for};
