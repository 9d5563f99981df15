//! What was seen, and whether it is what was promised.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Deed;
use super::array::Task;
use super::sweep::{Counts, TRIALS, Trial};

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Trials of the sweep.
    pub trials: u32,
    /// Those that were completed.
    pub succeeded: u32,
    /// Those that were not, with the reason.
    pub others: Vec<String>,
    /// How many were run to their end, by their own account.
    pub ran_to_the_end: u32,
    /// Those of them that were run to their end more than once, or are not of this sweep.
    pub too_often: Vec<String>,
    /// How often trials were begun again.
    pub repeated_attempts: u32,
    /// The workers' jobs.
    pub tasks: Vec<Task>,
}

impl Summary {
    /// Puts together what the coordinator, the trials themselves and Slurm say.
    pub fn of(counts: Counts, trials: &[Trial], journal: &[String], tasks: Vec<Task>) -> Self {
        let attempts: u32 = trials.iter().map(|trial| trial.attempts).sum();
        let begun = count(trials.iter().filter(|trial| trial.attempts > 0).count());
        let mut unseen: BTreeSet<&str> = trials.iter().map(|trial| trial.trial.as_str()).collect();
        let too_often: Vec<String> =
            journal.iter().filter(|trial| !unseen.remove(trial.as_str())).cloned().collect();
        let others = trials.iter().filter(|trial| trial.state != "succeeded");
        Self {
            trials: counts.planned,
            succeeded: counts.succeeded,
            others: others.map(|trial| format!("{} {}: {}", trial.trial, trial.state, trial.error)).collect(),
            ran_to_the_end: count(trials.len() - unseen.len()),
            too_often,
            repeated_attempts: attempts.saturating_sub(begun),
            tasks,
        }
    }

    /// Fails with one line that says what is not as it was promised.
    pub fn check(&self, deeds: &[(u32, Deed, u32)]) -> Result<()> {
        ensure!(self.trials == TRIALS, "{TRIALS} trials were submitted, but there are {}", self.trials);
        ensure!(self.others.is_empty(), "not complete: {}", self.others.join(", "));
        ensure!(self.succeeded == TRIALS, "only {} of {TRIALS} trials succeeded", self.succeeded);
        ensure!(
            self.ran_to_the_end == TRIALS,
            "only {} of {TRIALS} trials say that they were run to their end",
            self.ran_to_the_end
        );
        ensure!(self.too_often.is_empty(), "run to their end once too often: {}", self.too_often.join(", "));
        // Each disturbance may cost the one trial that the worker was running, and nothing else.
        let disturbed = count(deeds.len());
        ensure!(
            self.repeated_attempts <= disturbed,
            "trials were begun again {} times, but only {disturbed} workers were disturbed",
            self.repeated_attempts
        );
        for task in &self.tasks {
            let expected = count(deeds.iter().filter(|(.., disturbed)| *disturbed == task.task).count());
            let (number, restarts) = (task.task, task.restarts);
            ensure!(
                restarts == expected,
                "task {number} was restarted {restarts} times, but {expected} was due"
            );
            ensure!(task.state == "COMPLETED", "task {number} ended as {}", task.state);
            ensure!(task.exit_code == "0:0", "task {number} ended with exit code {}", task.exit_code);
        }
        Ok(())
    }
}

fn count(number: usize) -> u32 {
    // There are a few dozen of anything here.
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::DEEDS;
    use super::*;

    fn good() -> Summary {
        let task =
            |task, restarts| Task { task, state: "COMPLETED".into(), restarts, exit_code: "0:0".into() };
        let trials: Vec<Trial> = (0..TRIALS)
            .map(|number| Trial {
                trial: format!("t{number}"),
                state: "succeeded".into(),
                attempts: if number < 3 { 2 } else { 1 },
                error: String::new(),
            })
            .collect();
        let journal: Vec<String> = trials.iter().map(|trial| trial.trial.clone()).collect();
        let counts = Counts { planned: TRIALS, succeeded: TRIALS };
        Summary::of(counts, &trials, &journal, vec![task(1, 1), task(2, 1), task(3, 1), task(4, 0)])
    }

    #[test]
    fn the_journal_is_held_against_the_trials() {
        let trial = |name: &str| Trial {
            trial: name.into(),
            state: "succeeded".into(),
            attempts: 1,
            error: String::new(),
        };
        let journal = ["a", "x", "a"].map(str::to_owned);
        let summary =
            Summary::of(Counts { planned: 2, succeeded: 2 }, &[trial("a"), trial("b")], &journal, Vec::new());
        assert_eq!((summary.ran_to_the_end, summary.too_often), (1, vec!["x".to_owned(), "a".to_owned()]));
    }

    #[test]
    fn what_was_promised_is_accepted() {
        assert_eq!(good().repeated_attempts, 3);
        good().check(&DEEDS).unwrap();
    }

    #[test]
    fn anything_less_or_more_is_refused() {
        let refused = |change: &dyn Fn(&mut Summary)| {
            let mut summary = good();
            change(&mut summary);
            summary.check(&DEEDS).unwrap_err().to_string()
        };
        assert!(refused(&|summary| summary.succeeded -= 1).contains("only 39"));
        assert!(refused(&|summary| summary.trials += 1).contains("there are 41"));
        assert!(
            refused(&|summary| summary.others.push("ab failed: why".into()))
                .contains("not complete: ab failed: why")
        );
        assert!(refused(&|summary| summary.ran_to_the_end -= 1).contains("only 39 of 40 trials say"));
        assert!(refused(&|summary| summary.too_often.push("t7".into())).contains("too often: t7"));
        assert!(refused(&|summary| summary.repeated_attempts += 1).contains("begun again 4 times"));
        assert!(
            refused(&|summary| summary.tasks[0].restarts = 0).contains("restarted 0 times, but 1 was due")
        );
        assert!(
            refused(&|summary| summary.tasks[3].restarts = 1).contains("restarted 1 times, but 0 was due")
        );
        assert!(refused(&|summary| summary.tasks[3].state = "FAILED".into()).contains("FAILED"));
        assert!(refused(&|summary| summary.tasks[3].exit_code = "0:15".into()).contains("0:15"));
    }
}
