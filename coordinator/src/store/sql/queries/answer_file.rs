//! An answer on its way between two processes: messages of the wire, each after its length. The first has the columns, the others a row each.

use std::io::{self, BufWriter, Write};

use prost::Message as _;
use sortie_proto::v1::QueryChunk;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::store::query::QueryRow;
use crate::store::query_limits::QUERY_ROW_BYTES_MAX;
use crate::store::query_wire::{row_of_wire, row_wire};

/// The longest message: a text of bytes that are none has three for each, and each value has some bytes of its own.
const MESSAGE_BYTES_MAX: usize = 3 * QUERY_ROW_BYTES_MAX + (64 << 10);

/// Where a query's answer is written. An error means that nobody reads it any more.
#[derive(Debug)]
pub(super) struct AnswerWriter<W: Write>(BufWriter<W>);

impl<W: Write> AnswerWriter<W> {
    pub(super) fn new(file: W) -> Self {
        Self(BufWriter::new(file))
    }

    /// Tells the columns: the query runs.
    pub(super) fn begin(&mut self, columns: Vec<String>) -> io::Result<()> {
        self.write(&QueryChunk { columns, rows: Vec::new() })?;
        self.0.flush()
    }

    pub(super) fn push(&mut self, row: QueryRow) -> io::Result<()> {
        self.write(&QueryChunk { columns: Vec::new(), rows: vec![row_wire(row)] })
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn write(&mut self, message: &QueryChunk) -> io::Result<()> {
        let bytes = message.encode_to_vec();
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(&bytes)
    }
}

/// Reads the columns of an answer; none if it ends before them.
pub(super) async fn read_columns(file: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<String>>> {
    Ok(read(file).await?.map(|message| message.columns))
}

/// Reads the next row; none at the end.
pub(super) async fn read_row(file: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<QueryRow>> {
    Ok(read(file).await?.and_then(|message| message.rows.into_iter().next()).map(row_of_wire))
}

async fn read(file: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<QueryChunk>> {
    let length = match file.read_u32_le().await {
        Ok(length) => usize::try_from(length).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).await?;
    QueryChunk::decode(bytes.as_slice()).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::query::QueryValue;

    #[tokio::test]
    async fn what_is_written_is_read() {
        let mut file = Vec::new();
        let mut writer = AnswerWriter::new(&mut file);
        writer.begin(vec!["a".to_owned(), "a".to_owned()]).unwrap();
        let rows = [vec![QueryValue::Null, QueryValue::Real(0.1)], vec![QueryValue::Integer(-1)]];
        rows.iter().for_each(|row| writer.push(row.clone()).unwrap());
        writer.finish().unwrap();
        drop(writer);
        let mut read = file.as_slice();
        assert_eq!(read_columns(&mut read).await.unwrap().unwrap(), ["a", "a"]);
        for row in rows {
            assert_eq!(read_row(&mut read).await.unwrap(), Some(row));
        }
        assert_eq!(read_row(&mut read).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_cut_short_or_too_long_is_an_error() {
        let mut file = Vec::new();
        AnswerWriter::new(&mut file).begin(vec!["column".to_owned()]).unwrap();
        file.pop();
        assert!(read_columns(&mut file.as_slice()).await.is_err());
        assert!(
            read_columns(&mut [0xFF; 4].as_slice()).await.unwrap_err().to_string().contains("4294967295")
        );
    }
}
