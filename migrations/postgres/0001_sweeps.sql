-- Sweeps, trials, attempts and what they reported. Times are milliseconds since the Unix epoch by the database's clock; 0 means never.
-- migrations/sqlite holds the same tables under the same numbers, with the comments on every column.

-- One row per start of a coordinator. Its id is the upper half of the fencing tokens that it issues, so that no token is issued twice.
CREATE TABLE epochs (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    started_ms BIGINT NOT NULL
);

CREATE TABLE sweeps (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    revision BIGINT NOT NULL DEFAULT 1,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paused', 'cancelled')),
    priority BIGINT NOT NULL,
    reuse BIGINT NOT NULL CHECK (reuse IN (0, 1)),
    created_ms BIGINT NOT NULL,
    planned BIGINT NOT NULL,
    expanded BIGINT NOT NULL,
    base BIGINT NOT NULL
);

CREATE TABLE trials (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    sweep_id BIGINT NOT NULL REFERENCES sweeps (id),
    trial_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    held_out TEXT NOT NULL,
    parameters TEXT NOT NULL,
    seed BIGINT NOT NULL,
    split_seed BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'diverged', 'failed', 'cancelled')),
    token BIGINT NOT NULL DEFAULT 0,
    due_ms BIGINT NOT NULL DEFAULT 0,
    forgiven BIGINT NOT NULL DEFAULT 0,
    reused BIGINT NOT NULL DEFAULT 0,
    UNIQUE (trial_id, sweep_id)
);
CREATE INDEX trials_in_order ON trials (sweep_id, position);
CREATE INDEX trials_queued ON trials (sweep_id, position) WHERE state = 'queued';
CREATE INDEX trials_running ON trials (sweep_id) WHERE state = 'running';
CREATE INDEX trials_finished ON trials (sweep_id, state, reused) WHERE state NOT IN ('queued', 'running');

CREATE TABLE workers (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    worker_id TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    devices TEXT NOT NULL,
    slots BIGINT NOT NULL,
    abilities TEXT NOT NULL,
    software TEXT NOT NULL,
    registered_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    left_ms BIGINT NOT NULL DEFAULT 0,
    failures_in_row BIGINT NOT NULL DEFAULT 0,
    quarantined_until_ms BIGINT NOT NULL DEFAULT 0,
    quarantine_reason TEXT NOT NULL DEFAULT '',
    checkpoints TEXT NOT NULL DEFAULT ''
);

CREATE TABLE attempts (
    token BIGINT PRIMARY KEY,
    trial BIGINT NOT NULL REFERENCES trials (id),
    worker BIGINT NOT NULL REFERENCES workers (id),
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'succeeded', 'diverged', 'failed', 'cancelled')),
    error_class TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '',
    sequence BIGINT NOT NULL DEFAULT 0,
    step BIGINT NOT NULL DEFAULT 0,
    software TEXT NOT NULL DEFAULT '',
    libtorch TEXT NOT NULL DEFAULT '',
    device TEXT NOT NULL DEFAULT '',
    threads BIGINT NOT NULL DEFAULT 0,
    dataset_digest TEXT NOT NULL DEFAULT '',
    weights_digest TEXT NOT NULL DEFAULT '',
    resumed_token BIGINT NOT NULL DEFAULT 0,
    resumed_step BIGINT NOT NULL DEFAULT 0,
    exact BIGINT NOT NULL DEFAULT 1 CHECK (exact IN (0, 1))
);
CREATE INDEX attempts_by_trial ON attempts (trial, token);

-- Evaluations on domains that the run trained on: what selection may read.
CREATE TABLE validation (
    token BIGINT NOT NULL REFERENCES attempts (token),
    method TEXT NOT NULL,
    step BIGINT NOT NULL,
    domain TEXT NOT NULL,
    split TEXT NOT NULL CHECK (split IN ('in', 'out')),
    n BIGINT NOT NULL CHECK (n >= 0),
    correct BIGINT NOT NULL CHECK (correct BETWEEN -1 AND n),
    accuracy DOUBLE PRECISION NOT NULL,
    loss DOUBLE PRECISION,
    PRIMARY KEY (token, method, step, domain, split)
);

-- Evaluations on held-out domains: kept apart, so that a selector cannot read them by accident.
CREATE TABLE held_out (
    token BIGINT NOT NULL REFERENCES attempts (token),
    method TEXT NOT NULL,
    step BIGINT NOT NULL,
    domain TEXT NOT NULL,
    split TEXT NOT NULL CHECK (split IN ('in', 'out')),
    n BIGINT NOT NULL CHECK (n >= 0),
    correct BIGINT NOT NULL CHECK (correct BETWEEN -1 AND n),
    accuracy DOUBLE PRECISION NOT NULL,
    loss DOUBLE PRECISION,
    PRIMARY KEY (token, method, step, domain, split)
);

CREATE TABLE training_losses (
    token BIGINT NOT NULL REFERENCES attempts (token),
    step BIGINT NOT NULL,
    loss DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (token, step)
);

CREATE TABLE artifacts (
    token BIGINT NOT NULL REFERENCES attempts (token),
    kind TEXT NOT NULL CHECK (kind IN ('checkpoint', 'final-weights', 'selected-weights', 'final-logits')),
    method TEXT NOT NULL,
    step BIGINT NOT NULL,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (token, kind, method, step)
);

-- What attempts printed, as much of it as their workers sent.
CREATE TABLE logs (
    token BIGINT NOT NULL REFERENCES attempts (token),
    sequence BIGINT NOT NULL,
    text BYTEA NOT NULL,
    PRIMARY KEY (token, sequence)
);

-- What happened to a trial and is not an attempt's beginning or end.
CREATE TABLE trial_events (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    trial BIGINT NOT NULL REFERENCES trials (id),
    token BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX trial_events_by_trial ON trial_events (trial, id);

-- The first accepted attempt pins what a dataset's and a backbone's name mean; whoever has something else under that name is refused.
CREATE TABLE digests (
    kind TEXT NOT NULL CHECK (kind IN ('dataset', 'weights')),
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
