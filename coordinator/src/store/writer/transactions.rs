//! Transactions of the writer: begun, carried out, committed, and tried again after a conflict with another coordinator.

use std::time::Duration;

use sortie_core::job::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::batch_executor::Outcomes;
use super::command::{Command, CommandResult};
use super::writer_task::{Request, Writer};
use crate::store::StoreError;
use crate::store::request::{Answer, Op};

/// How often a transaction that ran into another coordinator's is tried again.
const CONFLICTS_MAX: u32 = 5;
/// How long a transaction may take.
const TRANSACTION_MAX: Duration = Duration::from_secs(60);

impl Writer {
    /// One transaction, tried again if another coordinator came between.
    pub(super) async fn transact(&mut self, ops: &[Op], durable: bool) -> Result<Vec<Answer>, StoreError> {
        let mut conflicts = 0;
        loop {
            match in_time(self.transact_once(ops, durable)).await {
                Err(error) if error.is_conflict() && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    tracing::debug!(%error, conflicts, "a transaction is tried again");
                }
                other => return other,
            }
        }
    }

    pub(super) async fn transact_once(
        &mut self,
        ops: &[Op],
        durable: bool,
    ) -> Result<Vec<Answer>, StoreError> {
        let mut tx = self.backend.begin(durable).await?;
        let now = tx.now(self.clock.now()).await?;
        let Outcomes { answers, free_at, ended, look_again } =
            match self.executor.serve(ops, now, tx.as_mut()).await {
                Ok((outcomes, true)) => {
                    tx.commit(outcomes.free_at.is_some() || outcomes.ended).await?;
                    outcomes
                }
                Ok((outcomes, false)) => {
                    tx.rollback().await;
                    outcomes
                }
                Err(error) => {
                    tx.rollback().await;
                    return Err(error);
                }
            };
        if let Some(free_at) = free_at {
            self.note_free(free_at, now);
        }
        self.unsettled |= ended;
        self.look |= look_again || (ended && self.parked.iter().any(waits_for_the_end));
        Ok(answers)
    }

    fn note_free(&mut self, free_at: Timestamp, now: Timestamp) {
        let wait = Duration::from_millis((free_at.0 - now.0).max(0).unsigned_abs());
        let free_at = Instant::now() + wait;
        self.free_at = Some(self.free_at.map_or(free_at, |earlier| earlier.min(free_at)));
    }

    /// Does what has a transaction of its own.
    pub(super) async fn command(&mut self, work: &Command) -> Result<CommandResult, StoreError> {
        let done = self.run_command(work).await?;
        self.look |= matches!(work, Command::Act(..) | Command::ActOnTrials(_));
        // A sweep that is open again may have trials that are not stored yet.
        self.expanding |= matches!(work, Command::Act(..) | Command::ActOnTrials(_) | Command::Submit(..));
        self.unsettled |= matches!(work, Command::ActOnTrials(_));
        Ok(match done {
            CommandResult::Stored(id, submitted) => {
                let (sender, receiver) = watch::channel(submitted);
                self.submissions.push((id, sender));
                CommandResult::Submitted(receiver)
            }
            other => other,
        })
    }

    pub(super) async fn run_command(&self, work: &Command) -> Result<CommandResult, StoreError> {
        let mut conflicts = 0;
        loop {
            match in_time(self.run_command_once(work)).await {
                Err(error) if error.is_conflict() && conflicts < CONFLICTS_MAX => conflicts += 1,
                other => return other,
            }
        }
    }

    pub(super) async fn run_command_once(&self, work: &Command) -> Result<CommandResult, StoreError> {
        let mut tx = self.backend.begin(true).await?;
        let now = tx.now(self.clock.now()).await?;
        let done = work.perform(now, self.executor.settings.lease, tx.as_mut()).await;
        if matches!(done, Err(_) | Ok(CommandResult::Expanded(None) | CommandResult::Settled(0))) {
            tx.rollback().await;
        } else {
            tx.commit(!matches!(work, Command::Register(_) | Command::Grace)).await?;
        }
        done
    }
}

/// A database that vanished without a word must not take the writer with it.
async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"));
    tokio::time::timeout(TRANSACTION_MAX, work).await.unwrap_or_else(|_| Err(late().into()))
}

fn waits_for_the_end(parked: &Request) -> bool {
    matches!(&parked.op, Op::Claim(claim) if claim.return_when_idle)
}
