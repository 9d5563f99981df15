//! The job array of workers in Slurm.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::cluster::SlurmCluster;

/// A submitted job array. [`JobArray::cancel`] ends its remaining jobs.
#[derive(Debug)]
pub struct JobArray {
    id: String,
    tasks: u32,
}

/// The state of a task of the array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArrayTask {
    /// Its number in the array, from 1.
    pub task: u32,
    /// Slurm's name of its state, such as RUNNING.
    pub state: String,
    /// How often it was requeued.
    pub restarts: u32,
    /// Exit code and signal, such as 0:0.
    pub exit_code: String,
}

impl JobArray {
    /// Submits workers with the script that users submit them with. Their logs are written to `folder`.
    pub fn submit(
        cluster: &SlurmCluster,
        script: &Path,
        worker: &Path,
        tasks: u32,
        options: &[&str],
        folder: &Path,
    ) -> Result<Self> {
        let mut command = cluster.command(script);
        command
            .arg(tasks.to_string())
            .arg("--")
            .args(options)
            .env("SORTIE_PROGRAM", worker)
            .current_dir(folder);
        let output = command.output().with_context(|| format!("cannot start {}", script.display()))?;
        let (id, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{} failed: {}", script.display(), stderr.trim());
        // With several clusters, Slurm prints the name of the cluster after the id.
        let id = id.trim().split(';').next().unwrap_or_default();
        ensure!(id.parse::<u32>().is_ok(), "{} printed {id:?} for a job id", script.display());
        Ok(Self { id: id.to_owned(), tasks })
    }

    /// The states of all tasks.
    pub fn tasks(&self, cluster: &SlurmCluster) -> Result<Vec<ArrayTask>> {
        (1..=self.tasks).map(|task| self.task(cluster, task)).collect()
    }

    /// The state of one task.
    pub fn task(&self, cluster: &SlurmCluster, task: u32) -> Result<ArrayTask> {
        let text = cluster.output("scontrol", &["--oneliner", "show", "job", &self.name(task)])?;
        parse(task, &text).with_context(|| format!("scontrol printed {text:?}"))
    }

    /// Requeues a running task, as an administrator does before maintenance.
    pub fn requeue(&self, cluster: &SlurmCluster, task: u32) -> Result<()> {
        cluster.output("scontrol", &["requeue", &self.name(task)]).map(drop)
    }

    /// Sends SIGTERM to the batch script of a running task, as `--signal=B:TERM@60` does before its time limit.
    pub fn warn(&self, cluster: &SlurmCluster, task: u32) -> Result<()> {
        cluster.output("scancel", &["--batch", "--signal=TERM", &self.name(task)]).map(drop)
    }

    /// Ends the remaining jobs of the array.
    pub fn cancel(&self, cluster: &SlurmCluster) -> Result<()> {
        cluster.output("scancel", &["--quiet", &self.id]).map(drop)
    }

    /// Whether no job of it runs or waits.
    pub fn has_ended(&self, cluster: &SlurmCluster) -> Result<bool> {
        Ok(cluster.output("squeue", &["--noheader", "--jobs", &self.id])?.trim().is_empty())
    }

    fn name(&self, task: u32) -> String {
        format!("{}_{task}", self.id)
    }
}

fn parse(task: u32, text: &str) -> Result<ArrayTask> {
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else { bail!("not exactly one job") };
    let field = |name: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.with_context(|| format!("{name} is missing"))
    };
    let restarts = field("Restarts")?.parse().context("Restarts is not a number")?;
    Ok(ArrayTask {
        task,
        state: field("JobState")?.to_owned(),
        restarts,
        exit_code: field("ExitCode")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_from_what_scontrol_prints() {
        let text = "JobId=6 ArrayJobId=5 ArrayTaskId=1 JobName=sortie-workers UserId=root(0) JobState=COMPLETED Reason=None \
                    Requeue=1 Restarts=1 BatchFlag=1 Reboot=0 ExitCode=0:0 DerivedExitCode=0:0 \n";
        let task = ArrayTask { task: 1, state: "COMPLETED".into(), restarts: 1, exit_code: "0:0".into() };
        assert_eq!(parse(1, text).unwrap(), task);
        for wrong in [
            String::new(),
            text.repeat(2),
            text.replace("Restarts", "Starts"),
            text.replace("Restarts=1", "Restarts=x"),
        ] {
            assert!(parse(1, &wrong).is_err(), "{wrong}");
        }
    }
}
