//! What a trial's process prints: a file per attempt, with a limit, and its head and tail for the coordinator.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use sortie_core::job::Outcome;

use crate::attempt::log_head_tail::LogHeadTail;
use crate::process::escapes::without_escapes;
use crate::process::lines::{Line, LineEnd, Lines};

/// Bytes that are kept of one attempt. The beginning is kept, since a fault that floods the log shows first there.
const BYTES_MAX: u64 = 8 << 20;
/// Lines that an error message quotes.
const TAIL_LINES: usize = 3;
/// Bytes that an error message quotes of one line.
const TAIL_LINE_BYTES: usize = 400;

/// The log of one attempt. Its file is created with the first byte, so attempts that print nothing leave none.
#[derive(Debug)]
pub(crate) struct AttemptLog {
    path: PathBuf,
    state: FileState,
    bytes_max: u64,
    lines: Lines,
    tail: Tail,
    head_tail: LogHeadTail,
}

/// The last lines that are not empty, as a terminal would show them.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    /// The next line is written over the last one.
    returned: bool,
}

/// What is left to report of an attempt's output when it is over.
#[derive(Debug, Default)]
pub(crate) struct LastOutput {
    /// Its last lines that are not empty, joined into one.
    pub(crate) lines: String,
    /// The tail.
    pub(crate) head_tail: Vec<u8>,
    /// What a command that ends with exit status 0 lacks for success, if anything.
    pub(crate) lacks: Option<Outcome>,
    /// What of its metrics is not used, a line for each kind.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug)]
enum FileState {
    None,
    Open {
        file: File,
        written: u64,
    },
    /// Full, or the disk refused it. A log that cannot be written ends no trial.
    Closed,
}

impl AttemptLog {
    /// A log that will be written to this file.
    pub(crate) fn new(path: PathBuf) -> Self {
        let (lines, tail) = (Lines::new(TAIL_LINE_BYTES), Tail::default());
        Self {
            path,
            state: FileState::None,
            bytes_max: BYTES_MAX,
            lines,
            tail,
            head_tail: LogHeadTail::default(),
        }
    }

    /// Adds what the process printed; gives what of it the coordinator gets at once.
    pub(crate) fn write<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        for line in self.lines.push(bytes) {
            self.tail.push(&line);
        }
        if let Err(error) = self.write_to_file(bytes) {
            tracing::warn!(path = %self.path.display(), %error, "cannot write a trial's log");
            self.state = FileState::Closed;
        }
        self.head_tail.push(bytes)
    }

    /// What is left to report when the process has ended.
    pub(crate) fn end(self) -> LastOutput {
        let Self { lines, mut tail, head_tail, .. } = self;
        if let Some(rest) = lines.rest() {
            tail.push(&rest);
        }
        let lines = tail.lines.make_contiguous().join(" | ");
        LastOutput { lines, head_tail: head_tail.end(), ..LastOutput::default() }
    }

    fn write_to_file(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if matches!(self.state, FileState::None) && !bytes.is_empty() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            self.state = FileState::Open { file: File::create(&self.path)?, written: 0 };
        }
        let FileState::Open { file, written } = &mut self.state else {
            return Ok(());
        };
        let room = usize::try_from(self.bytes_max - *written).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        file.write_all(kept)?;
        *written += kept.len() as u64;
        if kept.len() < bytes.len() {
            file.write_all(b"\n[the rest was not kept]\n")?;
            self.state = FileState::Closed;
        }
        Ok(())
    }
}

impl Tail {
    fn push(&mut self, line: &Line) {
        let text = String::from_utf8_lossy(&without_escapes(&line.text)).into_owned();
        let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
        if text.is_empty() {
            // After `\r\n` nothing is written over the line.
            self.returned &= line.end != LineEnd::Newline;
            return;
        }
        if std::mem::replace(&mut self.returned, line.end == LineEnd::Return) {
            self.lines.pop_back();
        }
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        let cut = if line.cut { "..." } else { "" };
        self.lines.push_back(format!("{cut}{text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_attempt_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/a.log");
        let mut log = AttemptLog::new(path.clone());
        log.write(b"");
        assert!(!path.exists());
        assert_eq!(log.end().lines, "");
    }

    #[test]
    fn the_beginning_is_kept_and_the_end_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/a.log");
        let mut log = AttemptLog::new(path.clone());
        log.bytes_max = 10;
        log.write(b"first\nsec");
        log.write(b"ond\nthird\n\nfourth\r\nthe\x07 e");
        log.write(b"nd");
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\nseco\n[the rest was not kept]\n");
        assert_eq!(log.end().lines, "third | fourth | the end");
    }

    #[test]
    fn the_tail_is_what_a_terminal_shows() {
        let folder = tempfile::tempdir().unwrap();
        let lines = |printed: &str| {
            let mut log = AttemptLog::new(folder.path().join("a.log"));
            // However the bytes arrive.
            for chunk in printed.as_bytes().chunks(7) {
                log.write(chunk);
            }
            log.end().lines
        };
        let bars: String = (0..300).map(|i| format!("\r{i}|{}|", "#".repeat(50))).collect();
        assert_eq!(
            lines(&format!("{bars}\r\x1b[31mRuntimeError\x1b[0m: the reason\n")),
            "RuntimeError: the reason"
        );
        assert_eq!(lines("one\r\ntwo\r\n\r\n"), "one | two");
        assert_eq!(lines("one\ntwo\nthree\n1%\r2%\r"), "two | three | 2%");
        // Of a long line the end is kept.
        let long = format!("{}the reason\n", "x".repeat(1_000));
        let told = lines(&long);
        assert!(
            told.starts_with("...x") && told.ends_with("xthe reason") && told.len() == TAIL_LINE_BYTES + 3,
            "{told}"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("logs"), b"a file").unwrap();
        let mut log = AttemptLog::new(folder.path().join("logs/a.log"));
        log.write(b"one\n");
        log.write(b"two\n");
        assert_eq!(log.end().lines, "one | two");
    }
}
