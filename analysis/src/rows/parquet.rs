//! Rows as Apache Parquet.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::types::Type;

use super::{CellValue, Column, ColumnKind};

/// Rows in memory before they are written as one group: some tens of MiB.
const GROUP_ROWS: usize = 1 << 16;

/// Writes rows to a Parquet file, one group at a time.
pub(super) struct ParquetRows<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<ColumnBuffer>,
    rows: usize,
}

/// The values of a column that are not written yet.
struct ColumnBuffer {
    values: Values,
    /// For each row 1, or 0 without a value.
    levels: Vec<i16>,
}

enum Values {
    Text(TextBuffer),
    Number(Vec<f64>),
    Integer(Vec<i64>),
    Flag(Vec<bool>),
}

/// Texts. Equal texts share memory.
#[derive(Default)]
struct TextBuffer {
    known: HashMap<String, ByteArray>,
    values: Vec<ByteArray>,
}

impl<W: Write + Send> ParquetRows<W> {
    pub(super) fn new(columns: &[Column], out: W) -> io::Result<Self> {
        let field = |column: &Column| {
            let (physical, logical) = match column.kind {
                ColumnKind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                ColumnKind::Number => (Physical::DOUBLE, None),
                ColumnKind::Integer => (Physical::INT64, None),
                ColumnKind::Flag => (Physical::BOOLEAN, None),
            };
            let field =
                Type::primitive_type_builder(&column.name, physical).with_repetition(Repetition::OPTIONAL);
            field.with_logical_type(logical).build().map(Arc::new)
        };
        let fields = columns.iter().map(field).collect::<Result<_, _>>().map_err(failed)?;
        let schema = Type::group_type_builder("rows").with_fields(fields).build().map_err(failed)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
        Ok(Self {
            file,
            columns: columns.iter().map(|column| ColumnBuffer::of(column.kind)).collect(),
            rows: 0,
        })
    }

    pub(super) fn row(&mut self, values: &[CellValue<'_>]) -> io::Result<()> {
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(value);
        }
        self.rows += 1;
        if self.rows == GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> io::Result<()> {
        let mut group = self.file.next_row_group().map_err(failed)?;
        for column in &mut self.columns {
            let Some(mut writer) = group.next_column().map_err(failed)? else { break };
            column.write(&mut writer).map_err(failed)?;
            writer.close().map_err(failed)?;
        }
        group.close().map_err(failed)?;
        self.rows = 0;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.rows > 0 {
            self.write_group()?;
        }
        let mut out = self.file.into_inner().map_err(failed)?;
        out.flush()?;
        Ok(out)
    }
}

impl ColumnBuffer {
    fn of(kind: ColumnKind) -> Self {
        let values = match kind {
            ColumnKind::Text => Values::Text(TextBuffer::default()),
            ColumnKind::Number => Values::Number(Vec::new()),
            ColumnKind::Integer => Values::Integer(Vec::new()),
            ColumnKind::Flag => Values::Flag(Vec::new()),
        };
        Self { values, levels: Vec::new() }
    }

    fn push(&mut self, value: &CellValue<'_>) {
        match (&mut self.values, value) {
            (Values::Text(texts), CellValue::Text(text)) => texts.push(text),
            (Values::Text(texts), CellValue::Made(text)) => texts.push(text),
            (Values::Number(numbers), CellValue::Number(number)) => numbers.push(*number),
            // Integers are below 2^63, as in the databases.
            (Values::Integer(integers), CellValue::Integer(integer)) => {
                integers.push(i64::try_from(*integer).unwrap_or(i64::MAX))
            }
            (Values::Flag(flags), CellValue::Flag(flag)) => flags.push(*flag),
            _ => {
                self.levels.push(0);
                return;
            }
        }
        self.levels.push(1);
    }

    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = Some(self.levels.as_slice());
        match &mut self.values {
            Values::Text(TextBuffer { known, values }) => {
                writer.typed::<ByteArrayType>().write_batch(values, levels, None)?;
                values.clear();
                known.clear();
            }
            Values::Number(numbers) => {
                writer.typed::<DoubleType>().write_batch(numbers, levels, None)?;
                numbers.clear();
            }
            Values::Integer(integers) => {
                writer.typed::<Int64Type>().write_batch(integers, levels, None)?;
                integers.clear();
            }
            Values::Flag(flags) => {
                writer.typed::<BoolType>().write_batch(flags, levels, None)?;
                flags.clear();
            }
        }
        self.levels.clear();
        Ok(())
    }
}

impl TextBuffer {
    fn push(&mut self, text: &str) {
        let same = self
            .values
            .last()
            .filter(|newest| newest.data() == text.as_bytes())
            .or_else(|| self.known.get(text))
            .cloned();
        let shared = same.unwrap_or_else(|| {
            let new = ByteArray::from(text.as_bytes().to_vec());
            self.known.insert(text.to_owned(), new.clone());
            new
        });
        self.values.push(shared);
    }
}

/// An error of the output is wrapped in an error of the format.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
