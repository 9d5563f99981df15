//! Transactions of the writer: begun, carried out, committed, and tried again after a conflict with another coordinator.

use std::time::Duration;

use sortie_core::access::Caller;
use sortie_core::job::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::batch_executor::Outcomes;
use super::change::{Change, Commit, Time};
use super::command::{Act, Command, Submit};
use super::writer_task::Writer;
use crate::store::StoreError;
use crate::store::backend::Transaction;
use crate::store::request::{Answer, Request};
use crate::store::types::{Submitted, SweepAction};

/// How often a transaction that ran into another coordinator's is tried again.
const CONFLICTS_MAX: u32 = 5;
/// How long a transaction may take.
const TRANSACTION_MAX: Duration = Duration::from_secs(60);

impl Writer {
    /// One transaction, tried again if another coordinator came between. It leaves each request's answer in its reply.
    #[tracing::instrument(level = "debug", skip_all, fields(count = requests.len(), durable = durable))]
    pub(super) async fn transact(
        &mut self,
        requests: &mut [Request],
        durable: bool,
    ) -> Result<(), StoreError> {
        let mut conflicts = 0;
        loop {
            match in_time(self.transact_once(requests, durable)).await {
                Err(error) if error.is_conflict() && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    tracing::debug!(%error, conflicts, "a transaction is tried again");
                }
                other => return self.noted(other),
            }
        }
    }

    async fn transact_once(&mut self, requests: &mut [Request], durable: bool) -> Result<(), StoreError> {
        let (mut tx, now) = self.begin(durable).await?;
        let Outcomes { free_at, ended, member_ended, look_again } =
            match self.executor.serve(requests, now, tx.as_mut()).await {
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
            self.claims.wake_at(Instant::now() + free_at.since(now));
        }
        if member_ended {
            self.combinations.want();
        }
        if look_again || (ended && self.claims.wait_for_the_end()) {
            self.claims.wake();
        }
        Ok(())
    }

    /// Begins a transaction and reads the time. When the database's clock was set by more than a lease since the last one, every lease gets
    /// one full term first: no worker can know.
    async fn begin(&mut self, durable: bool) -> Result<(Box<dyn Transaction>, Timestamp), StoreError> {
        let lease = self.executor.settings.lease;
        let mut tx = self.backend.begin(durable).await?;
        let now = tx.now().await?;
        if !self.backend.clock_may_step() || self.steps.divergence(now) <= lease {
            self.steps.note(now);
            return Ok((tx, now));
        }
        let leases = tx.renew_leases(now, lease).await?;
        tx.commit(false).await?;
        self.steps.note(now);
        tracing::warn!(leases, "the database's clock was set; every lease gets one full term");
        let mut tx = self.backend.begin(durable).await?;
        let now = tx.now().await?;
        Ok((tx, now))
    }

    /// Does what has a transaction of its own, and answers. The caller may be gone.
    pub(super) async fn on_command(&mut self, command: Command, caller: Option<&Caller>) {
        match command {
            Command::Register(register, reply) => reply.send_answer(self.change_for(caller, &register).await),
            Command::Submit(submit, reply) => {
                let done = self.on_submit(&submit, caller).await;
                reply.send_answer(done);
            }
            Command::Act(act, reply) => {
                let done = self.on_act(&act, caller).await;
                reply.send_answer(done);
            }
            Command::Delete(delete, reply) => {
                let done = self.change_for(caller, &delete).await;
                if let Ok(true) = done {
                    self.removal.want();
                    // Whoever waits for its trials, or for the end of its submission, learns of it.
                    self.claims.wake();
                    self.expansion.task.want();
                }
                reply.send_answer(done.map(drop));
            }
            Command::ActOnTrials(request, reply) => {
                let done = self.change_for(caller, &request).await;
                if done.is_ok() {
                    self.claims.wake();
                    self.expansion.task.want();
                    self.combinations.want();
                }
                reply.send_answer(done);
            }
            Command::Note(note, reply) => reply.send_answer(self.change_for(caller, &note).await),
            Command::Release(release, reply) => reply.send_answer(self.change_for(caller, &release).await),
            Command::Pin(request, reply) => {
                let done = self.change_for(caller, &request).await;
                // Trials that were held may start.
                self.claims.wake();
                reply.send_answer(done);
            }
            Command::Grace(grace, reply) => reply.send_answer(self.change_for(caller, &grace).await),
            Command::AddToken(add, reply) => reply.send_answer(self.change_for(caller, &add).await),
            Command::KnowTokens(know, reply) => reply.send_answer(self.change_for(caller, &know).await),
            Command::RevokeToken(revoke, reply) => reply.send_answer(self.change_for(caller, &revoke).await),
            Command::RotateToken(rotate, reply) => reply.send_answer(self.change_for(caller, &rotate).await),
            Command::NoteDeed(deed, reply) => reply.send_answer(self.change_for(caller, &deed).await),
        }
    }

    async fn on_submit(
        &mut self,
        submit: &Submit,
        caller: Option<&Caller>,
    ) -> Answer<watch::Receiver<Submitted>> {
        let (sweep, submitted) = self.change_for(caller, submit).await?;
        self.expansion.task.want();
        Ok(self.expansion.follow(sweep, submitted))
    }

    async fn on_act(&mut self, act: &Act, caller: Option<&Caller>) -> Answer<()> {
        self.change_for(caller, act).await?;
        if let SweepAction::Rename(new) = &act.action {
            self.expansion.rename(&act.sweep, new);
        }
        self.claims.wake();
        // A sweep that is open again may have trials that are not stored yet.
        self.expansion.task.want();
        Ok(())
    }

    /// Makes a change of the coordinator's own.
    pub(super) async fn change<C: Change>(&mut self, change: &C) -> Result<C::Done, StoreError> {
        self.change_for(None, change).await
    }

    /// Makes a change in a transaction of its own, tried again if another coordinator came between, and notes with it who made it.
    #[tracing::instrument(level = "debug", skip_all, fields(change = std::any::type_name::<C>()))]
    async fn change_for<C: Change>(
        &mut self,
        caller: Option<&Caller>,
        change: &C,
    ) -> Result<C::Done, StoreError> {
        let mut conflicts = 0;
        loop {
            match in_time(self.change_once(caller, change)).await {
                Err(error) if error.is_conflict() && conflicts < CONFLICTS_MAX => conflicts += 1,
                other => return self.noted(other),
            }
        }
    }

    /// Tells that the database is lost, if that is why a transaction failed. Claims that wait learn it, too.
    fn noted<T>(&mut self, ended: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Lost(reason)) = &ended
            && self.lost.borrow().is_none()
        {
            self.lost.send_replace(Some(reason.clone()));
            self.claims.wake();
        }
        ended
    }

    async fn change_once<C: Change>(
        &mut self,
        caller: Option<&Caller>,
        change: &C,
    ) -> Result<C::Done, StoreError> {
        let (mut tx, now) = self.begin(true).await?;
        let time = Time { now, lease: self.executor.settings.lease };
        let performed = async {
            let done = change.perform(time, tx.as_mut()).await?;
            if C::commit(&done) != Commit::Nothing
                && let (Some(caller), Some(deed)) = (caller, change.deed())
            {
                tx.insert_deed(caller, &deed, now).await?;
            }
            Ok(done)
        };
        let done = match performed.await {
            Ok(done) => done,
            Err(error) => {
                tx.rollback().await;
                return Err(error);
            }
        };
        match C::commit(&done) {
            Commit::Nothing => tx.rollback().await,
            Commit::Quiet => tx.commit(false).await?,
            Commit::Announced => tx.commit(true).await?,
        }
        Ok(done)
    }
}

/// A database that does not answer must not stop the writer for good.
async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(TRANSACTION_MAX, work).await.unwrap_or(Err(StoreError::NoAnswer(TRANSACTION_MAX)))
}
