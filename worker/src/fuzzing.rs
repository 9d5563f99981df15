//! What fuzz targets need of this crate: the output of trials' processes, read as the agent of an attempt reads it.

use sortie_core::command::CommandSettings;
use sortie_core::job::Outcome;
use sortie_core::pipe::{Event, LINE_BYTES_MAX};

use crate::process::launch::OutputParser;
use crate::process::lines::Lines;
use crate::process::metric_lines::MetricLines;

/// What an output means.
#[derive(Debug, Default, PartialEq)]
pub struct Read {
    /// The events.
    pub events: Vec<Event>,
    /// The outcome of a process that broke the schema; nothing is read after it.
    pub broken: Option<Outcome>,
    /// What people should know of it.
    pub notes: Vec<String>,
}

/// The output of a trainer, in these chunks.
pub fn trainer_output<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Read {
    read(OutputParser::Events, chunks)
}

/// The output of a command, in these chunks.
pub fn command_output<'a>(settings: &CommandSettings, chunks: impl Iterator<Item = &'a [u8]>) -> Read {
    read(OutputParser::Metrics(Box::new(MetricLines::new(settings))), chunks)
}

fn read<'a>(mut parser: OutputParser, chunks: impl Iterator<Item = &'a [u8]>) -> Read {
    let (mut lines, mut found) = (Lines::new(LINE_BYTES_MAX), Read::default());
    let whole = chunks.flat_map(|chunk| lines.push(chunk)).collect::<Vec<_>>();
    for line in whole.into_iter().chain(lines.rest()) {
        match parser.read(&line) {
            Ok(reading) => found.events.extend(reading.events),
            Err(outcome) => {
                found.broken = Some(outcome);
                break;
            }
        }
    }
    found.events.extend(parser.rest());
    found.notes = parser.end().1;
    found
}
