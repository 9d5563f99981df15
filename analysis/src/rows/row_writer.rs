//! Writes rows of values in one of several formats.

use std::io::{self, Write};

use sortie_core::named;

use super::parquet::ParquetRows;
use super::text::{csv_line, csv_text, json_line};
use super::{CellValue, Column};

/// The format of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowFormat {
    /// A header and one line for each row. A missing value is empty. Numbers read back to the same bits.
    Csv,
    /// One JSON object a line. A missing value is `null`, as is a number that is not finite, which JSON does not have.
    Jsonl,
    /// Apache Parquet: doubles, 64-bit integers, texts and flags, all of which may be null.
    Parquet,
}
named!(RowFormat, "format", { Csv => "csv", Jsonl => "jsonl", Parquet => "parquet" });

/// Writes rows to an output.
pub(crate) struct RowWriter<W: Write + Send> {
    columns: Vec<Column>,
    rows: RowOutput<W>,
    /// The text of a row, which is written at once.
    line: Vec<u8>,
}

enum RowOutput<W: Write + Send> {
    Csv(W),
    Jsonl(W),
    Parquet(Box<ParquetRows<W>>),
}

impl<W: Write + Send> RowWriter<W> {
    pub(crate) fn new(format: RowFormat, columns: Vec<Column>, mut out: W) -> io::Result<Self> {
        let rows = match format {
            RowFormat::Csv => {
                let header: Vec<_> = columns.iter().map(|column| csv_text(&column.name)).collect();
                writeln!(out, "{}", header.join(","))?;
                RowOutput::Csv(out)
            }
            RowFormat::Jsonl => RowOutput::Jsonl(out),
            RowFormat::Parquet => RowOutput::Parquet(Box::new(ParquetRows::new(&columns, out)?)),
        };
        Ok(Self { columns, rows, line: Vec::new() })
    }

    /// Writes a row: a value for each column.
    pub(crate) fn row(&mut self, values: &[CellValue<'_>]) -> io::Result<()> {
        self.line.clear();
        match &mut self.rows {
            RowOutput::Csv(out) => {
                csv_line(&mut self.line, values)?;
                out.write_all(&self.line)
            }
            RowOutput::Jsonl(out) => {
                json_line(&mut self.line, &self.columns, values)?;
                out.write_all(&self.line)
            }
            RowOutput::Parquet(rows) => rows.row(values),
        }
    }

    /// Writes the remaining rows and returns the output.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self.rows {
            RowOutput::Csv(mut out) | RowOutput::Jsonl(mut out) => {
                out.flush()?;
                Ok(out)
            }
            RowOutput::Parquet(rows) => rows.finish(),
        }
    }
}
