//! Analysis of finished trials: statistics, tables, listings, rows for other programs, figures and reports. Pure: records in, text or bytes out; the
//! caller reads the store and writes the files.

mod axis;
mod chosen;
mod collect;
mod diff;
pub mod domainbed;
mod figure;
mod joint;
mod listing;
mod metric_spec;
mod mixed;
mod paired;
mod question;
mod render;
mod report;
mod results;
mod row_axes;
mod rows;
mod scale;
mod shared;
mod statistics;
mod units;

pub use axis::{Axis, AxisValue, parameter_names};
pub use chosen::Chosen;
pub use collect::Collector;
pub use diff::{
    Diff, DiffSide, Example, Fact, GridPointDifference, RunFacts, SharedCounts, UnpairedCounts, diff,
};
pub use figure::{
    CurveAxis, CurveCollector, CurveQuestion, CurveSplit, CurveValue, FigureError, FigureKind, FigurePage,
    FigurePreset, FigureQuestion, FigureWidth, TrialCurve, covered, figure, figures, pdf, png, trial_curves,
    uncovered,
};
pub use joint::{JointCollector, JointResults, SweepRecords};
pub use listing::{
    ArtifactList, ArtifactRow, AuditList, AuditRow, Certificate, HistoryEvent, QueryFormat, QueryValue,
    QueryWriter, SweepList, SweepRow, TokenList, TokenRow, TrialHistory, TrialList, TrialRow, WorkerList,
    WorkerRow,
};
pub use metric_spec::{MetricChoice, OodSplit};
pub use mixed::Mixed;
pub use paired::{Comparison, DomainDifference, Paired, PairedError, SideChoice, paired};
pub use question::Question;
pub use render::Format;
pub use report::{ReportQuestion, ReportSubject, joint_report, report};
pub use results::{Cell, Mean, Results, ResultsError, results};
pub use rows::{EvaluationWriter, EvaluationWriterError, ExportColumns, ExportCounts, RowFormat};
pub use shared::SharedSettings;
pub use statistics::{Estimate, seeds_for};
