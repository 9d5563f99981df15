-- Sweeps, trials, attempts and what they reported. STRICT, and NOT NULL wherever a value always exists: a statement with too few values
-- must fail, not store NULL. Times are milliseconds since the Unix epoch by the coordinator's clock; 0 means never.
-- migrations/postgres holds the same tables under the same numbers.

-- One row per start of a coordinator. Its id is the upper half of the fencing tokens that it issues, so that no token is issued twice.
CREATE TABLE epochs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    started_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE sweeps (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    spec       TEXT    NOT NULL,           -- SweepSpec as JSON
    revision   INTEGER NOT NULL DEFAULT 1, -- grows whenever the row changes
    state      TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paused', 'cancelled')),
    priority   INTEGER NOT NULL,           -- higher ones are served first
    reuse      INTEGER NOT NULL CHECK (reuse IN (0, 1)), -- results of the same trials in other sweeps are taken over
    created_ms INTEGER NOT NULL,
    planned    INTEGER NOT NULL,           -- trials of the grid
    expanded   INTEGER NOT NULL,           -- how many of them have been looked at: below `planned` the sweep is expanding
    base       INTEGER NOT NULL            -- position of the first trial that this expansion adds
) STRICT;

CREATE TABLE trials (
    id         INTEGER PRIMARY KEY,
    sweep_id   INTEGER NOT NULL REFERENCES sweeps (id),
    trial_id   TEXT    NOT NULL,           -- hash of the specification, 32 hexadecimal digits
    position   INTEGER NOT NULL,           -- order in which the sweep's trials run
    held_out   TEXT    NOT NULL,           -- 'sketch', 'photo+sketch' for a pair, '' for none
    parameters TEXT    NOT NULL,           -- the other axes as a JSON object, such as {"dropout":0.9,"lr":0.001}
    seed       INTEGER NOT NULL,
    split_seed INTEGER NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'diverged', 'failed', 'cancelled')),
    token      INTEGER NOT NULL DEFAULT 0, -- running: who has it; queued: whose lease expired, or 0; finished: whose result counts, or 0
    due_ms     INTEGER NOT NULL DEFAULT 0, -- running: when the lease ends; queued: nobody gets it earlier
    forgiven   INTEGER NOT NULL DEFAULT 0, -- attempts up to this token no longer count against it
    reused     INTEGER NOT NULL DEFAULT 0, -- 1: the result is that of the same trial in another sweep
    UNIQUE (trial_id, sweep_id)
) STRICT;
CREATE INDEX trials_in_order ON trials (sweep_id, position);
CREATE INDEX trials_queued ON trials (sweep_id, position) WHERE state = 'queued';
CREATE INDEX trials_running ON trials (sweep_id) WHERE state = 'running';
CREATE INDEX trials_finished ON trials (sweep_id, state, reused) WHERE state NOT IN ('queued', 'running');

CREATE TABLE workers (
    id              INTEGER PRIMARY KEY,
    worker_id       TEXT    NOT NULL UNIQUE,
    host            TEXT    NOT NULL,
    pid             INTEGER NOT NULL,
    devices         TEXT    NOT NULL,      -- comma separated
    slots           INTEGER NOT NULL,
    abilities       TEXT    NOT NULL,      -- Abilities as JSON
    software        TEXT    NOT NULL,
    registered_ms   INTEGER NOT NULL,
    seen_ms         INTEGER NOT NULL,
    left_ms         INTEGER NOT NULL DEFAULT 0,
    failures_in_row INTEGER NOT NULL DEFAULT 0,
    quarantined_until_ms  INTEGER NOT NULL DEFAULT 0, -- gets no trials before that
    quarantine_reason    TEXT    NOT NULL DEFAULT '',
    checkpoints     TEXT    NOT NULL DEFAULT '' -- 'shared': it reaches the artifact store; 'local': it does not; '': not known
) STRICT;

