//! The workers' journals: what the coordinator has acknowledged.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// One acknowledged call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Acknowledged {
    /// The attempt.
    pub token: i64,
    /// The hash of its trial.
    pub trial: String,
    /// The batch's number; none for an end without a batch.
    pub sequence: Option<u64>,
    /// What the batch brought.
    pub evaluations: Vec<Evaluation>,
    /// Step, and the bits of the training loss in hexadecimal.
    pub losses: Vec<(i64, String)>,
    /// `succeeded`, `diverged` or `failed` for the end of an attempt.
    pub outcome: Option<String>,
}

/// One evaluation of a batch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Evaluation {
    /// The judged model.
    pub method: String,
    /// The step after whose update it was judged.
    pub step: i64,
    /// The domain.
    pub domain: String,
    /// `in` or `out`.
    pub split: String,
    /// Images.
    pub n: i64,
    /// Correct ones.
    pub correct: i64,
    /// Bits in hexadecimal, if a loss was told.
    pub loss: Option<String>,
    /// Bits in hexadecimal, if an accuracy was told instead of correct ones.
    pub value: Option<String>,
}

/// The calls in one journal. A worker that was killed before it opened one has none.
///
/// # Errors
/// When a line is none of a journal. What stands behind the last newline was cut short by a kill, and was never said to be there.
pub fn read(path: &Path) -> Result<Vec<Acknowledged>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line| serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()));
    whole.lines().map(parse).collect()
}

/// The number whose bits these hexadecimal digits are.
///
/// # Errors
/// When they are none.
pub fn bits(text: &str) -> Result<u64> {
    u64::from_str_radix(text, 16).with_context(|| format!("{text:?} is no number in hexadecimal"))
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
