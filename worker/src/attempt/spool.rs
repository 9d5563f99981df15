//! Batches that wait on disk, in order, while the coordinator cannot be reached for long.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use prost::Message as _;
use sortie_proto::v1;

/// Bytes of one attempt on disk at most: months of training losses.
const BYTES_MAX: u64 = 1 << 30;
/// Each batch follows its length.
const HEADER_BYTES: u64 = 4;

/// A queue in a file, which exists only while it is not empty. No other process reads it, and it is deleted with the agent: leases end
/// with their agent.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    file: Option<File>,
    bytes_max: u64,
    /// Where the oldest batch begins.
    start: u64,
    /// Where the newest one ends.
    end: u64,
}

impl Spool {
    /// An empty queue that will use this file.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None, bytes_max: BYTES_MAX, start: 0, end: 0 }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Puts a batch at the end.
    ///
    /// # Errors
    /// When the disk or the limit has no room for it; the queue is as before then.
    pub(crate) fn push(&mut self, batch: &v1::Batch) -> io::Result<()> {
        let length = u32::try_from(batch.encoded_len()).map_err(io::Error::other)?;
        let frame_bytes = HEADER_BYTES + u64::from(length);
        if self.end + frame_bytes > self.bytes_max {
            return Err(io::Error::new(ErrorKind::StorageFull, format!("{} bytes wait already", self.end)));
        }
        let mut frame = length.to_le_bytes().to_vec();
        frame.extend(batch.encode_to_vec());
        let file = match &mut self.file {
            Some(file) => file,
            none => none
                .insert(File::options().read(true).write(true).create(true).truncate(true).open(&self.path)?),
        };
        // A frame that was written in part lies behind `end`, and the next one overwrites it.
        file.write_all_at(&frame, self.end)?;
        self.end += frame_bytes;
        Ok(())
    }

    /// Takes the batch at the front; none if nothing waits.
    ///
    /// # Errors
    /// When a batch cannot be read.
    pub(crate) fn pop(&mut self) -> io::Result<Option<v1::Batch>> {
        let Some(file) = self.file.as_ref().filter(|_| !self.is_empty()) else {
            return Ok(None);
        };
        let mut header = [0_u8; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, self.start)?;
        let length = u64::from(u32::from_le_bytes(header));
        if self.start + HEADER_BYTES + length > self.end {
            return Err(io::Error::new(ErrorKind::InvalidData, "the file was changed by somebody else"));
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, self.start + HEADER_BYTES)?;
        let batch = v1::Batch::decode(bytes.as_slice()).map_err(io::Error::other)?;
        self.start += HEADER_BYTES + length;
        if self.is_empty() {
            self.clear();
        }
        Ok(Some(batch))
    }

    /// Drops everything and gives the disk its room back.
    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        if self.file.take().is_some() {
            // A file that stays is removed with the agent's folder.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sequence: u64) -> v1::Batch {
        v1::Batch { sequence, log: vec![b'x'; 100], ..v1::Batch::default() }
    }

    #[test]
    fn batches_come_out_as_they_went_in_and_the_file_goes_when_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.reports");
        let mut spool = Spool::new(path.clone());
        assert!(spool.pop().unwrap().is_none() && !path.exists());
        for round in 0..3 {
            for sequence in 0..5 {
                spool.push(&batch(round * 10 + sequence)).unwrap();
            }
            assert!(path.exists() && !spool.is_empty());
            for sequence in 0..5 {
                assert_eq!(spool.pop().unwrap(), Some(batch(round * 10 + sequence)));
            }
            assert!(spool.is_empty() && spool.pop().unwrap().is_none() && !path.exists());
        }
        spool.push(&batch(1)).unwrap();
        drop(spool);
        assert!(!path.exists());
    }

    #[test]
    fn a_full_one_refuses_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path().join("1.reports"));
        spool.bytes_max = 250;
        spool.push(&batch(1)).unwrap();
        spool.push(&batch(2)).unwrap();
        assert_eq!(spool.push(&batch(3)).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!((spool.pop().unwrap(), spool.pop().unwrap()), (Some(batch(1)), Some(batch(2))));
        spool.push(&batch(3)).unwrap();
        assert_eq!(spool.pop().unwrap(), Some(batch(3)));
        let mut nowhere = Spool::new(folder.path().join("gone/1.reports"));
        assert!(nowhere.push(&batch(1)).is_err() && nowhere.is_empty());
    }

    #[test]
    fn a_file_that_somebody_changed_is_no_batch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.reports");
        let mut spool = Spool::new(path.clone());
        spool.push(&batch(1)).unwrap();
        std::fs::write(&path, [0xff; 50]).unwrap();
        assert!(spool.pop().is_err());
        std::fs::write(&path, []).unwrap();
        assert!(spool.pop().is_err());
    }
}
