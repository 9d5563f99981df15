//! Lines out of a stream of bytes, none longer than a limit.

/// Cuts chunks of bytes into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    bytes_max: usize,
    /// The line that is being read is longer than the limit; the rest of it is dropped.
    too_long: bool,
}

/// A line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A whole line.
    Whole(Vec<u8>),
    /// The beginning of a line that is longer than the limit.
    Truncated(Vec<u8>),
}

impl Lines {
    /// Lines of at most so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { partial: Vec::new(), bytes_max, too_long: false }
    }

    /// Takes a chunk; gives the lines that it completes.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            let (text, complete) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = self.bytes_max - self.partial.len();
            self.too_long |= text.len() > room;
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if complete {
                lines.push(self.take());
            }
        }
        lines
    }

    /// What follows the last newline, if anything.
    pub(crate) fn rest(mut self) -> Option<Vec<u8>> {
        (!self.partial.is_empty()).then(|| std::mem::take(&mut self.partial))
    }

    fn take(&mut self) -> Line {
        let line = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.too_long) { Line::Truncated(line) } else { Line::Whole(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_come_out_however_the_bytes_arrive() {
        let mut lines = Lines::new(8);
        assert_eq!(lines.push(b"one\ntw"), [whole("one")]);
        assert_eq!(lines.push(b""), []);
        assert_eq!(lines.push(b"o\n\n12345678\nhalf"), [whole("two"), whole(""), whole("12345678")]);
        assert_eq!(lines.rest(), Some(b"half".to_vec()));
        assert_eq!(Lines::new(8).rest(), None);
    }

    #[test]
    fn a_line_over_the_limit_is_cut_and_the_next_one_is_whole() {
        let mut lines = Lines::new(4);
        assert_eq!(lines.push(b"12345"), []);
        assert_eq!(lines.push(&[b'x'; 1000]), []);
        assert_eq!(lines.push(b"\nnext\n"), [Line::Truncated(b"1234".to_vec()), whole("next")]);
    }
}
