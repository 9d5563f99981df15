//! Writing down what one transaction changes.

use serde_json::{Value, json};
use sortie_core::code::Code;
use sortie_core::finetune::Methods;
use sortie_core::job::ErrorClass;
use sortie_core::keys::AttemptToken;
use sortie_core::machine::Fault;
use sortie_core::metrics::Evaluation;

use super::engine::Arg;
use super::inserts::{ARTIFACT_COLUMNS, EVALUATION_COLUMNS, LOSS_COLUMNS, VALUES_ROWS_MAX, insert_values};
use super::rows;
use super::transaction::{SqlTransaction, expect, rows_arg};
use crate::store::StoreError;
use crate::store::backend::{Changes, given};

impl SqlTransaction {
    /// Writes all changes down; every statement that names a prior state must touch exactly its rows.
    pub(super) async fn write_changes(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let moves = changes.moves.iter().map(|(id, moved)| {
            let (from, [state, lost, not_before, holder, expires, result, earlier]) =
                (moved.from, rows::state_values(moved.to));
            let forgive = i64::from(moved.forgive);
            json!([
                id,
                from.name().as_str(),
                from.token(),
                state,
                lost,
                not_before,
                holder,
                expires,
                result,
                earlier,
                forgive
            ])
        });
        self.write_rows("move of trials", self.sql().move_trials, moves.collect()).await?;
        self.write_attempts(changes).await?;
        self.write_reports(changes).await?;
        let events = changes
            .events
            .iter()
            .map(|(trial, event)| json!([trial, event.token, event.at_ms, event.what, event.detail]));
        self.write_rows("insert of trial events", self.sql().events, events.collect()).await?;
        for (input, (before, after)) in &changes.pins {
            self.write_pins(input, before, after).await?;
        }
        self.write_workers(changes).await
    }

    /// Inserts rows of plain values.
    async fn insert(
        &mut self,
        table: &'static str,
        columns: &'static str,
        mut rows: Vec<Vec<Arg>>,
    ) -> Result<(), StoreError> {
        while !rows.is_empty() {
            let count = 1 << rows.len().min(VALUES_ROWS_MAX).ilog2();
            let args = rows.drain(..count).flatten().collect();
            self.tx.execute(insert_values(table, columns, count), args).await?;
        }
        Ok(())
    }

    async fn insert_evaluations(
        &mut self,
        table: &'static str,
        evaluations: &[(AttemptToken, Evaluation)],
    ) -> Result<(), StoreError> {
        let rows =
            evaluations.iter().map(|(token, evaluation)| rows::evaluation_args(*token, evaluation).to_vec());
        self.insert(table, EVALUATION_COLUMNS, rows.collect()).await
    }

    /// A statement over many rows that name their prior state: all of them are touched, or it is an error.
    async fn write_rows(
        &mut self,
        name: &'static str,
        sql: &'static str,
        rows: Vec<Value>,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let expected = rows.len();
        let touched = self.tx.execute(sql, vec![rows_arg(rows.into_iter())]).await?;
        expect(name, touched, expected)
    }

    async fn write_attempts(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let new = changes.new_attempts.iter().map(|new| {
            let Methods { average, ensemble } = new.methods;
            let average = average.map(|average| average.to_string());
            let ensemble = ensemble.map(|ensemble| ensemble.from);
            json!([new.token.0, new.trial, new.worker, new.started.0, average, ensemble])
        });
        self.write_rows("insert of attempts", self.sql().insert_attempts, new.collect()).await?;
        let advanced = changes.progress.iter().map(|(token, (before, after))| {
            let class = after.class.map(ErrorClass::as_str);
            let (from, to) = (before.state.as_str(), after.state.as_str());
            json!([
                token.0,
                from,
                before.sequence,
                to,
                class,
                after.message,
                after.ended.map(|time| time.0),
                after.sequence,
                after.step,
                after.preparation,
                after.log.bytes,
                after.log.cut,
                after.reported.evaluations,
                after.reported.losses,
                after.reported.artifacts,
                after.reported.notes
            ])
        });
        self.write_rows("advance of attempts", self.sql().advance_attempts, advanced.collect()).await?;
        let fingerprints = changes.fingerprints.iter().map(|(token, fingerprint)| {
            json!([
                token.0,
                given(&fingerprint.software),
                given(&fingerprint.libtorch),
                given(&fingerprint.device),
                Some(fingerprint.threads).filter(|threads| *threads > 0),
                given(&fingerprint.dataset_digest),
                given(&fingerprint.weights_digest),
                fingerprint.code.as_deref().map(Code::text),
                fingerprint.code.as_deref().and_then(Code::name),
                fingerprint.micro_batch
            ])
        });
        self.write_rows("note of fingerprints", self.sql().fingerprints, fingerprints.collect()).await
    }

    async fn write_reports(&mut self, changes: &Changes) -> Result<(), StoreError> {
        self.insert_evaluations("validation", &changes.validation).await?;
        self.insert_evaluations("held_out", &changes.held_out).await?;
        let losses = changes.losses.iter().map(|(token, loss)| {
            vec![token.0.into(), loss.step.into(), loss.loss.into(), loss.seconds.into()]
        });
        self.insert("training_losses", LOSS_COLUMNS, losses.collect()).await?;
        let artifacts =
            changes.artifacts.iter().map(|(token, artifact)| rows::artifact_args(*token, artifact).to_vec());
        self.insert("artifacts", ARTIFACT_COLUMNS, artifacts.collect()).await?;
        let resumed = changes
            .resumed
            .iter()
            .map(|(token, from)| json!([token.0, from.token.0, from.step, i64::from(from.exact)]));
        self.write_rows("note of where attempts took up", self.sql().resumed, resumed.collect()).await?;
        for (token, sequence, text) in &changes.logs {
            let args = vec![token.0.into(), (*sequence).into(), Arg::Bytes(text.clone())];
            self.tx.execute(self.sql().insert_log, args).await?;
        }
        for (token, after, last) in &changes.left_out {
            let args = vec![token.0.into(), (*after).into(), (*last).into()];
            self.tx.execute(self.sql().leave_out_logs, args).await?;
        }
        Ok(())
    }

    async fn write_workers(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let faults = changes.faults.values().flatten().map(|fault| {
            let Fault { machine, kind, failures_in_row, until, reason } = fault;
            json!([machine, kind.to_string(), failures_in_row, until.map(|until| until.0), reason])
        });
        self.write_rows("standing of machines", self.sql().store_faults, faults.collect()).await?;
        for ((machine, kind), _) in changes.faults.iter().filter(|(_, fault)| fault.is_none()) {
            // Another coordinator may have cleared it before.
            self.tx
                .execute(self.sql().clear_fault, vec![machine.as_str().into(), kind.to_string().into()])
                .await?;
        }
        // Who gave a sign of life may be no worker of that name: these two may touch fewer rows.
        for (sql, workers) in [(self.sql().seen, &changes.seen), (self.sql().left, &changes.left)] {
            if !workers.is_empty() {
                let rows = workers.iter().map(|((name, secret), at)| json!([name, secret.to_string(), at.0]));
                self.tx.execute(sql, vec![rows_arg(rows)]).await?;
            }
        }
        Ok(())
    }
}
