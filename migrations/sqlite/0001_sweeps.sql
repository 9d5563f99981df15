-- Sweeps, trials, attempts and what they reported. STRICT, and NOT NULL throughout: a statement with too few values must fail, not store NULL.
-- Times are milliseconds since the Unix epoch by the coordinator's clock; 0 means never.

CREATE TABLE sweeps (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    spec       TEXT    NOT NULL,           -- SweepSpec as JSON
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE trials (
    id               INTEGER PRIMARY KEY,
    sweep_id         INTEGER NOT NULL REFERENCES sweeps (id),
    trial_id         TEXT    NOT NULL,     -- hash of the specification, 32 hexadecimal digits
    position         INTEGER NOT NULL,     -- order in which the sweep's trials run
    held_out         TEXT    NOT NULL,     -- 'sketch', or 'photo+sketch' for a pair
    dropout          REAL    NOT NULL,
    lr               REAL    NOT NULL,
    weight_decay     REAL    NOT NULL,
    head_lr_factor   REAL    NOT NULL,
    seed             INTEGER NOT NULL,
    split_seed       INTEGER NOT NULL,
    state            TEXT    NOT NULL DEFAULT 'queued'
                     CHECK (state IN ('queued', 'leased', 'succeeded', 'diverged', 'failed')),
    token            INTEGER NOT NULL DEFAULT 0, -- leased: who has it; queued: whose lease expired, or 0; finished: who finished it
    lease_expires_ms INTEGER NOT NULL DEFAULT 0,
    UNIQUE (sweep_id, trial_id)
) STRICT;
CREATE INDEX trials_queued ON trials (position, id) WHERE state = 'queued';
CREATE INDEX trials_leased ON trials (lease_expires_ms) WHERE state = 'leased';
CREATE INDEX trials_by_state ON trials (sweep_id, state);

CREATE TABLE workers (
    worker_id     TEXT    PRIMARY KEY NOT NULL,
    host          TEXT    NOT NULL,
    pid           INTEGER NOT NULL,
    devices       TEXT    NOT NULL,        -- comma separated
    software      TEXT    NOT NULL,
    registered_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE attempts (
    token          INTEGER PRIMARY KEY AUTOINCREMENT, -- the fencing token: AUTOINCREMENT never issues one twice
    trial          INTEGER NOT NULL REFERENCES trials (id),
    worker_id      TEXT    NOT NULL REFERENCES workers (worker_id),
    started_ms     INTEGER NOT NULL,
    ended_ms       INTEGER NOT NULL DEFAULT 0,
    outcome        TEXT    NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'succeeded', 'diverged', 'failed')),
    error_class    TEXT    NOT NULL DEFAULT '',
    message        TEXT    NOT NULL DEFAULT '',
    sequence       INTEGER NOT NULL DEFAULT 0, -- the last batch of reports that was accepted
    step           INTEGER NOT NULL DEFAULT 0, -- the last step that it told of
    software       TEXT    NOT NULL DEFAULT '',
    libtorch       TEXT    NOT NULL DEFAULT '',
    device         TEXT    NOT NULL DEFAULT '',
    threads        INTEGER NOT NULL DEFAULT 0,
    dataset_digest TEXT    NOT NULL DEFAULT '',
    weights_digest TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX attempts_by_trial ON attempts (trial, token);

-- Evaluations on domains that the run trained on: what selection may read.
CREATE TABLE validation (
    trial   INTEGER NOT NULL REFERENCES trials (id),
    token   INTEGER NOT NULL REFERENCES attempts (token),
    method  TEXT    NOT NULL,
    step    INTEGER NOT NULL,
    domain  TEXT    NOT NULL,
    split   TEXT    NOT NULL CHECK (split IN ('in', 'out')),
    n       INTEGER NOT NULL CHECK (n > 0),
    correct INTEGER NOT NULL CHECK (correct BETWEEN 0 AND n),
    loss    REAL    NOT NULL,
    PRIMARY KEY (trial, token, method, step, domain, split)
) STRICT, WITHOUT ROWID;

-- Evaluations on held-out domains: kept apart, so that a selector cannot read them by accident.
CREATE TABLE held_out (
    trial   INTEGER NOT NULL REFERENCES trials (id),
    token   INTEGER NOT NULL REFERENCES attempts (token),
    method  TEXT    NOT NULL,
    step    INTEGER NOT NULL,
    domain  TEXT    NOT NULL,
    split   TEXT    NOT NULL CHECK (split IN ('in', 'out')),
    n       INTEGER NOT NULL CHECK (n > 0),
    correct INTEGER NOT NULL CHECK (correct BETWEEN 0 AND n),
    loss    REAL    NOT NULL,
    PRIMARY KEY (trial, token, method, step, domain, split)
) STRICT, WITHOUT ROWID;

CREATE TABLE training_losses (
    token INTEGER NOT NULL REFERENCES attempts (token),
    step  INTEGER NOT NULL,
    loss  REAL    NOT NULL,
    PRIMARY KEY (token, step)
) STRICT, WITHOUT ROWID;

-- The first accepted attempt pins what a dataset's and a backbone's name mean; whoever has something else under that name is refused.
CREATE TABLE digests (
    kind   TEXT NOT NULL CHECK (kind IN ('dataset', 'weights')),
    name   TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
