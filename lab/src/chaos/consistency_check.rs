//! Compares the calls that workers saw acknowledged with the rows of the database: nothing may be lost or counted twice. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::journal::{AcknowledgedCall, bits};
use super::stored_rows::{StoredEvaluation, StoredRows};

/// The inconsistencies, a line each, and the steps that the faults cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsistencyReport {
    /// What was acknowledged and is missing in the database, or different there.
    pub lost: Vec<String>,
    /// Trials with more than one accepted result.
    pub doubled: Vec<String>,
    /// Steps reported by attempts that were not accepted.
    pub wasted_steps: u64,
}

/// Compares the database with the journals.
///
/// # Errors
/// When a journal holds an invalid number.
pub fn check_consistency(stored: &StoredRows, journal: &[AcknowledgedCall]) -> Result<ConsistencyReport> {
    let mut report = ConsistencyReport { wasted_steps: wasted_steps(stored), ..ConsistencyReport::default() };
    // The attempts that ended each trial, according to the database or to a worker.
    let mut ended: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for (token, attempt) in stored.attempts.iter().filter(|(_, attempt)| is_result(&attempt.outcome)) {
        if let Some(trial) = stored.trials.get(&attempt.trial) {
            ended.entry(&trial.hash).or_default().insert(*token);
        }
    }
    let by_hash: BTreeMap<&str, _> =
        stored.trials.values().map(|trial| (trial.hash.as_str(), trial)).collect();
    for call in journal {
        let AcknowledgedCall { token, trial, outcome, .. } = call;
        report.lost.extend(missing_rows(stored, call)?);
        let Some(outcome) = outcome else { continue };
        if stored.attempts.get(token).is_none_or(|attempt| attempt.outcome != *outcome) {
            let held = stored.attempts.get(token).map_or("nothing", |attempt| &attempt.outcome);
            report.lost.push(format!("attempt {token} at {trial} {outcome}, but the database has {held}"));
        }
        if is_result(outcome) {
            ended.entry(trial).or_default().insert(*token);
            if by_hash.get(trial.as_str()).is_none_or(|held| held.token != *token || held.state != *outcome) {
                report.lost.push(format!(
                    "attempt {token} at {trial} {outcome}, but the database does not count its result"
                ));
            }
        }
    }
    let doubled = ended.into_iter().filter(|(_, tokens)| tokens.len() > 1);
    report.doubled =
        doubled.map(|(trial, tokens)| format!("trial {trial} has the results of {tokens:?}")).collect();
    Ok(report)
}

fn is_result(outcome: &str) -> bool {
    matches!(outcome, "succeeded" | "diverged")
}

/// The rows of a call that the database lacks. Reports of attempts that are not accepted must be stored too.
fn missing_rows(stored: &StoredRows, call: &AcknowledgedCall) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for reported in &call.evaluations {
        let row = StoredEvaluation {
            token: call.token,
            method: reported.method.clone(),
            step: reported.step,
            domain: reported.domain.clone(),
            split: reported.split.clone(),
            n: reported.n,
            correct: if reported.value.is_some() { -1 } else { reported.correct },
            loss: reported.loss.as_deref().map(bits).transpose()?,
        };
        if !stored.evaluations.contains(&row) {
            missing.push(format!("missing row: {row:?}"));
        }
    }
    for (step, loss) in &call.losses {
        if !stored.losses.contains(&(call.token, *step, bits(loss)?)) {
            missing.push(format!("attempt {} has no training loss {loss} of step {step}", call.token));
        }
    }
    Ok(missing)
}

