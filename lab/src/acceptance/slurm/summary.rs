//! The summary of a run, and the check of it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::array::ArrayTask;
use super::disturbance::Disturbance;
use super::sweep::{ListedTrial, SweepCounts, TRIALS};

/// The summary of a run on Slurm.
#[derive(Clone, Debug, Serialize)]
pub struct SlurmSummary {
    /// Trials of the sweep.
    pub trials: u32,
    /// The number of succeeded trials.
    pub succeeded: u32,
    /// The other trials, with their errors.
    pub others: Vec<String>,
    /// The number of trials that recorded their end.
    pub ran_to_the_end: u32,
    /// Recorded ends of trials that had already recorded one, or that are not in this sweep.
    pub too_often: Vec<String>,
    /// The number of attempts beyond the first one of each trial.
    pub repeated_attempts: u32,
    /// The jobs of the workers.
    pub tasks: Vec<ArrayTask>,
}

impl SlurmSummary {
    /// Combines the records of the coordinator, the trials' commands and Slurm.
    pub fn of(
        counts: SweepCounts,
        trials: &[ListedTrial],
        journal: &[String],
        tasks: Vec<ArrayTask>,
    ) -> Self {
        let attempts: u32 = trials.iter().map(|trial| trial.attempts).sum();
        let started = count(trials.iter().filter(|trial| trial.attempts > 0).count());
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
            repeated_attempts: attempts.saturating_sub(started),
            tasks,
        }
    }

    /// Fails with one line if a trial did not complete exactly once, or a job was not requeued as planned.
    pub fn check(&self, disturbances: &[(u32, Disturbance, u32)]) -> Result<()> {
        ensure!(self.trials == TRIALS, "{TRIALS} trials were submitted, but there are {}", self.trials);
        ensure!(self.others.is_empty(), "not complete: {}", self.others.join(", "));
        ensure!(self.succeeded == TRIALS, "only {} of {TRIALS} trials succeeded", self.succeeded);
        ensure!(
            self.ran_to_the_end == TRIALS,
            "only {} of {TRIALS} trials recorded their end",
            self.ran_to_the_end
        );
        ensure!(self.too_often.is_empty(), "ended more than once: {}", self.too_often.join(", "));
        // Each disturbance may interrupt the one trial that the worker was running, and no other.
        let disturbed = count(disturbances.len());
        ensure!(
            self.repeated_attempts <= disturbed,
            "trials were started again {} times, but only {disturbed} workers were disturbed",
            self.repeated_attempts
        );
        for task in &self.tasks {
            let expected =
                count(disturbances.iter().filter(|(.., disturbed)| *disturbed == task.task).count());
            let (number, restarts) = (task.task, task.restarts);
            ensure!(
                restarts == expected,
                "task {number} was restarted {restarts} times instead of {expected}"
            );
            ensure!(task.state == "COMPLETED", "task {number} ended as {}", task.state);
            ensure!(task.exit_code == "0:0", "task {number} ended with exit code {}", task.exit_code);
        }
        Ok(())
    }
}

fn count(number: usize) -> u32 {
    // All counts here are small.
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::disturbance::DISTURBANCES;
    use super::*;

    fn good() -> SlurmSummary {
        let task =
            |task, restarts| ArrayTask { task, state: "COMPLETED".into(), restarts, exit_code: "0:0".into() };
        let trials: Vec<ListedTrial> = (0..TRIALS)
            .map(|number| ListedTrial {
                trial: format!("t{number}"),
                state: "succeeded".into(),
                attempts: if number < 3 { 2 } else { 1 },
                error: String::new(),
            })
            .collect();
        let journal: Vec<String> = trials.iter().map(|trial| trial.trial.clone()).collect();
        let counts = SweepCounts { planned: TRIALS, succeeded: TRIALS };
        SlurmSummary::of(counts, &trials, &journal, vec![task(1, 1), task(2, 1), task(3, 1), task(4, 0)])
    }

    #[test]
    fn the_journal_is_compared_with_the_trials() {
        let trial = |name: &str| ListedTrial {
            trial: name.into(),
            state: "succeeded".into(),
            attempts: 1,
            error: String::new(),
        };
        let journal = ["a", "x", "a"].map(str::to_owned);
        let summary = SlurmSummary::of(
            SweepCounts { planned: 2, succeeded: 2 },
            &[trial("a"), trial("b")],
            &journal,
            Vec::new(),
        );
        assert_eq!((summary.ran_to_the_end, summary.too_often), (1, vec!["x".to_owned(), "a".to_owned()]));
    }

    #[test]
    fn a_complete_run_is_accepted() {
        assert_eq!(good().repeated_attempts, 3);
        good().check(&DISTURBANCES).unwrap();
    }

    #[test]
    fn anything_less_or_more_is_refused() {
        let refused = |change: &dyn Fn(&mut SlurmSummary)| {
            let mut summary = good();
            change(&mut summary);
            summary.check(&DISTURBANCES).unwrap_err().to_string()
        };
        assert!(refused(&|summary| summary.succeeded -= 1).contains("only 39"));
        assert!(refused(&|summary| summary.trials += 1).contains("there are 41"));
        assert!(
            refused(&|summary| summary.others.push("ab failed: why".into()))
                .contains("not complete: ab failed: why")
        );
        assert!(refused(&|summary| summary.ran_to_the_end -= 1).contains("only 39 of 40 trials recorded"));
        assert!(refused(&|summary| summary.too_often.push("t7".into())).contains("more than once: t7"));
        assert!(refused(&|summary| summary.repeated_attempts += 1).contains("started again 4 times"));
        assert!(refused(&|summary| summary.tasks[0].restarts = 0).contains("restarted 0 times instead of 1"));
        assert!(refused(&|summary| summary.tasks[3].restarts = 1).contains("restarted 1 times instead of 0"));
        assert!(refused(&|summary| summary.tasks[3].state = "FAILED".into()).contains("FAILED"));
        assert!(refused(&|summary| summary.tasks[3].exit_code = "0:15".into()).contains("0:15"));
    }
}
