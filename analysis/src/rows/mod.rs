//! Rows of typed columns for other programs: CSV, JSON lines and Parquet. Rows are written as they come, so memory stays constant.

mod column;
mod evaluation_writer;
mod parquet;
mod row_writer;
mod text;

pub use evaluation_writer::{EvaluationWriter, EvaluationWriterError, ExportColumns, ExportCounts};
pub use row_writer::RowFormat;

pub(crate) use column::{CellValue, Column, ColumnKind};
pub(crate) use row_writer::RowWriter;
pub(crate) use text::csv_text;
