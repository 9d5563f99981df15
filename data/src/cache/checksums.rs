//! Checksums of the blocks of a shared file: CRC-32, one for each 64 KiB of the payload, the last block may be shorter. They are computed
//! from the bytes in memory before these are written, so that damage on the way to the disk is seen, too.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crc32fast::Hasher;

const BLOCK_BYTES: usize = 64 << 10;
const CHECKSUM_BYTES: usize = 4;

/// Bytes of the table of a payload's checksums.
pub(super) fn table_bytes(payload_bytes: usize) -> usize {
    payload_bytes.div_ceil(BLOCK_BYTES) * CHECKSUM_BYTES
}

/// The checksums of a payload that is written in pieces, in any order, from any thread.
#[derive(Default)]
pub(super) struct ChecksumWriter {
    pieces: Mutex<Vec<Piece>>,
}

/// A part of the payload that lies in one block.
struct Piece {
    offset: usize,
    hasher: Hasher,
}

impl ChecksumWriter {
    /// Adds the bytes that are written at an offset of the payload. No byte of it may be written twice.
    pub(super) fn add(&self, offset: usize, mut bytes: &[u8]) {
        let mut pieces = Vec::new();
        let mut offset = offset;
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - offset % BLOCK_BYTES));
            let mut hasher = Hasher::new();
            hasher.update(piece);
            pieces.push(Piece { offset, hasher });
            (offset, bytes) = (offset + piece.len(), rest);
        }
        self.pieces.lock().unwrap_or_else(std::sync::PoisonError::into_inner).append(&mut pieces);
    }

    /// The table, once all bytes have been added.
    pub(super) fn into_table(self) -> Vec<u8> {
        let mut pieces = self.pieces.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        pieces.sort_unstable_by_key(|piece| piece.offset);
        let blocks = pieces.chunk_by(|a, b| a.offset / BLOCK_BYTES == b.offset / BLOCK_BYTES);
        let checksums = blocks.map(|block| {
            let mut whole = Hasher::new();
            block.iter().for_each(|piece| whole.combine(&piece.hasher));
            whole.finalize()
        });
        checksums.flat_map(u32::to_ne_bytes).collect()
    }
}

/// Which blocks of a payload have been checked by this process.
#[derive(Debug)]
pub(super) struct CheckedBlocks {
    bits: Vec<AtomicU64>,
}

impl CheckedBlocks {
    pub(super) fn none(payload_bytes: usize) -> Self {
        let words = payload_bytes.div_ceil(BLOCK_BYTES).div_ceil(64);
        Self { bits: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Checks the blocks that a range of the payload touches and that were not checked yet. The bytes of the first damaged block, if one
    /// is.
    pub(super) fn check(
        &self,
        payload: &[u8],
        table: &[u8],
        range: &Range<usize>,
    ) -> Result<(), Range<usize>> {
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            let (word, bit) = (&self.bits[block / 64], 1 << (block % 64));
            // The bytes never change: who sees the bit needs nothing else of the thread that set it.
            if word.load(Ordering::Relaxed) & bit != 0 {
                continue;
            }
            let start = block * BLOCK_BYTES;
            let bytes = start..payload.len().min(start + BLOCK_BYTES);
            let expected = &table[block * CHECKSUM_BYTES..][..CHECKSUM_BYTES];
            if crc32fast::hash(&payload[bytes.clone()]).to_ne_bytes() != expected {
                return Err(bytes);
            }
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Pieces of any lengths in any order give the table of the whole, and one changed bit is seen where it is read, and only there.
        #[test]
        fn pieces_give_the_checksums_of_the_whole(
            lengths in proptest::collection::vec(0_usize..3 * BLOCK_BYTES / 2, 1..8),
            order in any::<u64>(),
            damaged in any::<prop::sample::Index>(),
        ) {
            let bytes: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|index| (index * 31 % 251) as u8).collect();
            let starts = lengths.iter().scan(0, |end, length| { *end += length; Some(*end - length) });
            let mut pieces: Vec<_> = starts.zip(&lengths).collect();
            pieces.sort_by_key(|&(start, _)| blake3::hash(&(start as u64 ^ order).to_le_bytes()).to_hex());
            let writer = ChecksumWriter::default();
            for (start, length) in pieces {
                writer.add(start, &bytes[start..start + length]);
            }
            let table = writer.into_table();
            prop_assert_eq!(table.len(), table_bytes(bytes.len()));
            let whole = 0..bytes.len();
            prop_assert_eq!(CheckedBlocks::none(bytes.len()).check(&bytes, &table, &whole), Ok(()));
            if !bytes.is_empty() {
                let at = damaged.index(bytes.len());
                let mut changed = bytes.clone();
                changed[at] ^= 4;
                let checked = CheckedBlocks::none(bytes.len());
                let start = at / BLOCK_BYTES * BLOCK_BYTES;
                prop_assert_eq!(checked.check(&changed, &table, &(0..start)), Ok(()));
                let block = start..bytes.len().min(start + BLOCK_BYTES);
                prop_assert_eq!(checked.check(&changed, &table, &(at..at + 1)), Err(block));
            }
        }
    }
}
