//! The part of an attempt's output that the coordinator gets: its beginning while it runs, its end when it is over.

use std::collections::VecDeque;

/// Bytes of the beginning that are reported as they come.
const HEAD_BYTES: usize = 64 << 10;
/// Bytes of the end that are reported with the end of the attempt.
const TAIL_BYTES: usize = 16 << 10;

/// Divides the output of one attempt.
#[derive(Debug, Default)]
pub(crate) struct LogHeadTail {
    head: usize,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl LogHeadTail {
    /// Takes what was printed; gives the part of it that belongs to the beginning.
    pub(crate) fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head));
        self.head += head.len();
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        self.left_out += excess as u64;
        head
    }

    /// The end of the output as far as it is not in the beginning, behind a line that says how much is missing in between.
    pub(crate) fn end(self) -> Vec<u8> {
        let mut end = Vec::with_capacity(self.tail.len() + 80);
        if self.left_out > 0 {
            end.extend_from_slice(
                format!("\n[... {} bytes were left out here ...]\n", self.left_out).as_bytes(),
            );
        }
        end.extend(self.tail);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_tail(output: &[u8], chunk: usize) -> Vec<u8> {
        let (mut head_tail, mut reported) = (LogHeadTail::default(), Vec::new());
        for chunk in output.chunks(chunk) {
            reported.extend_from_slice(head_tail.push(chunk));
        }
        assert!(reported.len() <= HEAD_BYTES);
        reported.extend(head_tail.end());
        reported
    }

    #[test]
    fn what_fits_is_told_whole_and_of_the_rest_both_ends() {
        let output: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        for chunk in [1, 1_000, 100_000] {
            for length in [0, 10, HEAD_BYTES, HEAD_BYTES + 1, HEAD_BYTES + TAIL_BYTES] {
                assert_eq!(head_tail(&output[..length], chunk), output[..length], "{length}");
            }
            let left_out = output.len() - HEAD_BYTES - TAIL_BYTES;
            let marker = format!("\n[... {left_out} bytes were left out here ...]\n");
            let expected =
                [&output[..HEAD_BYTES], marker.as_bytes(), &output[output.len() - TAIL_BYTES..]].concat();
            assert_eq!(head_tail(&output, chunk), expected);
        }
    }
}
