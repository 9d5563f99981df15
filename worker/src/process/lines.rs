//! Lines out of a stream of bytes, as a terminal shows them, none longer than a limit.

/// Cuts chunks of bytes into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    bytes_max: usize,
    /// The beginning of the line that is being read was dropped.
    cut: bool,
}

/// A line, without what ended it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The line, or the end of one that is longer than the limit: what a program says last comes after the progress that it rewrote.
    pub(crate) text: Vec<u8>,
    /// Its beginning is missing.
    pub(crate) cut: bool,
    /// What ended it.
    pub(crate) end: LineEnd,
}

/// What ends a line. After `\r\n` there are two ends, and an empty line between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// A newline.
    Newline,
    /// A carriage return: what follows is written over the line.
    Return,
    /// The end of the stream.
    Missing,
}

impl Lines {
    /// Lines of at most so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { partial: Vec::new(), bytes_max, cut: false }
    }

    /// Takes a chunk; gives the lines that it completes.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in chunk.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match piece.split_last() {
                Some((b'\n', text)) => (text, Some(LineEnd::Newline)),
                Some((b'\r', text)) => (text, Some(LineEnd::Return)),
                _ => (piece, None),
            };
            self.add(text);
            if let Some(end) = end {
                lines.push(self.take(end));
            }
        }
        lines
    }

    /// What follows the last end of a line, if anything.
    pub(crate) fn rest(mut self) -> Option<Line> {
        (!self.partial.is_empty()).then(|| self.take(LineEnd::Missing))
    }

    fn add(&mut self, text: &[u8]) {
        let kept = &text[text.len().saturating_sub(self.bytes_max)..];
        self.cut |= kept.len() < text.len();
        self.partial.extend_from_slice(kept);
        // Not at each chunk, since all that stays is moved.
        if self.partial.len() > 2 * self.bytes_max {
            self.drop_excess();
        }
    }

    fn drop_excess(&mut self) {
        let excess = self.partial.len().saturating_sub(self.bytes_max);
        self.partial.drain(..excess);
        self.cut |= excess > 0;
    }

    fn take(&mut self, end: LineEnd) -> Line {
        self.drop_excess();
        Line { text: std::mem::take(&mut self.partial), cut: std::mem::take(&mut self.cut), end }
    }
}

impl LineEnd {
    /// The byte that a log gets behind the line.
    pub(crate) fn byte(self) -> u8 {
        if self == Self::Return { b'\r' } else { b'\n' }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(text: &str, end: LineEnd) -> Line {
        Line { text: text.as_bytes().to_vec(), cut: false, end }
    }

    fn whole(text: &str) -> Line {
        line(text, LineEnd::Newline)
    }

    #[test]
    fn lines_come_out_however_the_bytes_arrive() {
        let mut lines = Lines::new(8);
        assert_eq!(lines.push(b"one\ntw"), [whole("one")]);
        assert_eq!(lines.push(b""), []);
        assert_eq!(lines.push(b"o\n\n12345678\nhalf"), [whole("two"), whole(""), whole("12345678")]);
        assert_eq!(lines.rest(), Some(line("half", LineEnd::Missing)));
        assert_eq!(Lines::new(8).rest(), None);
    }

    #[test]
    fn a_carriage_return_ends_a_line_too() {
        let mut lines = Lines::new(8);
        let returned = |text| line(text, LineEnd::Return);
        assert_eq!(lines.push(b"10%\r20%\rdone\r"), [returned("10%"), returned("20%"), returned("done")]);
        assert_eq!(lines.push(b"\nnext"), [whole("")]);
        assert_eq!(lines.push(b"\r"), [returned("next")]);
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn the_end_of_a_line_over_the_limit_is_kept_and_the_next_one_is_whole() {
        let mut lines = Lines::new(4);
        assert_eq!(lines.push(b"12345"), []);
        assert_eq!(lines.push(&[b'x'; 1000]), []);
        let cut = |text: &[u8], end| Line { text: text.to_vec(), cut: true, end };
        assert_eq!(lines.push(b"yz\nnext\n12345"), [cut(b"xxyz", LineEnd::Newline), whole("next")]);
        assert_eq!(lines.rest(), Some(cut(b"2345", LineEnd::Missing)));
    }

    proptest! {
        /// However a stream is cut into chunks, no byte is lost, and nothing above twice the limit is held.
        #[test]
        fn chunks_make_no_difference(text in "[ab\\r\\n]{0,60}", cuts in proptest::collection::vec(0..7_usize, 0..40)) {
            let mut lines = Lines::new(9);
            let (mut rest, mut read) = (text.as_bytes(), Vec::new());
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                read.extend(lines.push(chunk));
                prop_assert!(lines.partial.len() <= 18);
                rest = after;
            }
            read.extend(lines.push(rest));
            read.extend(lines.rest());
            let expected = text.split_inclusive(['\n', '\r']).map(|piece| {
                let end = match piece.as_bytes().last() {
                    Some(b'\n') => LineEnd::Newline,
                    Some(b'\r') => LineEnd::Return,
                    _ => LineEnd::Missing,
                };
                let line = piece.trim_end_matches(['\n', '\r']);
                let kept = &line[line.len().saturating_sub(9)..];
                Line { text: kept.as_bytes().to_vec(), cut: kept.len() < line.len(), end }
            });
            prop_assert_eq!(read, expected.collect::<Vec<_>>());
        }
    }
}
