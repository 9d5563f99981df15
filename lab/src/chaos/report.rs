//! The report of a chaos run.

use anyhow::{Result, ensure};
use serde::Serialize;

/// Kills of processes and cuts of the network.
#[derive(Debug, Serialize)]
pub(super) struct KillCounts {
    pub worker: u64,
    pub coordinator: u64,
    pub database: u64,
    pub network: u64,
}

/// What happened in a chaos run, and what it did to the results.
#[derive(Debug, Serialize)]
pub(super) struct ChaosReport {
    pub store: String,
    pub seed: u64,
    pub trials: u64,
    pub kills: KillCounts,
    pub stopped: u64,
    pub restored: u64,
    pub attempts: u64,
    pub acknowledged_calls: u64,
    pub acknowledged_rows: u64,
    pub lost: u64,
    pub doubled: u64,
    pub identical: bool,
    pub wasted_steps: u64,
    pub processes_left: u64,
    pub seconds: f64,
}

impl ChaosReport {
    /// Fails if the results are inconsistent, or processes are left.
    pub(super) fn check(&self) -> Result<()> {
        let Self { lost, doubled, identical, processes_left, .. } = self;
        ensure!(
            *lost == 0 && *doubled == 0 && *identical && *processes_left == 0,
            "lost {lost}, doubled {doubled}, identical {identical}, processes left {processes_left}"
        );
        Ok(())
    }

    pub(super) fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let Self { store, seed, trials, stopped, restored, attempts, lost, doubled, wasted_steps, .. } = self;
        let KillCounts { worker, coordinator, database, network } = &self.kills;
        println!("{store}, seed {seed}: {trials} trials in {:.0} s", self.seconds);
        println!(
            "  kills             {worker} of workers, {coordinator} of the coordinator, {database} of the database"
        );
        println!(
            "  other faults      {network} cuts of the network, {stopped} workers stopped for longer than a lease, {restored} backups that took the database's place"
        );
        println!(
            "  acknowledged      {} calls with {} rows",
            self.acknowledged_calls, self.acknowledged_rows
        );
        println!("  lost, doubled     {lost}, {doubled}");
        println!("  identical         {}", if self.identical { "yes" } else { "no" });
        println!("  wasted            {wasted_steps} steps in {} attempts", attempts.saturating_sub(*trials));
        println!("  processes left    {}", self.processes_left);
        Ok(())
    }
}