CREATE TABLE attempts (
    token          INTEGER PRIMARY KEY,    -- the fencing token
    trial          INTEGER NOT NULL REFERENCES trials (id),
    worker         INTEGER NOT NULL REFERENCES workers (id),
    started_ms     INTEGER NOT NULL,
    ended_ms       INTEGER NOT NULL DEFAULT 0,
    outcome        TEXT    NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'succeeded', 'diverged', 'failed', 'cancelled')),
    error_class    TEXT    NOT NULL DEFAULT '',
    message        TEXT    NOT NULL DEFAULT '',
    sequence       INTEGER NOT NULL DEFAULT 0, -- the last batch of reports that was accepted
    step           INTEGER NOT NULL DEFAULT 0, -- the last step that it reported
    software       TEXT    NOT NULL DEFAULT '',
    libtorch       TEXT    NOT NULL DEFAULT '',
    device         TEXT    NOT NULL DEFAULT '',
    threads        INTEGER NOT NULL DEFAULT 0,
    dataset_digest TEXT    NOT NULL DEFAULT '',
    weights_digest TEXT    NOT NULL DEFAULT '',
    resumed_token  INTEGER NOT NULL DEFAULT 0, -- the attempt whose checkpoint it went on from; 0 if it began at step 0
    resumed_step   INTEGER NOT NULL DEFAULT 0, -- the last step that it did not make itself
    exact          INTEGER NOT NULL DEFAULT 1 CHECK (exact IN (0, 1)) -- 0: resumed on another device, thread count or libtorch
) STRICT;
CREATE INDEX attempts_by_trial ON attempts (trial, token);

-- Evaluations on domains that the run trained on: what selection may read.
CREATE TABLE validation (
    token    INTEGER NOT NULL REFERENCES attempts (token),
    method   TEXT    NOT NULL,
    step     INTEGER NOT NULL,
    domain   TEXT    NOT NULL,
    split    TEXT    NOT NULL CHECK (split IN ('in', 'out')),
    n        INTEGER NOT NULL CHECK (n >= 0),              -- images; 0: not known
    correct  INTEGER NOT NULL CHECK (correct BETWEEN -1 AND n), -- -1: only the accuracy is known
    accuracy REAL    NOT NULL,
    loss     REAL,                                         -- NULL: not reported
    PRIMARY KEY (token, method, step, domain, split)
) STRICT, WITHOUT ROWID;

-- Evaluations on held-out domains: kept apart, so that a selector cannot read them by accident.
CREATE TABLE held_out (
    token    INTEGER NOT NULL REFERENCES attempts (token),
    method   TEXT    NOT NULL,
    step     INTEGER NOT NULL,
    domain   TEXT    NOT NULL,
    split    TEXT    NOT NULL CHECK (split IN ('in', 'out')),
    n        INTEGER NOT NULL CHECK (n >= 0),
    correct  INTEGER NOT NULL CHECK (correct BETWEEN -1 AND n),
    accuracy REAL    NOT NULL,
    loss     REAL,
    PRIMARY KEY (token, method, step, domain, split)
) STRICT, WITHOUT ROWID;

CREATE TABLE training_losses (
    token INTEGER NOT NULL REFERENCES attempts (token),
    step  INTEGER NOT NULL,
    loss  REAL    NOT NULL,
    PRIMARY KEY (token, step)
) STRICT, WITHOUT ROWID;

-- What attempts left in the artifact store, or the digests alone of what was not kept.
CREATE TABLE artifacts (
    token  INTEGER NOT NULL REFERENCES attempts (token),
    kind   TEXT    NOT NULL CHECK (kind IN ('checkpoint', 'final-weights', 'selected-weights', 'final-logits')),
    method TEXT    NOT NULL,
    step   INTEGER NOT NULL,
    key    TEXT    NOT NULL,               -- below the store's root; '' if it was not kept
    digest TEXT    NOT NULL,               -- BLAKE3, 64 hexadecimal digits
    bytes  INTEGER NOT NULL,
    PRIMARY KEY (token, kind, method, step)
) STRICT, WITHOUT ROWID;

-- What attempts printed, as much of it as their workers sent.
CREATE TABLE logs (
    token    INTEGER NOT NULL REFERENCES attempts (token),
    sequence INTEGER NOT NULL,
    text     BLOB    NOT NULL,
    PRIMARY KEY (token, sequence)
) STRICT, WITHOUT ROWID;

-- What happened to a trial and is not an attempt's beginning or end.
CREATE TABLE trial_events (
    id     INTEGER PRIMARY KEY,
    trial  INTEGER NOT NULL REFERENCES trials (id),
    token  INTEGER NOT NULL,               -- the attempt; 0 if none is concerned
    at_ms  INTEGER NOT NULL,
    what   TEXT    NOT NULL,
    detail TEXT    NOT NULL
) STRICT;
CREATE INDEX trial_events_by_trial ON trial_events (trial, id);

-- The first accepted attempt pins what a dataset's and a backbone's name mean; whoever has something else under that name is refused.
CREATE TABLE digests (
    kind   TEXT NOT NULL CHECK (kind IN ('dataset', 'weights')),
    name   TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
