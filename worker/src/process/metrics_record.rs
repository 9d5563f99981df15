//! The metrics that the attempts at a trial printed, in a file beside the program's checkpoints: a command that goes on from a checkpoint does
//! not print again what it printed before, and the result needs it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sortie_core::command::CommandSettings;
use sortie_core::pipe::Event;

use super::metric_lines::MetricLines;

/// Bytes of a trial's metrics that are kept, at most. An attempt that prints more cannot be gone on from.
const BYTES_MAX: u64 = 256 << 20;

/// Writes what an attempt prints.
#[derive(Debug)]
pub(crate) struct MetricsRecord {
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The attempt has printed no metric: the file has those of earlier ones.
    Earlier,
    Open {
        file: File,
        written: u64,
    },
    /// Full, or the disk refused it.
    Closed,
}

impl MetricsRecord {
    /// Of an attempt that has printed nothing yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, state: State::Earlier }
    }

    /// Notes what was printed. With the first metric come those of earlier attempts that are still part of the result.
    pub(crate) fn note(&mut self, events: &[Event]) {
        let of_metrics = |event: &&Event| {
            matches!(event, Event::Losses(_) | Event::Evaluations(_) | Event::Resumed(_) | Event::Progress(_))
        };
        if matches!(self.state, State::Closed) || events.iter().find(of_metrics).is_none() {
            return;
        }
        if let Err(error) = self.write(events) {
            tracing::warn!(path = %self.path.display(), %error, "a later attempt cannot go on from this one's checkpoints");
            self.state = State::Closed;
            // Without it, checkpoints are not gone on from: the result would lack what was printed before.
            let _ = fs::remove_file(&self.path);
        }
    }

    fn write(&mut self, events: &[Event]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events.iter().filter(|event| matches!(event, Event::Losses(_) | Event::Evaluations(_))) {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        let (file, written) = match &mut self.state {
            State::Open { file, written } => (file, written),
            _ => {
                sortie_files::replace(&self.path, &lines)?;
                let file = File::options().append(true).open(&self.path)?;
                self.state = State::Open { file, written: lines.len() as u64 };
                return Ok(());
            }
        };
        *written += lines.len() as u64;
        if *written > BYTES_MAX {
            return Err(io::Error::other(format!("more than {BYTES_MAX} bytes of metrics")));
        }
        // One call: a worker that is killed leaves all of it or nothing.
        file.write_all(&lines)
    }
}

/// Adds the metrics among what a command had printed when its worker was killed, which read them no more.
///
/// # Errors
/// What the system says.
pub(crate) fn add_unread(path: &Path, unread: &Path, settings: &CommandSettings) -> io::Result<()> {
    let output = match fs::read(unread) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        output => output?,
    };
    let mut text = Vec::new();
    for event in in_output(settings, &output) {
        // A line that was not whole ends here.
        text.push(b'\n');
        serde_json::to_writer(&mut text, &event)?;
    }
    text.push(b'\n');
    File::options().append(true).open(path)?.write_all(&text)?;
    fs::remove_file(unread)
}

/// What is in the file. A line that is not whole is passed over: the worker was killed while it wrote it.
pub(crate) fn read(path: &Path) -> Vec<Event> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The metrics among what a command had printed and its worker had not read.
fn in_output(settings: &CommandSettings, output: &[u8]) -> Vec<Event> {
    let mut lines = MetricLines::new(settings);
    let read = output.split(|byte| matches!(byte, b'\n' | b'\r')).filter_map(|line| lines.read(line).ok());
    let events = read.flat_map(|reading| reading.events);
    events.filter(|event| matches!(event, Event::Losses(_) | Event::Evaluations(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::metrics::TrainingLoss;
    use sortie_core::pipe::Progress;

    fn loss(step: u64) -> Event {
        Event::Losses(vec![TrainingLoss { step, loss: 0.1 + 0.2, seconds: None }])
    }

    #[test]
    fn the_first_metric_of_an_attempt_takes_the_place_of_what_earlier_ones_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics");
        let mut first = MetricsRecord::new(path.clone());
        for step in 0..3 {
            first.note(&[loss(step), Event::Progress(Progress { step })]);
        }
        assert_eq!(read(&path), [loss(0), loss(1), loss(2)]);
        // The worker is killed while it writes.
        let torn = fs::read_to_string(&path).unwrap() + "{\"losses\":[{\"st";
        fs::write(&path, torn).unwrap();
        assert_eq!(read(&path), [loss(0), loss(1), loss(2)]);
        let mut second = MetricsRecord::new(path.clone());
        second.note(&[]);
        assert_eq!(read(&path).len(), 3, "it has printed nothing yet");
        second.note(&[loss(0), loss(1), loss(2)]);
        second.note(&[loss(3)]);
        assert_eq!(read(&path), [loss(0), loss(1), loss(2), loss(3)]);
    }

    #[test]
    fn what_a_killed_worker_had_not_read_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let [path, unread] = ["metrics", "unread"].map(|name| folder.path().join(name));
        let settings = CommandSettings {
            command: vec!["x".to_owned()],
            dataset: None,
            domains: Vec::new(),
            steps: None,
            complete_at: None,
        };
        add_unread(&path, &unread, &settings).unwrap();
        MetricsRecord::new(path.clone()).note(&[loss(0)]);
        fs::write(
            &unread,
            "ep\":1,\"loss\":5}\nhello\n{\"step\":1,\"loss\":0.30000000000000004}\n{\"step\":2",
        )
        .unwrap();
        add_unread(&path, &unread, &settings).unwrap();
        assert_eq!(read(&path), [loss(0), loss(1)]);
        assert!(!unread.exists());
    }

    #[test]
    fn a_record_that_would_lack_metrics_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics");
        let mut record = MetricsRecord::new(path.clone());
        record.note(&[loss(0)]);
        if let State::Open { written, .. } = &mut record.state {
            *written = BYTES_MAX;
        }
        record.note(&[loss(1)]);
        assert!(!path.exists());
        record.note(&[loss(2)]);
        assert!(!path.exists());
    }
}
