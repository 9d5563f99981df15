//! Every statement, once, for both databases. They share their text but for three idioms: many rows as one
//! argument, many rows as one answer, and row locks.

use std::sync::LazyLock;

use super::left_files::{THERE, kept_on, lacking, lacking_elsewhere, left};

/// The one column of an answer that holds many rows.
pub(super) const PACKED: &str = "packed";

/// Which database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// Builds [`Statements`] and their list from one description.
macro_rules! statements {
    ($($name:ident: $text:expr;)+) => {
        /// The text of each statement. `$rows(...)` is a table made of one JSON argument; `$pack(...)`, at the beginning, makes SQLite
        /// give its rows as one, for each row crosses a thread there; `$lock(...)` is a lock where there are any; `$random()` is any
        /// integer; `$ids()` lets Postgres take the ids of new rows.
        #[derive(Debug)]
        pub(super) struct Statements { $(pub(super) $name: &'static str,)+ }

        impl Statements {
            fn of(dialect: Dialect) -> Self {
                Self { $($name: dialect.text($text),)+ }
            }

            /// Name and text of all of them: a test prepares each on a real database.
            #[cfg(test)]
            pub(super) fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

statements! {
    full: "PRAGMA synchronous = FULL";
    normal: "PRAGMA synchronous = NORMAL";
    not_durable: "SET LOCAL synchronous_commit = off";
    now: "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms,
        (SELECT number FROM incarnation) AS incarnation";
    incarnation: "SELECT number FROM incarnation";
    new_epoch: "INSERT INTO epochs (started_ms) VALUES ($1) RETURNING id";
    renew_leases: "UPDATE trials SET expires_ms = $1 WHERE state = 'running' AND (expires_ms < $1 OR expires_ms > $2)";
    shorten_waits: "UPDATE trials SET not_before_ms = $1 WHERE state = 'queued' AND not_before_ms > $1";
    shorten_quarantines: "UPDATE machine_faults SET until_ms = $1 WHERE until_ms > $1";
    seen_by_now: "UPDATE workers SET seen_ms = $1 WHERE seen_ms > $1";
    latest: "SELECT COALESCE(MAX(COALESCE(latest_ms, started_ms)), 0) AS latest FROM epochs";
    note_time: "UPDATE epochs SET latest_ms = $1 WHERE id = (SELECT MAX(id) FROM epochs)";
    notify: "SELECT CAST(pg_notify('sortie', '') AS TEXT) AS nothing";

    new_incarnation: "INSERT INTO incarnation (number) VALUES (($random() & 9223372036854775807) | 1) RETURNING number";
    skip_epochs: "INSERT INTO epochs (id, started_ms) $ids() SELECT COALESCE(MAX(id), 0) + 65536 + ($random() & 65535), $1 FROM epochs";
    note_interrupted: "INSERT INTO trial_events (trial, token, at_ms, what, detail)
        SELECT id, holder, $1, 'restored', 'the database was restored from a backup that was made while this attempt ran' FROM trials
        WHERE state = 'running'";
    end_leases: "UPDATE trials SET expires_ms = $1 WHERE state = 'running'";

    register: "INSERT INTO workers (worker_id, host, pid, devices, slots, abilities, software, registered_ms, seen_ms, checkpoints, machine, secret)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11)
        ON CONFLICT (worker_id) DO UPDATE SET seen_ms = excluded.seen_ms, left_ms = NULL, checkpoints = excluded.checkpoints
        WHERE workers.secret = excluded.secret";
    workers: &format!("$pack(id, worker_id, secret, machine, abilities, seen_ms, suspect)
        SELECT w.id, w.worker_id, w.secret, w.machine, w.abilities, w.seen_ms, {SUSPECT}
        FROM $rows(name TEXT) AS v JOIN workers AS w ON w.worker_id = v.name");
    live_workers: &format!("SELECT w.id, w.worker_id, w.secret, w.machine, w.abilities, w.seen_ms, {SUSPECT}
        FROM workers AS w WHERE w.seen_ms >= $1 AND w.left_ms IS NULL ORDER BY w.id");
    faults: "SELECT machine, kind, failures_in_row, until_ms, reason FROM machine_faults ORDER BY machine, kind";
    store_faults: "INSERT INTO machine_faults (machine, kind, failures_in_row, until_ms, reason)
        SELECT v.machine, v.kind, v.failures_in_row, v.until_ms, v.reason
        FROM $rows(machine TEXT, kind TEXT, failures_in_row BIGINT, until_ms BIGINT, reason TEXT) AS v
        WHERE true ON CONFLICT (machine, kind) DO UPDATE SET failures_in_row = excluded.failures_in_row,
            until_ms = excluded.until_ms, reason = excluded.reason";
    clear_fault: "DELETE FROM machine_faults WHERE machine = $1 AND kind = $2";
    release_machine: "UPDATE machine_faults SET until_ms = $2 WHERE machine = $1 AND until_ms > $2";
    release_kind: "UPDATE machine_faults SET until_ms = $2 WHERE kind = $1 AND until_ms > $2";
    failed_on: "SELECT DISTINCT a.trial, w.machine
        FROM $rows(trial BIGINT) AS v JOIN trials AS t ON t.id = v.trial JOIN attempts AS a ON a.trial = t.id
        JOIN workers AS w ON w.id = a.worker
        WHERE a.outcome = 'failed' AND a.error_class NOT IN ('preempted', 'lost') AND a.ended_ms >= $2
            AND (t.forgiven IS NULL OR a.token > t.forgiven) ORDER BY a.trial, w.machine";
    kept_on: &kept_on();

    lock_tokens: "LOCK TABLE tokens IN SHARE ROW EXCLUSIVE MODE";
    tokens: "SELECT digest, name, role, identity, created_ms, expires_ms, revoked_ms FROM tokens
        WHERE identity IS NULL OR identity = $1 ORDER BY created_ms, digest";
    insert_token: "INSERT INTO tokens (digest, name, role, created_ms, expires_ms, revoked_ms, identity) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    update_token: "UPDATE tokens SET expires_ms = $2, revoked_ms = $3 WHERE digest = $1";
    insert_deed: "INSERT INTO audit (at_ms, name, role, action, sweep, detail) VALUES ($1, $2, $3, $4, $5, $6)";
    audit: "SELECT id, at_ms, name, role, action, sweep, detail FROM audit
        WHERE CAST($1 AS BIGINT) IS NULL OR id < $1 ORDER BY id DESC LIMIT $2";

    open_sweeps: "$pack(id, name, revision, priority, running, waiting, unfinished, disputes)
        SELECT s.id, s.name, s.revision, s.priority,
            (SELECT COUNT(*) FROM trials AS t WHERE t.sweep_id = s.id AND t.state = 'running') AS running,
            (SELECT COUNT(*) FROM (SELECT 1 FROM trials AS t WHERE t.sweep_id = s.id AND t.state = 'queued'
                                       AND (t.not_before_ms IS NULL OR t.not_before_ms <= $2)
                                   ORDER BY t.position LIMIT $1) AS few) AS waiting,
            CAST(CASE WHEN s.expanded < s.planned
                   OR EXISTS (SELECT 1 FROM trials AS t WHERE t.sweep_id = s.id AND t.state = 'queued')
                   OR EXISTS (SELECT 1 FROM trials AS t WHERE t.sweep_id = s.id AND t.state = 'blocked') THEN 1 ELSE 0 END AS BIGINT)
                AS unfinished,
            CAST(CASE WHEN EXISTS (SELECT 1 FROM digests AS d WHERE d.place > 0 AND d.confirmed = 0) THEN 1 ELSE 0 END AS BIGINT) AS disputes
        FROM sweeps AS s WHERE s.state = 'open' AND s.archived = 0 ORDER BY s.id";
    waiting: &format!("$pack(id, trial_id, held_out, parameters, written, seed, split_seed, {STATE}, existing, attempts, first)
        SELECT t.id, t.trial_id, t.held_out, t.parameters, t.written, t.seed, t.split_seed, {STATE_OF_T},
            (SELECT MAX(CASE WHEN other.state = 'succeeded' THEN other.result END) FROM trials AS other
             WHERE other.trial_id = t.trial_id AND other.sweep_id <> t.sweep_id AND {THERE}
                AND (EXISTS (SELECT 1 FROM members AS m WHERE m.trial = t.id) OR {left})) AS existing,
            (SELECT COUNT(*) FROM attempts AS a WHERE a.trial = t.id) AS attempts,
            (SELECT MIN(a.token) FROM attempts AS a WHERE a.trial = t.id) AS first
        FROM trials AS t WHERE t.sweep_id = $1 AND t.state = 'queued' AND (t.not_before_ms IS NULL OR t.not_before_ms <= $3)
        ORDER BY t.position LIMIT $2 $lock(FOR UPDATE OF t SKIP LOCKED)", left = left(4));
    attempts: &format!("$pack(token, secret, machine, suspect, trial, sweep_id, held_out, parameters, {STATE}, outcome, error_class, message,
            ended_ms, sequence, step, preparation, log_bytes, log_cut, evaluations, losses, artifacts, notes, dataset_digest, weights_digest, repeated)
        SELECT a.token, w.secret, w.machine, {SUSPECT}, t.id AS trial, t.sweep_id, t.held_out, t.parameters, {STATE_OF_T}, a.outcome, a.error_class, a.message, a.ended_ms, a.sequence, a.step, a.preparation, a.log_bytes, a.log_cut, a.evaluations, a.losses, a.artifacts, a.notes, a.dataset_digest, a.weights_digest,
            CAST(CASE WHEN EXISTS (SELECT 1 FROM attempts AS b WHERE b.trial = a.trial AND b.token < a.token)
                 THEN 1 ELSE 0 END AS BIGINT) AS repeated
        FROM $rows(token BIGINT) AS v JOIN attempts AS a ON a.token = v.token JOIN trials AS t ON t.id = a.trial
        JOIN sweeps AS s ON s.id = t.sweep_id AND s.state <> 'deleted'
        JOIN workers AS w ON w.id = a.worker ORDER BY t.id $lock(FOR UPDATE OF t, a)");
    expired: "SELECT t.holder AS token FROM trials AS t WHERE t.state = 'running' AND t.expires_ms <= $1 LIMIT $2 $lock(FOR UPDATE OF t SKIP LOCKED)";
    failures: "SELECT a.trial, a.error_class, COUNT(*) AS failures
        FROM $rows(trial BIGINT) AS v JOIN trials AS t ON t.id = v.trial JOIN attempts AS a ON a.trial = t.id
        WHERE a.outcome = 'failed' AND (t.forgiven IS NULL OR a.token > t.forgiven) GROUP BY a.trial, a.error_class";
    checkpoints: "$pack(trial, token, step, key, digest)
        SELECT a.trial, r.token, r.step, r.key, r.digest
        FROM $rows(trial BIGINT) AS v JOIN attempts AS a ON a.trial = v.trial JOIN artifacts AS r ON r.token = a.token
        WHERE r.kind = 'checkpoint' AND r.key IS NOT NULL ORDER BY a.trial, r.step DESC, r.token DESC";
    members: "$pack(trial, token, trial_id, kind, method, step, key, digest, bytes, host, checkpoints)
        SELECT m.trial, r.token, t.trial_id, r.kind, r.method, r.step, r.key, r.digest, r.bytes, w.host, w.checkpoints
        FROM $rows(trial BIGINT) AS v JOIN members AS m ON m.trial = v.trial JOIN trials AS t ON t.id = m.member
        LEFT JOIN artifacts AS r ON r.token = COALESCE(t.earlier, t.result) AND r.kind IN ('final-weights', 'final-logits') AND r.key IS NOT NULL
        LEFT JOIN attempts AS a ON a.token = r.token LEFT JOIN workers AS w ON w.id = a.worker
        ORDER BY m.trial, m.place, r.kind, r.method, r.step";
    lost_members: &format!("SELECT t.id, t.position, t.held_out, t.parameters, t.seed, t.split_seed, {STATE_OF_T} FROM trials AS t
        WHERE t.id IN (SELECT m.member FROM $rows(trial BIGINT) AS v JOIN members AS m ON m.trial = v.trial)
            AND t.state IN ('diverged', 'failed', 'cancelled') ORDER BY t.id $lock(FOR UPDATE OF t)");
    combinations: "SELECT c.id,
            (SELECT COUNT(*) FROM members AS m WHERE m.trial = c.id) AS members,
            (SELECT COUNT(*) FROM members AS m JOIN trials AS t ON t.id = m.member
             WHERE m.trial = c.id AND t.state = 'succeeded') AS succeeded,
            (SELECT COUNT(*) FROM members AS m JOIN trials AS t ON t.id = m.member
             WHERE m.trial = c.id AND t.state IN ('diverged', 'failed', 'cancelled')) AS lost,
            COALESCE((SELECT MIN(substr(t.trial_id, 1, 8) || ' ' || t.state) FROM members AS m JOIN trials AS t ON t.id = m.member
                      WHERE m.trial = c.id AND t.state IN ('diverged', 'failed', 'cancelled')), '') AS loser
        FROM trials AS c WHERE c.state = 'blocked'
            AND NOT EXISTS (SELECT 1 FROM sweeps AS s WHERE s.id = c.sweep_id AND s.state = 'cancelled')
            AND (NOT EXISTS (SELECT 1 FROM members AS m JOIN trials AS t ON t.id = m.member WHERE m.trial = c.id AND t.state <> 'succeeded')
                 OR EXISTS (SELECT 1 FROM members AS m JOIN trials AS t ON t.id = m.member
                            WHERE m.trial = c.id AND t.state IN ('diverged', 'failed', 'cancelled')))
        ORDER BY c.sweep_id, c.id LIMIT $1 $lock(FOR UPDATE OF c SKIP LOCKED)";
    contradictions_of_validation: &contradictions("validation");
    contradictions_of_held_out: &contradictions("held_out");
    pins_of: "SELECT d.kind, d.name, d.place, d.digest, d.machine, d.confirmed, d.used
        FROM $rows(kind TEXT, name TEXT) AS v JOIN digests AS d ON d.kind = v.kind AND d.name = v.name ORDER BY d.place";
    pins: "SELECT kind, name, place, digest, machine, confirmed, used FROM digests ORDER BY place";
    results_with_dataset: &results_with("dataset_digest");
    results_with_weights: &results_with("weights_digest");

    sweep: "SELECT id, spec, revision, state, archived, priority, reuse, planned, expanded, base FROM sweeps WHERE name = $1 AND state <> 'deleted'";
    sweep_to_change: "SELECT id, spec, revision, state, archived, priority, reuse, planned, expanded, base FROM sweeps
        WHERE name = $1 AND state <> 'deleted' $lock(FOR UPDATE)";
    sweep_by_id: "SELECT id, spec, revision, state, archived, priority, reuse, planned, expanded, base FROM sweeps WHERE id = $1";
    expanding: "SELECT id, spec, revision, state, archived, priority, reuse, planned, expanded, base FROM sweeps
        WHERE expanded < planned AND state IN ('open', 'paused') ORDER BY priority DESC, planned - expanded, id LIMIT 1 $lock(FOR UPDATE SKIP LOCKED)";
    insert_sweep: "INSERT INTO sweeps (name, spec, state, archived, priority, reuse, created_ms, planned, expanded, base, methods)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id";
    update_sweep: "UPDATE sweeps SET name = $1, spec = $2, state = $3, archived = $4, priority = $5, reuse = $6, planned = $7, expanded = $8,
            base = $9, revision = revision + 1 WHERE id = $10 AND revision = $11";
    sizes: "SELECT COUNT(*) AS sweeps, CAST(COALESCE(SUM(planned), 0) AS BIGINT) AS trials FROM sweeps WHERE state <> 'deleted'";
    next_position: "SELECT COALESCE(MAX(position) + 1, 0) AS next FROM trials WHERE sweep_id = $1";
    // In this order: SQLite would go through the sweep's trials for each of them, since it does not know how many there are.
    insert_members: "INSERT INTO members (trial, place, member)
        SELECT c.id, v.place, t.id FROM $rows(trial_id TEXT, place BIGINT, member TEXT) AS v CROSS JOIN trials AS c CROSS JOIN trials AS t
        WHERE c.trial_id = v.trial_id AND c.sweep_id = $2 AND t.trial_id = v.member AND t.sweep_id = $2
        ON CONFLICT (trial, place) DO UPDATE SET member = excluded.member";
    insert_trials: &format!("INSERT INTO trials (sweep_id, trial_id, position, held_out, parameters, written, seed, split_seed, state, result, reused)
        SELECT CAST($2 AS BIGINT), v.trial_id, v.position, v.held_out, v.parameters,
            COALESCE((SELECT first.written FROM trials AS first WHERE first.trial_id = v.trial_id ORDER BY first.id LIMIT 1), v.written),
            v.seed, v.split_seed,
            CASE WHEN v.existing IS NULL THEN v.state ELSE 'succeeded' END, v.existing, CASE WHEN v.existing IS NULL THEN 0 ELSE 1 END
        FROM (SELECT r.*, (SELECT MAX(CASE WHEN other.state = 'succeeded' THEN other.result END) FROM trials AS other
                           WHERE CAST($3 AS BIGINT) = 1 AND other.trial_id = r.trial_id AND {THERE} AND (r.state = 'blocked' OR {left})) AS existing
              FROM $rows(trial_id TEXT, position BIGINT, held_out TEXT, parameters TEXT, written TEXT, seed BIGINT, split_seed BIGINT,
                         state TEXT) AS r) AS v
        WHERE true ON CONFLICT (trial_id, sweep_id) DO NOTHING", left = left(4));
    lacking: &lacking();
    lacking_elsewhere: &lacking_elsewhere();
    count_reused: "SELECT COUNT(*) AS reused FROM trials WHERE sweep_id = $1 AND position BETWEEN $2 AND $3 AND reused = 1";
    trial_rows: &format!("SELECT t.id, t.position, t.held_out, t.parameters, t.seed, t.split_seed, {STATE_OF_T}
        FROM trials AS t WHERE t.sweep_id = $1 AND t.position >= $2 ORDER BY t.position LIMIT $3 $lock(FOR UPDATE OF t)");
    trials_named: &format!("SELECT t.id, t.position, t.held_out, t.parameters, t.seed, t.split_seed, {STATE_OF_T} FROM trials AS t
        WHERE t.sweep_id = $2 AND t.trial_id IN (SELECT v.trial_id FROM $rows(trial_id TEXT) AS v)
        ORDER BY t.position $lock(FOR UPDATE OF t)");

    insert_attempts: "INSERT INTO attempts (token, trial, worker, started_ms, average, ensemble)
        SELECT v.token, v.trial, v.worker, v.started_ms, v.average, v.ensemble
        FROM $rows(token BIGINT, trial BIGINT, worker BIGINT, started_ms BIGINT, average TEXT, ensemble BIGINT) AS v";
    move_trials: "UPDATE trials SET state = v.state, lost = v.lost, not_before_ms = v.not_before_ms, holder = v.holder,
            expires_ms = v.expires_ms, result = v.result, earlier = v.earlier,
            reused = CASE WHEN v.state = 'succeeded' AND NOT EXISTS (SELECT 1 FROM attempts AS a WHERE a.token = v.result AND a.trial = trials.id)
                THEN 1 ELSE 0 END,
            forgiven = CASE WHEN v.forgive = 1 THEN (SELECT MAX(a.token) FROM attempts AS a WHERE a.trial = trials.id) ELSE forgiven END
        FROM $rows(id BIGINT, from_state TEXT, from_attempt BIGINT, state TEXT, lost BIGINT, not_before_ms BIGINT, holder BIGINT,
                   expires_ms BIGINT, result BIGINT, earlier BIGINT, forgive BIGINT) AS v
        WHERE trials.id = v.id AND trials.state = v.from_state
            AND COALESCE(trials.lost, trials.holder, trials.result) IS NOT DISTINCT FROM v.from_attempt";
    advance_attempts: "UPDATE attempts SET outcome = v.outcome, error_class = v.error_class, message = v.message, ended_ms = v.ended_ms,
            sequence = v.sequence, step = v.step, preparation = v.preparation, log_bytes = v.log_bytes, log_cut = v.log_cut,
            evaluations = v.evaluations, losses = v.losses, artifacts = v.artifacts, notes = v.notes
        FROM $rows(token BIGINT, from_outcome TEXT, from_sequence BIGINT, outcome TEXT, error_class TEXT, message TEXT, ended_ms BIGINT,
                   sequence BIGINT, step BIGINT, preparation TEXT, log_bytes BIGINT, log_cut BIGINT, evaluations BIGINT, losses BIGINT,
                   artifacts BIGINT, notes BIGINT) AS v
        WHERE attempts.token = v.token AND attempts.outcome = v.from_outcome AND attempts.sequence = v.from_sequence";
    fingerprints: "UPDATE attempts SET software = v.software, libtorch = v.libtorch, device = v.device, threads = v.threads,
            dataset_digest = v.dataset_digest, weights_digest = v.weights_digest, code = v.code, code_name = v.code_name,
            micro_batch = v.micro_batch
        FROM $rows(token BIGINT, software TEXT, libtorch TEXT, device TEXT, threads BIGINT, dataset_digest TEXT,
                   weights_digest TEXT, code TEXT, code_name TEXT, micro_batch BIGINT) AS v
        WHERE attempts.token = v.token";
    resumed: "UPDATE attempts SET resumed_token = v.resumed_token, resumed_step = v.resumed_step, exact = v.exact
        FROM $rows(token BIGINT, resumed_token BIGINT, resumed_step BIGINT, exact BIGINT) AS v WHERE attempts.token = v.token";
    insert_log: "INSERT INTO logs (token, sequence, text) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    leave_out_logs: "DELETE FROM logs WHERE token = $1 AND sequence > $2 AND sequence <= $3";
    events: "INSERT INTO trial_events (trial, token, at_ms, what, detail)
        SELECT v.trial, v.token, v.at_ms, v.what, v.detail
        FROM $rows(trial BIGINT, token BIGINT, at_ms BIGINT, what TEXT, detail TEXT) AS v";
    insert_pin: "INSERT INTO digests (kind, name, place, digest, machine, confirmed, used) VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (kind, name, place) DO NOTHING";
    update_pin: "UPDATE digests SET digest = $4, confirmed = $5, used = $6
        WHERE kind = $1 AND name = $2 AND place = $3 AND digest = $7 AND confirmed = $8 AND used = $9";
    remove_pin: "DELETE FROM digests WHERE kind = $1 AND name = $2 AND place = $3 AND digest = $4";
    seen: "UPDATE workers SET seen_ms = v.at_ms FROM $rows(name TEXT, secret TEXT, at_ms BIGINT) AS v
        WHERE workers.worker_id = v.name AND workers.secret = v.secret";
    left: "UPDATE workers SET left_ms = v.at_ms FROM $rows(name TEXT, secret TEXT, at_ms BIGINT) AS v
        WHERE workers.worker_id = v.name AND workers.secret = v.secret";

    status: "SELECT s.id, s.name, s.spec, s.revision, s.state, s.archived, s.priority, s.reuse, s.planned, s.expanded, s.base,
            (SELECT COUNT(*) FROM trials AS t WHERE t.sweep_id = s.id AND t.state = 'blocked') AS blocked,
            (SELECT COUNT(*) FROM trials AS t WHERE t.sweep_id = s.id AND t.state = 'queued') AS queued,
            (SELECT COUNT(*) FROM trials AS t WHERE t.sweep_id = s.id AND t.state = 'running') AS running,
            CAST(CASE WHEN EXISTS (SELECT 1 FROM trials AS t WHERE t.sweep_id = s.id AND t.state = 'queued'
                                       AND (t.not_before_ms IS NULL OR t.not_before_ms <= $2)) THEN 1 ELSE 0 END AS BIGINT) AS ready,
            (SELECT CAST(COALESCE(SUM(a.step), 0) AS BIGINT) FROM trials AS t JOIN attempts AS a ON a.token = t.holder
             WHERE t.sweep_id = s.id AND t.state = 'running') AS steps_running,
            (SELECT COUNT(a.preparation) FROM trials AS t JOIN attempts AS a ON a.token = t.holder
             WHERE t.sweep_id = s.id AND t.state = 'running') AS preparing,
            (SELECT MIN(a.preparation) FROM trials AS t JOIN attempts AS a ON a.token = t.holder
             WHERE t.sweep_id = s.id AND t.state = 'running') AS preparation
        FROM sweeps AS s WHERE s.state <> 'deleted' AND (s.name = $1 OR $1 = '' AND (s.archived = 0 OR CAST($3 AS BIGINT) = 1)) ORDER BY s.id";
    finished: "SELECT t.sweep_id, t.state, t.reused, COUNT(*) AS trials FROM trials AS t
        WHERE t.state IN ('succeeded', 'diverged', 'failed', 'cancelled') AND t.sweep_id = $1 GROUP BY t.sweep_id, t.state, t.reused";
    durations: "SELECT COUNT(*) AS attempts,
            -- A clock that was set back meanwhile.
            CAST(COALESCE(SUM(CASE WHEN a.ended_ms > a.started_ms THEN a.ended_ms - a.started_ms END), 0) AS BIGINT) AS running_ms
        FROM (SELECT t.result FROM trials AS t
              WHERE t.sweep_id = $1 AND t.state IN ('succeeded', 'diverged', 'failed', 'cancelled') AND t.state = 'succeeded' AND t.reused = 0
              LIMIT $2) AS few
        JOIN attempts AS a ON a.token = few.result";
    trials: &lines("WHERE t.sweep_id = $1 AND ($2 = '' OR t.state = $2) AND t.position >= $3 ORDER BY t.position LIMIT $4");
    trial: &lines("WHERE t.id = $1");
    records: "SELECT t.id, t.position, t.trial_id, t.held_out, t.parameters, t.seed, t.split_seed,
            CASE WHEN t.earlier IS NULL THEN t.state ELSE 'succeeded' END AS state, COALESCE(t.earlier, t.result) AS result
        FROM trials AS t WHERE t.sweep_id = $1 AND t.position >= $2 ORDER BY t.position LIMIT $3";
    validation: &evaluations("validation");
    held_out: &evaluations("held_out");
    scores_of_validation: &scores("validation");
    scores_of_held_out: &scores("held_out");
    find: "SELECT t.id, s.name || '/' || substr(t.trial_id, 1, 8) AS trial FROM trials AS t JOIN sweeps AS s ON s.id = t.sweep_id
        WHERE t.trial_id >= $1 AND t.trial_id < $2 AND ($3 = '' OR s.name = $3) AND s.state <> 'deleted'
        ORDER BY CASE WHEN s.name LIKE 'verify-%' THEN 1 ELSE 0 END, t.trial_id, t.sweep_id LIMIT $4";
    attempts_of: "SELECT a.token, a.started_ms, a.ended_ms, a.outcome, a.error_class, a.message, a.step, a.preparation, a.device, a.code,
            a.resumed_token, a.resumed_step, a.exact, w.host || ':' || CAST(w.pid AS TEXT) AS worker,
            -- Commands have no libtorch, and what combines others trains nothing.
            CAST(CASE WHEN a.libtorch <> '' AND NOT EXISTS (SELECT 1 FROM members AS m WHERE m.trial = a.trial) THEN 1 ELSE 0 END AS BIGINT) AS trains
        FROM attempts AS a JOIN workers AS w ON w.id = a.worker WHERE a.trial = $1 ORDER BY a.token";
    members_of: "SELECT substr(t.trial_id, 1, 8) || ' ' || t.state AS member FROM members AS m JOIN trials AS t ON t.id = m.member
        WHERE m.trial = $1 ORDER BY m.place";
    events_of: "SELECT token, at_ms, what, detail FROM trial_events WHERE trial = $1 ORDER BY id";
    log_of: "SELECT a.log_cut, a.log_bytes - CAST(COALESCE((SELECT SUM(LENGTH(l.text)) FROM logs AS l WHERE l.token = a.token), 0) AS BIGINT) AS left_out
        FROM attempts AS a WHERE a.token = $1";
    log_part: "SELECT l.sequence, l.text FROM logs AS l WHERE l.token = $1 AND l.sequence > $2 ORDER BY l.sequence LIMIT $3";
    artifacts_of: "SELECT r.token, r.kind, r.method, r.step, r.key, r.digest, r.bytes, w.host, w.checkpoints
        FROM artifacts AS r JOIN attempts AS a ON a.token = r.token JOIN workers AS w ON w.id = a.worker
        WHERE r.token = $1 OR r.token = $3 OR r.token IN (SELECT own.token FROM attempts AS own WHERE own.trial = $2)
        ORDER BY r.token, r.kind, r.method, r.step";
    losses_of: "SELECT step, loss, seconds FROM training_losses WHERE token = $1 ORDER BY step";
    attempt: "SELECT a.resumed_token, a.resumed_step, a.exact, w.host || ':' || CAST(w.pid AS TEXT) AS worker
        FROM attempts AS a JOIN workers AS w ON w.id = a.worker WHERE a.token = $1";
    worker_lines: "SELECT w.id, w.worker_id, w.secret, w.host, w.pid, w.devices, w.slots, w.abilities, w.software, w.seen_ms, w.left_ms,
            w.machine, w.checkpoints
        FROM workers AS w WHERE w.seen_ms >= $1 ORDER BY w.id";
    running: "SELECT a.worker, s.name || '/' || substr(t.trial_id, 1, 8) AS trial
        FROM trials AS t JOIN attempts AS a ON a.token = t.holder JOIN sweeps AS s ON s.id = t.sweep_id
        WHERE t.state = 'running' ORDER BY a.token";
    sweep_names: "SELECT name FROM sweeps WHERE state <> 'deleted' ORDER BY id DESC LIMIT 20";
    contents: "SELECT (SELECT COUNT(*) FROM trials AS t WHERE t.sweep_id = $1) AS trials,
            (SELECT COUNT(*) FROM trials AS t WHERE t.sweep_id = $1
                AND t.state IN ('succeeded', 'diverged', 'failed', 'cancelled') AND t.state = 'succeeded')
                + (SELECT COUNT(*) FROM trials AS t WHERE t.sweep_id = $1 AND t.earlier IS NOT NULL) AS succeeded,
            COUNT(DISTINCT r.key) AS files, CAST(COALESCE(SUM(r.bytes), 0) AS BIGINT) AS bytes
        FROM trials AS t JOIN attempts AS a ON a.trial = t.id JOIN artifacts AS r ON r.token = a.token
        WHERE t.sweep_id = $1 AND r.key IS NOT NULL
            -- Those of trials that came to a result are deleted.
            AND (r.kind <> 'checkpoint' OR t.state NOT IN ('succeeded', 'diverged'))";

    lock_trials: "LOCK TABLE trials IN EXCLUSIVE MODE";
    running_of: "SELECT COUNT(*) AS running FROM trials AS t WHERE t.sweep_id = $1 AND t.state = 'running'";
    reused_by: "SELECT s.name, COUNT(*) AS trials,
            CAST(SUM(CASE WHEN EXISTS (SELECT 1 FROM members AS m WHERE m.member = t.id) THEN 1 ELSE 0 END) AS BIGINT) AS members
        FROM (SELECT id, sweep_id, result AS token FROM trials
                WHERE state IN ('succeeded', 'diverged', 'failed', 'cancelled') AND state = 'succeeded' AND reused = 1
                UNION ALL SELECT id, sweep_id, earlier FROM trials WHERE earlier IS NOT NULL) AS t
            JOIN sweeps AS s ON s.id = t.sweep_id JOIN attempts AS a ON a.token = t.token JOIN trials AS own ON own.id = a.trial
        WHERE own.sweep_id = $1 AND s.id <> $1 AND s.state <> 'deleted' GROUP BY s.id, s.name ORDER BY s.id";
    deleted_sweep: "SELECT id FROM sweeps WHERE state = 'deleted' ORDER BY id LIMIT 1 $lock(FOR UPDATE SKIP LOCKED)";
    last_trials: "SELECT t.id FROM trials AS t WHERE t.sweep_id = $1 ORDER BY t.position DESC LIMIT $2 $lock(FOR UPDATE OF t)";
    remove_validation: &of_attempts("validation");
    remove_held_out: &of_attempts("held_out");
    remove_losses: &of_attempts("training_losses");
    remove_artifacts: &of_attempts("artifacts");
    remove_logs: &of_attempts("logs");
    remove_attempts: "DELETE FROM attempts WHERE trial IN (SELECT v.trial FROM $rows(trial BIGINT) AS v)";
    remove_events: "DELETE FROM trial_events WHERE trial IN (SELECT v.trial FROM $rows(trial BIGINT) AS v)";
    remove_members: "DELETE FROM members WHERE trial IN (SELECT v.trial FROM $rows(trial BIGINT) AS v)";
    remove_trials: "DELETE FROM trials WHERE id IN (SELECT v.trial FROM $rows(trial BIGINT) AS v)";
    remove_sweep: "DELETE FROM sweeps WHERE id = $1 AND state = 'deleted'";
}

/// What the databases write differently: see [`Statements`].
const IDIOMS: [&str; 5] = ["$rows(", "$lock(", "$pack(", "$random(", "$ids("];
/// 64 random bits on Postgres, whose random() has fewer.
const RANDOM: &str =
    "CAST(CAST('x' || substr(md5(CAST(gen_random_uuid() AS TEXT)), 1, 16) AS BIT(64)) AS BIGINT)";

/// The statements of a database.
pub(super) fn statements(dialect: Dialect) -> &'static Statements {
    static SQLITE: LazyLock<Statements> = LazyLock::new(|| Statements::of(Dialect::Sqlite));
    static POSTGRES: LazyLock<Statements> = LazyLock::new(|| Statements::of(Dialect::Postgres));
    match dialect {
        Dialect::Sqlite => &SQLITE,
        Dialect::Postgres => &POSTGRES,
    }
}

impl Dialect {
    /// Expands the idioms of a statement. The result is kept for good: there is one per statement and database.
    fn text(self, template: &str) -> &'static str {
        let (mut text, mut tail) = (String::new(), "");
        let mut rest = template;
        while let Some(at) = IDIOMS.iter().filter_map(|idiom| rest.find(idiom)).min() {
            text.push_str(&rest[..at]);
            let idiom = &rest[at..];
            let end = idiom.find(')').map_or(idiom.len(), |end| end + 1);
            let (name, inner) = idiom[..end - 1].split_once('(').unwrap_or_default();
            match (name, self) {
                ("$rows", _) => text.push_str(&self.rows(inner)),
                ("$lock", Self::Postgres) => text.push_str(inner),
                ("$pack", Self::Sqlite) => {
                    text.push_str(&packed(inner));
                    tail = ")";
                }
                ("$random", Self::Sqlite) => text.push_str("random()"),
                ("$random", Self::Postgres) => text.push_str(RANDOM),
                ("$ids", Self::Postgres) => text.push_str("OVERRIDING SYSTEM VALUE"),
                _ => {}
            }
            rest = &idiom[end..];
        }
        text.push_str(rest);
        text.push_str(tail);
        String::leak(text)
    }

    /// A table of the columns `name TYPE, ...`, made of the first argument: a JSON list of lists. No column is a float: SQLite's reader
    /// of JSON numbers does not promise the last bit.
    fn rows(self, columns: &str) -> String {
        let columns = columns
            .split(',')
            .map(|column| column.trim().split_once(' ').unwrap_or((column, "TEXT")))
            .enumerate();
        let select: Vec<String> = match self {
            Self::Sqlite => {
                columns.map(|(index, (name, _))| format!("value ->> {index} AS {name}")).collect()
            }
            Self::Postgres => columns
                .map(|(index, (name, kind))| format!("CAST(value ->> {index} AS {kind}) AS {name}"))
                .collect(),
        };
        let source = match self {
            Self::Sqlite => "json_each($1)",
            Self::Postgres => "json_array_elements(CAST($1 AS JSON)) AS lists (value)",
        };
        format!("(SELECT {} FROM {source})", select.join(", "))
    }
}

/// The beginning of a statement that packs these columns. No float is among them, for the reason above.
fn packed(columns: &str) -> String {
    let pairs: Vec<String> =
        columns.split(',').map(str::trim).map(|name| format!("'{name}', {name}")).collect();
    format!("SELECT json_group_array(json_object({})) AS {PACKED} FROM (", pairs.join(", "))
}

/// Trials as users see them. One that reuses another sweep's result shows the attempt that gave it, and counts those of both.
fn lines(which: &str) -> String {
    format!(
        "SELECT t.id, t.position, t.trial_id, t.held_out, t.parameters, t.seed, t.split_seed, {STATE_OF_T}, s.name,
            COALESCE(other.name, '') AS reused_from,
            (SELECT COUNT(*) FROM attempts AS a WHERE a.trial = t.id)
                + (SELECT COUNT(*) FROM attempts AS a WHERE a.trial = origin.id) AS attempts,
            COALESCE(newest.step, 0) AS step, COALESCE(w.host || ':' || CAST(w.pid AS TEXT), '') AS worker,
            COALESCE((SELECT a.error_class || ': ' || a.message FROM attempts AS a
                      WHERE a.trial = t.id AND a.outcome = 'failed' ORDER BY a.token DESC LIMIT 1),
                     -- A combination can fail without an attempt.
                     (SELECT h.detail FROM trial_events AS h
                      WHERE h.trial = t.id AND h.what = 'failed' ORDER BY h.id DESC LIMIT 1), '') AS error
        FROM trials AS t JOIN sweeps AS s ON s.id = t.sweep_id
        LEFT JOIN attempts AS newest ON newest.token =
            CASE WHEN t.reused = 1 THEN t.result ELSE (SELECT MAX(a.token) FROM attempts AS a WHERE a.trial = t.id) END
        LEFT JOIN workers AS w ON w.id = newest.worker
        LEFT JOIN trials AS origin ON t.reused = 1 AND origin.id = newest.trial
        LEFT JOIN sweeps AS other ON other.id = origin.sweep_id {which}"
    )
}

/// Removes what the attempts at some trials left in a table.
fn of_attempts(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE token IN
            (SELECT a.token FROM $rows(trial BIGINT) AS v JOIN attempts AS a ON a.trial = v.trial)"
    )
}

/// How many trials have a result that was made with one of these digests.
fn results_with(column: &str) -> String {
    format!(
        "SELECT COUNT(*) AS trials FROM trials AS t JOIN attempts AS a ON a.token = COALESCE(t.earlier, t.result)
        WHERE (t.state = 'succeeded' OR t.earlier IS NOT NULL) AND a.{column} IN (SELECT v.digest FROM $rows(digest TEXT) AS v)
            AND NOT EXISTS (SELECT 1 FROM sweeps AS gone WHERE gone.id = t.sweep_id AND gone.state = 'deleted')"
    )
}

/// Evaluations in one of their tables that differ from what an earlier attempt at the same trial reported under the same circumstances.
fn contradictions(table: &str) -> String {
    format!(
        "SELECT late.trial, late.token, early.token AS earlier,
            (SELECT COUNT(*) FROM attempts AS b WHERE b.trial = late.trial AND b.token <= early.token) AS earlier_number, MIN(e.step) AS step, COUNT(*) AS differing
        FROM $rows(token BIGINT) AS v JOIN attempts AS late ON late.token = v.token JOIN workers AS w ON w.id = late.worker
        JOIN attempts AS early ON early.trial = late.trial AND early.token < late.token
            AND early.device IS NOT DISTINCT FROM late.device AND early.threads IS NOT DISTINCT FROM late.threads
            AND early.libtorch IS NOT DISTINCT FROM late.libtorch
            AND early.dataset_digest IS NOT DISTINCT FROM late.dataset_digest
            AND early.weights_digest IS NOT DISTINCT FROM late.weights_digest
            AND early.micro_batch IS NULL AND late.micro_batch IS NULL
        JOIN workers AS o ON o.id = early.worker AND o.host = w.host
        JOIN {table} AS e ON e.token = late.token
        JOIN {table} AS f ON f.token = early.token AND f.method = e.method AND f.step = e.step AND f.domain = e.domain
            AND f.split = e.split
        WHERE f.n IS DISTINCT FROM e.n OR f.correct IS DISTINCT FROM e.correct OR f.accuracy IS DISTINCT FROM e.accuracy OR f.loss IS DISTINCT FROM e.loss
        GROUP BY late.trial, late.token, early.token"
    )
}

/// All of an evaluation that is no float, as one text: fewer columns to carry, and one row a trial where floats are not asked for. No part
/// has a control character.
const EVALUATION_LINE: &str = "concat_ws('\t', e.method, e.split, e.step, COALESCE(CAST(e.n AS TEXT), ''), COALESCE(CAST(e.correct AS TEXT), ''), e.domain)";

/// Evaluations, one a row: all of them if the second argument is 1, else those whose correct images were not counted.
fn evaluations(table: &str) -> String {
    format!(
        "SELECT e.token, {EVALUATION_LINE} AS line, e.accuracy, e.loss, e.metrics, e.seconds
        FROM $rows(token BIGINT) AS v JOIN {table} AS e ON e.token = v.token
        WHERE CAST($2 AS BIGINT) = 1 OR e.correct IS NULL"
    )
}

/// Evaluations without their floats, one attempt a row. A question for each attempt leaves the planner no other way than by its key.
fn scores(table: &str) -> String {
    format!(
        "SELECT v.token, COALESCE((SELECT string_agg({EVALUATION_LINE}, '\n') FROM {table} AS e WHERE e.token = v.token), '') AS lines
        FROM $rows(token BIGINT) AS v"
    )
}

/// Whether anything is held against the machine of worker `w`: the rare case, in which its faults are read.
const SUSPECT: &str = "CAST(CASE WHEN EXISTS (SELECT 1 FROM machine_faults AS f WHERE f.machine = w.machine) THEN 1 ELSE 0 END AS BIGINT) AS suspect";

/// The state of a trial: its name, and the columns of which each belongs to one state (see the migration).
const STATE: &str = "state, lost, not_before_ms, holder, expires_ms, result, earlier";
/// The same of a table that is called `t`.
const STATE_OF_T: &str = "t.state, t.lost, t.not_before_ms, t.holder, t.expires_ms, t.result, t.earlier";
