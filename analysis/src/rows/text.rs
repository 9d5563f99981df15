//! A row as a line of text.

use std::io::{self, Write};

use sortie_core::parameters::number;

use super::{CellValue, Column};

pub(super) fn csv_line(line: &mut Vec<u8>, values: &[CellValue<'_>]) -> io::Result<()> {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        match value {
            CellValue::Absent => {}
            CellValue::Text(text) => line.extend_from_slice(csv_text(text).as_bytes()),
            CellValue::Made(text) => line.extend_from_slice(csv_text(text).as_bytes()),
            CellValue::Number(value) => line.extend_from_slice(number(*value).as_bytes()),
            CellValue::Integer(value) => write!(line, "{value}")?,
            CellValue::Flag(flag) => write!(line, "{flag}")?,
        }
    }
    line.push(b'\n');
    Ok(())
}

pub(super) fn json_line(line: &mut Vec<u8>, columns: &[Column], values: &[CellValue<'_>]) -> io::Result<()> {
    for (index, (column, value)) in columns.iter().zip(values).enumerate() {
        line.push(if index == 0 { b'{' } else { b',' });
        serde_json::to_writer(&mut *line, &column.name)?;
        line.push(b':');
        match value {
            CellValue::Absent => line.extend_from_slice(b"null"),
            CellValue::Text(text) => serde_json::to_writer(&mut *line, text)?,
            CellValue::Made(text) => serde_json::to_writer(&mut *line, text)?,
            CellValue::Number(value) => serde_json::to_writer(&mut *line, value)?,
            CellValue::Integer(value) => serde_json::to_writer(&mut *line, value)?,
            CellValue::Flag(flag) => serde_json::to_writer(&mut *line, flag)?,
        }
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

/// A CSV field, quoted if it contains a comma, a quote or a line break.
pub(crate) fn csv_text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}
