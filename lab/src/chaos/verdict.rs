//! Whether anything was lost or counted twice. Pure: what the workers saw acknowledged, and what the database holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::database::{Evaluation, Stored};
use super::journal::{Acknowledged, bits};

/// What is wrong, a line each, and what the trouble cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was acknowledged and is not there, or not as it was said.
    pub lost: Vec<String>,
    /// Trials with more than one result that was accepted.
    pub doubled: Vec<String>,
    /// Steps told of by attempts that do not count.
    pub wasted_steps: u64,
}

/// Compares.
///
/// # Errors
/// When a journal holds what is no number.
pub fn judge(stored: &Stored, journal: &[Acknowledged]) -> Result<Verdict> {
    let mut verdict = Verdict { wasted_steps: wasted(stored), ..Verdict::default() };
    // By trial, the attempts that ended it, by the database's account or by a worker's.
    let mut ended: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for (token, attempt) in stored.attempts.iter().filter(|(_, attempt)| is_result(&attempt.outcome)) {
        if let Some(trial) = stored.trials.get(&attempt.trial) {
            ended.entry(&trial.hash).or_default().insert(*token);
        }
    }
    let by_hash: BTreeMap<&str, _> =
        stored.trials.values().map(|trial| (trial.hash.as_str(), trial)).collect();
    for call in journal {
        let Acknowledged { token, trial, outcome, .. } = call;
        verdict.lost.extend(missing_rows(stored, call)?);
        let Some(outcome) = outcome else { continue };
        if stored.attempts.get(token).is_none_or(|attempt| attempt.outcome != *outcome) {
            let held = stored.attempts.get(token).map_or("nothing", |attempt| &attempt.outcome);
            verdict.lost.push(format!("attempt {token} at {trial} {outcome}, and the database says {held}"));
        }
        if is_result(outcome) {
            ended.entry(trial).or_default().insert(*token);
            if by_hash.get(trial.as_str()).is_none_or(|held| held.token != *token || held.state != *outcome) {
                verdict
                    .lost
                    .push(format!("attempt {token} at {trial} {outcome}, and its result does not count"));
            }
        }
    }
    let doubled = ended.into_iter().filter(|(_, tokens)| tokens.len() > 1);
    verdict.doubled =
        doubled.map(|(trial, tokens)| format!("trial {trial} has the results of {tokens:?}")).collect();
    Ok(verdict)
}

fn is_result(outcome: &str) -> bool {
    matches!(outcome, "succeeded" | "diverged")
}

/// Everything that was acknowledged is kept, also what attempts told that do not count.
fn missing_rows(stored: &Stored, call: &Acknowledged) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for told in &call.evaluations {
        let row = Evaluation {
            token: call.token,
            method: told.method.clone(),
            step: told.step,
            domain: told.domain.clone(),
            split: told.split.clone(),
            n: told.n,
            correct: if told.value.is_some() { -1 } else { told.correct },
            loss: told.loss.as_deref().map(bits).transpose()?,
        };
        if !stored.evaluations.contains(&row) {
            missing.push(format!("no such row: {row:?}"));
        }
    }
    for (step, loss) in &call.losses {
        if !stored.losses.contains(&(call.token, *step, bits(loss)?)) {
            missing.push(format!("attempt {} has no training loss {loss} of step {step}", call.token));
        }
    }
    Ok(missing)
}

fn wasted(stored: &Stored) -> u64 {
    let counts: BTreeSet<i64> =
        stored.trials.values().filter(|trial| is_result(&trial.state)).map(|trial| trial.token).collect();
    let others = stored.attempts.iter().filter(|(token, _)| !counts.contains(token));
    others.map(|(_, attempt)| attempt.step.unsigned_abs()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::database::{Attempt, Trial};
    use super::super::journal;
    use super::*;

    /// One trial that was lost at step 3 and succeeded in its second attempt.
    fn good() -> (Stored, Vec<Acknowledged>) {
        let attempt = |outcome: &str, step| Attempt { trial: 1, outcome: outcome.into(), step };
        let row = |token| Evaluation {
            token,
            method: "plain".into(),
            step: 3,
            domain: "a".into(),
            split: "out".into(),
            n: 9,
            correct: 5,
            loss: Some(0.5_f64.to_bits()),
        };
        let stored = Stored {
            trials: BTreeMap::from([(1, Trial { hash: "ab".into(), state: "succeeded".into(), token: 8 })]),
            attempts: BTreeMap::from([(7, attempt("failed", 3)), (8, attempt("succeeded", 20))]),
            evaluations: BTreeSet::from([row(7), row(8)]),
            losses: BTreeSet::from([(8, 3, 0.25_f64.to_bits())]),
        };
        let told = journal::Evaluation {
            method: "plain".into(),
            step: 3,
            domain: "a".into(),
            split: "out".into(),
            n: 9,
            correct: 5,
            loss: Some(format!("{:016x}", 0.5_f64.to_bits())),
            value: None,
        };
        let call = |token, outcome: Option<&str>| Acknowledged {
            token,
            trial: "ab".into(),
            sequence: Some(1),
            evaluations: vec![told.clone()],
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
        assert_eq!(judge(&stored, &calls).unwrap(), Verdict { wasted_steps: 3, ..Verdict::default() });
        // What is there and was never seen acknowledged is no fault: the answer was on its way.
        assert_eq!(judge(&stored, &[]).unwrap(), Verdict { wasted_steps: 3, ..Verdict::default() });
    }

    #[test]
    fn each_fault_is_found() {
        type Fault = (&'static str, fn(&mut Stored, &mut Vec<Acknowledged>), usize, usize);
        let faults: [Fault; 9] = [
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
                "two results by the workers' account",
                |_, calls| calls[0].outcome = Some("succeeded".into()),
                2,
                1,
            ),
        ];
        for (what, fault, lost, doubled) in faults {
            let (mut stored, mut calls) = good();
            fault(&mut stored, &mut calls);
            let verdict = judge(&stored, &calls).unwrap();
            assert_eq!((verdict.lost.len(), verdict.doubled.len()), (lost, doubled), "{what}: {verdict:?}");
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
            .map(|row| Evaluation { token: row.token + 100, ..row.clone() })
            .collect();
        other.attempts =
            stored.attempts.iter().map(|(token, attempt)| (token + 100, attempt.clone())).collect();
        other.trials.get_mut(&1).unwrap().token = 108;
        assert_eq!(other.canonical(), text);
        other.trials.get_mut(&1).unwrap().token = 107;
        assert_ne!(other.canonical(), text);
    }
}
