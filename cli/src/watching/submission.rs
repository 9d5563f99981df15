//! The progress of storing trials.

use std::io::IsTerminal;

use anyhow::Result;
use indicatif::ProgressBar;
use sortie_core::keep;
use sortie_proto::v1::{LackingTrials, SubmitProgress};
use tonic::Streaming;

use super::bar::bar;
use crate::connection::ClientError;
use crate::output;

/// Shows the progress of a submission until it is done. Returns what was stored.
///
/// # Errors
/// The coordinator went away in the middle, or refuses.
pub async fn follow_submission(
    mut progress: Streaming<SubmitProgress>,
    json: bool,
) -> Result<SubmitProgress> {
    let mut reporter = Reporter::new(json)?;
    loop {
        match progress.message().await.map_err(ClientError::from)? {
            Some(progress) if progress.done => {
                reporter.bar.finish_and_clear();
                return Ok(progress);
            }
            Some(progress) => reporter.show(&progress),
            None => return Err(ClientError::ConnectionLost.into()),
        }
    }
}

/// Trials whose results lack something, in one line; none without any. Files can be done without, methods cannot.
pub fn lacking_line(lacking: Option<LackingTrials>, what: &str) -> Option<String> {
    let lacking = keep::LackingTrials::from(lacking.unwrap_or_default());
    let files = lacking.weights + lacking.selected + lacking.logits > 0;
    let instead = match (files, lacking.average + lacking.ensemble > 0) {
        (false, _) => "",
        (true, false) => "; --reuse-anyway lets their results count as they are",
        (true, true) => "; --reuse-anyway lets the results that lack only files count as they are",
    };
    (lacking.trials > 0).then(|| format!("{lacking}: they {what}{instead}"))
}

/// A bar on a terminal; elsewhere a line for every tenth, none for a small sweep.
struct Reporter {
    bar: ProgressBar,
    plain: bool,
    tenths: u64,
}

impl Reporter {
    fn new(json: bool) -> Result<Self> {
        let terminal = std::io::stderr().is_terminal() && !json;
        Ok(Self { bar: bar(terminal)?, plain: !terminal && !json, tenths: 0 })
    }

    fn show(&mut self, progress: &SubmitProgress) {
        let line = format!(
            "{} of {} trials looked at, {} added",
            progress.expanded, progress.planned, progress.added
        );
        self.bar.set_length(progress.planned.max(1));
        self.bar.set_position(progress.expanded);
        self.bar.set_message(line.clone());
        let tenths = 10 * progress.expanded / progress.planned.max(1);
        if self.plain && tenths > self.tenths {
            self.tenths = tenths;
            output::note(&line);
        }
    }
}
