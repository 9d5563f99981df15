//! The workers' journals of calls that the coordinator has acknowledged.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// One acknowledged call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct AcknowledgedCall {
    /// The attempt.
    pub token: i64,
    /// The hash of its trial.
    pub trial: String,
    /// The number of its batch; none for an end without a batch.
    pub sequence: Option<u64>,
    /// The evaluations of the batch.
    pub evaluations: Vec<JournalEvaluation>,
    /// Steps with the bits of their training losses in hexadecimal.
    pub losses: Vec<(i64, String)>,
    /// `succeeded`, `diverged` or `failed` for the end of an attempt.
    pub outcome: Option<String>,
}

/// One evaluation of a batch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct JournalEvaluation {
    /// The evaluated method.
    pub method: String,
    /// The step after whose update it was evaluated.
    pub step: i64,
    /// The domain.
    pub domain: String,
    /// `in` or `out`.
    pub split: String,
    /// The number of images.
    pub n: i64,
    /// The number of correctly classified images.
    pub correct: i64,
    /// The bits of the loss in hexadecimal, if it was reported.
    pub loss: Option<String>,
    /// The bits of the accuracy in hexadecimal, if it was reported instead of the number of correct images.
    pub value: Option<String>,
}

/// Reads the calls in one journal. There is no file if the worker was killed before it opened one. Text after the last newline is ignored:
/// a kill cut it short, and nothing in it was acknowledged.
///
/// # Errors
/// When a line does not belong to a journal.
pub fn read(path: &Path) -> Result<Vec<AcknowledgedCall>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line| serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()));
    whole.lines().map(parse).collect()
}

/// Reads the bits of a number in hexadecimal.
///
/// # Errors
/// When the text is not a hexadecimal number.
pub fn bits(text: &str) -> Result<u64> {
    u64::from_str_radix(text, 16).with_context(|| format!("{text:?} is not a hexadecimal number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_read_and_a_torn_one_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert_eq!(read(&path).unwrap(), []);
        let line = r#"{"token":7,"trial":"ab","sequence":null,"evaluations":[],"losses":[[3,"3fe0000000000000"]],"outcome":"failed"}"#;
        fs::write(&path, format!("{line}\n{}", &line[..20])).unwrap();
        let calls = read(&path).unwrap();
        assert_eq!((calls.len(), calls[0].token, calls[0].outcome.as_deref()), (1, 7, Some("failed")));
        assert_eq!(bits(&calls[0].losses[0].1).unwrap(), 0.5_f64.to_bits());
        fs::write(&path, &line[..20]).unwrap();
        assert_eq!(read(&path).unwrap(), []);
        fs::write(&path, "nonsense\n").unwrap();
        assert!(read(&path).is_err());
    }
}
