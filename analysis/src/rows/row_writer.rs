//! Writes rows of values in one of several formats.

use std::io::{self, Write};

use sortie_core::named;

use super::parquet::ParquetRows;
use super::text::{csv_line, csv_text, json_line};
use super::{CellValue, Column};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowFormat {
    /// A header, then a line a row. Nothing stands for no value. Numbers are those that read back to the same bits.
    Csv,
    /// A JSON object a line. `null` stands for no value, and for a number that is not finite, which JSON does not have.
    Jsonl,
    /// Apache Parquet: doubles, 64-bit integers, texts and flags, all of which may be null.
    Parquet,
}
named!(RowFormat, "format", { Csv => "csv", Jsonl => "jsonl", Parquet => "parquet" });

/// RowOutput on their way into a file.
pub(crate) struct RowWriter<W: Write + Send> {
    columns: Vec<Column>,
    rows: RowOutput<W>,
    /// A row's text, to be written at once.
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

    /// Takes a row: a value for each column.
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

    /// Writes what is left; gives the writer back.
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