fn wasted_steps(stored: &StoredRows) -> u64 {
    let counts: BTreeSet<i64> =
        stored.trials.values().filter(|trial| is_result(&trial.state)).map(|trial| trial.token).collect();
    let others = stored.attempts.iter().filter(|(token, _)| !counts.contains(token));
    others.map(|(_, attempt)| attempt.step.unsigned_abs()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::journal;
    use super::super::stored_rows::{StoredAttempt, StoredTrial};
    use super::*;

    /// One trial whose first attempt was lost at step 3 and whose second one succeeded.
    fn good() -> (StoredRows, Vec<AcknowledgedCall>) {
        let attempt = |outcome: &str, step| StoredAttempt { trial: 1, outcome: outcome.into(), step };
        let row = |token| StoredEvaluation {
            token,
            method: "plain".into(),
            step: 3,
            domain: "a".into(),
            split: "out".into(),
            n: 9,
            correct: 5,
            loss: Some(0.5_f64.to_bits()),
        };
        let stored = StoredRows {
            trials: BTreeMap::from([(
                1,
                StoredTrial { hash: "ab".into(), state: "succeeded".into(), token: 8 },
            )]),
            attempts: BTreeMap::from([(7, attempt("failed", 3)), (8, attempt("succeeded", 20))]),
            evaluations: BTreeSet::from([row(7), row(8)]),
            losses: BTreeSet::from([(8, 3, 0.25_f64.to_bits())]),
        };
        let evaluation = journal::JournalEvaluation {
            method: "plain".into(),
            step: 3,
            domain: "a".into(),
            split: "out".into(),
            n: 9,
            correct: 5,
            loss: Some(format!("{:016x}", 0.5_f64.to_bits())),
            value: None,
        };
        let call = |token, outcome: Option<&str>| AcknowledgedCall {
            token,
            trial: "ab".into(),
            sequence: Some(1),
            evaluations: vec![evaluation.clone()],
            losses: Vec::new(),
            outcome: outcome.map(str::to_owned),
        };
        let mut last = call(8, Some("succeeded"));
        last.losses.push((3, format!("{:016x}", 0.25_f64.to_bits())));
        (stored, vec![call(7, None), last])
    }

    #[test]
    fn nothing_is_wrong_where_everything_acknowledged_is_there() {
        let (stored, calls) = good();
        assert_eq!(
            check_consistency(&stored, &calls).unwrap(),
            ConsistencyReport { wasted_steps: 3, ..ConsistencyReport::default() }
        );
        // A stored row whose acknowledgement a worker did not receive is no inconsistency.
        assert_eq!(
            check_consistency(&stored, &[]).unwrap(),
            ConsistencyReport { wasted_steps: 3, ..ConsistencyReport::default() }
        );
    }

    #[test]
    fn each_inconsistency_is_found() {
        type Case = (&'static str, fn(&mut StoredRows, &mut Vec<AcknowledgedCall>), usize, usize);
        let cases: [Case; 9] = [
            ("a row that is gone", |stored, _| drop(stored.evaluations.pop_last()), 1, 0),
            (
                "a row of an attempt that does not count",
                |stored, _| drop(stored.evaluations.pop_first()),
                1,
                0,
            ),
            (
                "a bit of a loss",
                |_, calls| calls[0].evaluations[0].loss = Some("3fe0000000000001".into()),
                1,
                0,
            ),
            ("a training loss", |stored, _| stored.losses.clear(), 1, 0),
            (
                "a result that counts no more",
                |stored, _| stored.trials.get_mut(&1).unwrap().state = "queued".into(),
                1,
                0,
            ),
            ("a result of another attempt", |stored, _| stored.trials.get_mut(&1).unwrap().token = 7, 1, 0),
            ("an attempt that is gone", |stored, _| drop(stored.attempts.remove(&8)), 1, 0),
            (
                "two results in the database",
                |stored, _| stored.attempts.get_mut(&7).unwrap().outcome = "diverged".into(),
                0,
                1,
            ),
            (
                "two results according to the workers",
                |_, calls| calls[0].outcome = Some("succeeded".into()),
                2,
                1,
            ),
        ];
        for (what, change, lost, doubled) in cases {
            let (mut stored, mut calls) = good();
            change(&mut stored, &mut calls);
            let report = check_consistency(&stored, &calls).unwrap();
            assert_eq!((report.lost.len(), report.doubled.len()), (lost, doubled), "{what}: {report:?}");
        }
    }

    #[test]
    fn the_canonical_text_tells_results_apart_and_not_the_order_of_events() {
        let (stored, _) = good();
        let text = stored.canonical();
        assert_eq!(text, "ab plain 3 a out 9 5 3fe0000000000000\nab succeeded succeeded");
        let mut other = stored.clone();
        other.evaluations = stored
            .evaluations
            .iter()
            .map(|row| StoredEvaluation { token: row.token + 100, ..row.clone() })
            .collect();
        other.attempts =
            stored.attempts.iter().map(|(token, attempt)| (token + 100, attempt.clone())).collect();
        other.trials.get_mut(&1).unwrap().token = 108;
        assert_eq!(other.canonical(), text);
        other.trials.get_mut(&1).unwrap().token = 107;
        assert_ne!(other.canonical(), text);
    }
}
