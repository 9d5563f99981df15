//! Answers from finished trials: statistics, tables, machine-readable files and figures. Pure: records in, text or bytes out; whoever
//! calls reads the store and writes the files.

mod axis;
mod diff;
pub mod domainbed;
mod figure;
mod measure;
mod paired;
mod render;
mod results;
mod statistics;

pub use axis::{Axis, AxisValue, COMBINE, MEMBERS, is_combined, parameter_names};
pub use diff::{Diff, Example, Fact, Only, Places, Run, Shared, Side, diff};
pub use figure::png::png;
pub use figure::{FigureError, FigureKind, FigureQuestion, figure};
pub use measure::OodSplit;
pub use paired::{Comparison, DomainDifference, Paired, PairedError, paired};
pub use render::{Format, csv_text, markdown_text};
pub use results::{Cell, Mean, Question, Results, ResultsError, results};
pub use statistics::{Estimate, seeds_for};
