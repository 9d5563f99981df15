//! The array of workers, as Slurm sees it.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::cluster::Cluster;

/// An array of jobs that was submitted. [`Array::cancel`] ends what is left of it.
#[derive(Debug)]
pub struct Array {
    id: String,
    tasks: u32,
}

/// How a task of the array is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Its number in the array, from 1.
    pub task: u32,
    /// Slurm's word for it, such as RUNNING.
    pub state: String,
    /// How often it was put back into the queue.
    pub restarts: u32,
    /// Exit code and signal, such as 0:0.
    pub exit_code: String,
}

impl Array {
    /// Submits so many workers by the script that users submit them with. `folder` takes their logs.
    pub fn submit(
        cluster: &Cluster,
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
        let (id, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{} failed: {}", script.display(), said.trim());
        // With several clusters, its name stands behind the id.
        let id = id.trim().split(';').next().unwrap_or_default();
        ensure!(id.parse::<u32>().is_ok(), "{} printed {id:?} for a job id", script.display());
        Ok(Self { id: id.to_owned(), tasks })
    }

    /// How every task is.
    pub fn tasks(&self, cluster: &Cluster) -> Result<Vec<Task>> {
        (1..=self.tasks).map(|task| self.task(cluster, task)).collect()
    }

    /// How one task is.
    pub fn task(&self, cluster: &Cluster, task: u32) -> Result<Task> {
        let text = cluster.output("scontrol", &["--oneliner", "show", "job", &self.name(task)])?;
        parse(task, &text).with_context(|| format!("scontrol said of a job: {text:?}"))
    }

    /// Puts a task that runs back into the queue, as an administrator does before maintenance.
    pub fn requeue(&self, cluster: &Cluster, task: u32) -> Result<()> {
        cluster.output("scontrol", &["requeue", &self.name(task)]).map(drop)
    }

    /// Sends a task that runs what `--signal=B:TERM@60` sends it before its time limit: SIGTERM, to the batch script alone.
    pub fn warn(&self, cluster: &Cluster, task: u32) -> Result<()> {
        cluster.output("scancel", &["--batch", "--signal=TERM", &self.name(task)]).map(drop)
    }

    /// Ends what is left of the array.
    pub fn cancel(&self, cluster: &Cluster) -> Result<()> {
        cluster.output("scancel", &["--quiet", &self.id]).map(drop)
    }

    /// Whether nothing of it runs, waits, or is about to.
    pub fn has_ended(&self, cluster: &Cluster) -> Result<bool> {
        Ok(cluster.output("squeue", &["--noheader", "--jobs", &self.id])?.trim().is_empty())
    }

    fn name(&self, task: u32) -> String {
        format!("{}_{task}", self.id)
    }
}

fn parse(task: u32, text: &str) -> Result<Task> {
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else { bail!("that is not one job") };
    let field = |name: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.with_context(|| format!("{name} is missing"))
    };
    let restarts = field("Restarts")?.parse().context("Restarts is no number")?;
    Ok(Task {
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
        let task = Task { task: 1, state: "COMPLETED".into(), restarts: 1, exit_code: "0:0".into() };
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
