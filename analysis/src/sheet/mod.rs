//! Rows of typed columns for other programs: CSV, JSON lines and Parquet, written as they come, so that memory stays flat.

mod evaluations;
mod parquet;

use std::io::{self, Write};

use sortie_core::named;
use sortie_core::parameters::{Scalar, number};

pub use evaluations::{AxisKinds, EvaluationSheet, EvaluationSheetError, Written};

use self::parquet::ParquetRows;
use crate::axis::AxisValue;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SheetFormat {
    /// A header, then a line a row. Nothing stands for no value. Numbers are those that read back to the same bits.
    Csv,
    /// A JSON object a line. `null` stands for no value, and for a number that is not finite, which JSON does not have.
    Jsonl,
    /// Apache Parquet: doubles, 64-bit integers, texts and flags, all of which may be null.
    Parquet,
}
named!(SheetFormat, "format", { Csv => "csv", Jsonl => "jsonl", Parquet => "parquet" });

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Integer,
    Flag,
}

impl Kind {
    /// What an axis's value is.
    pub(crate) fn of(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Number(_) => Self::Number,
            Scalar::Text(_) => Self::Text,
            Scalar::Flag(_) => Self::Flag,
        }
    }

    /// What holds both: an axis with values of several types is told as texts.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Text }
    }
}

/// A column's name and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    pub kind: Kind,
}

/// One value of a row, of its column's kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Absent,
    Text(&'a str),
    /// A text that exists nowhere else.
    Made(String),
    Number(f64),
    Integer(u64),
    Flag(bool),
}

impl<'a> Value<'a> {
    /// A parameter in a column of some kind: as a text if the column's values are of several types.
    pub(crate) fn of(scalar: &'a Scalar, kind: Kind) -> Self {
        match scalar {
            Scalar::Text(text) => Self::Text(text),
            _ if kind == Kind::Text => Self::Made(scalar.to_string()),
            Scalar::Number(value) => Self::Number(*value),
            Scalar::Flag(flag) => Self::Flag(*flag),
        }
    }

    /// The same of any axis.
    pub(crate) fn of_axis(value: &'a AxisValue, kind: Kind) -> Self {
        match value {
            AxisValue::Absent => Self::Absent,
            AxisValue::Scalar(scalar) => Self::of(scalar, kind),
            AxisValue::Whole(value) => Self::Integer(*value),
        }
    }
}

/// Rows on their way into a file.
pub(crate) struct Sheet<W: Write + Send> {
    columns: Vec<Column>,
    rows: Rows<W>,
    /// A row's text, to be written at once.
    line: Vec<u8>,
}

enum Rows<W: Write + Send> {
    Csv(W),
    Jsonl(W),
    Parquet(Box<ParquetRows<W>>),
}

impl<W: Write + Send> Sheet<W> {
    pub(crate) fn new(format: SheetFormat, columns: Vec<Column>, mut out: W) -> io::Result<Self> {
        let rows = match format {
            SheetFormat::Csv => {
                let header: Vec<_> = columns.iter().map(|column| csv_text(&column.name)).collect();
                writeln!(out, "{}", header.join(","))?;
                Rows::Csv(out)
            }
            SheetFormat::Jsonl => Rows::Jsonl(out),
            SheetFormat::Parquet => Rows::Parquet(Box::new(ParquetRows::new(&columns, out)?)),
        };
        Ok(Self { columns, rows, line: Vec::new() })
    }

    /// Takes a row: a value for each column.
    pub(crate) fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        self.line.clear();
        match &mut self.rows {
            Rows::Csv(out) => {
                csv_line(&mut self.line, values)?;
                out.write_all(&self.line)
            }
            Rows::Jsonl(out) => {
                json_line(&mut self.line, &self.columns, values)?;
                out.write_all(&self.line)
            }
            Rows::Parquet(rows) => rows.row(values),
        }
    }

    /// Writes what is left; gives the writer back.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self.rows {
            Rows::Csv(mut out) | Rows::Jsonl(mut out) => {
                out.flush()?;
                Ok(out)
            }
            Rows::Parquet(rows) => rows.finish(),
        }
    }
}

fn csv_line(line: &mut Vec<u8>, values: &[Value<'_>]) -> io::Result<()> {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        match value {
            Value::Absent => {}
            Value::Text(text) => line.extend_from_slice(csv_text(text).as_bytes()),
            Value::Made(text) => line.extend_from_slice(csv_text(text).as_bytes()),
            Value::Number(value) => line.extend_from_slice(number(*value).as_bytes()),
            Value::Integer(value) => write!(line, "{value}")?,
            Value::Flag(flag) => write!(line, "{flag}")?,
        }
    }
    line.push(b'\n');
    Ok(())
}

fn json_line(line: &mut Vec<u8>, columns: &[Column], values: &[Value<'_>]) -> io::Result<()> {
    for (index, (column, value)) in columns.iter().zip(values).enumerate() {
        line.push(if index == 0 { b'{' } else { b',' });
        serde_json::to_writer(&mut *line, &column.name)?;
        line.push(b':');
        match value {
            Value::Absent => line.extend_from_slice(b"null"),
            Value::Text(text) => serde_json::to_writer(&mut *line, text)?,
            Value::Made(text) => serde_json::to_writer(&mut *line, text)?,
            Value::Number(value) => serde_json::to_writer(&mut *line, value)?,
            Value::Integer(value) => serde_json::to_writer(&mut *line, value)?,
            Value::Flag(flag) => serde_json::to_writer(&mut *line, flag)?,
        }
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

/// A CSV field: quoted where a comma, a quote or a line break would end it.
pub fn csv_text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}
