-- Sweeps, trials, attempts and what they reported. NULL means that there is no such value, and no other value means that. Times are
-- milliseconds since the Unix epoch by the database's clock. migrations/sqlite holds the same tables and columns under the same numbers, with
-- the comments on every column. A backup of either is a file of that kind.

-- Which database this is: one row with a random number, odd so that it is not 0. A backup has no row; what is restored from it gets a number of
-- its own. Workers name it in every request, so nothing that was begun in another database is accepted in this one.
CREATE TABLE incarnation (
    number BIGINT NOT NULL
);
INSERT INTO incarnation (number)
VALUES ((CAST(CAST('x' || substr(md5(CAST(gen_random_uuid() AS TEXT)), 1, 16) AS BIT(64)) AS BIGINT) & 9223372036854775807) | 1);

-- One row per start of a coordinator. Its id is the upper half of the fencing tokens that it issues, so that no token is issued twice.
CREATE TABLE epochs (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    started_ms BIGINT NOT NULL,
    latest_ms BIGINT                       -- NULL but in what was restored from a backup: a server has a clock of its own
);

CREATE TABLE sweeps (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    revision BIGINT NOT NULL DEFAULT 1,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paused', 'cancelled', 'deleted')),
    archived BIGINT NOT NULL DEFAULT 0 CHECK (archived IN (0, 1)),
    priority BIGINT NOT NULL,
    reuse TEXT NOT NULL CHECK (reuse IN ('never', 'complete', 'anyway')),
    created_ms BIGINT NOT NULL,
    planned BIGINT NOT NULL,
    expanded BIGINT NOT NULL,
    base BIGINT NOT NULL,
    methods TEXT NOT NULL
);
CREATE UNIQUE INDEX sweeps_by_name ON sweeps (name) WHERE state <> 'deleted';
CREATE INDEX sweeps_planned ON sweeps (planned) WHERE state <> 'deleted';

CREATE TABLE trials (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    sweep_id BIGINT NOT NULL REFERENCES sweeps (id),
    trial_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    held_out TEXT NOT NULL,
    parameters TEXT NOT NULL,
    seed BIGINT NOT NULL,
    split_seed BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('blocked', 'queued', 'running', 'succeeded', 'diverged', 'failed', 'cancelled')),
    lost BIGINT,
    not_before_ms BIGINT,
    holder BIGINT,
    expires_ms BIGINT,
    result BIGINT,
    earlier BIGINT,
    forgiven BIGINT,
    reused BIGINT NOT NULL DEFAULT 0 CHECK (reused IN (0, 1)),
    written TEXT NOT NULL DEFAULT '{}',
    UNIQUE (trial_id, sweep_id),
    CHECK (state = 'queued' OR (lost IS NULL AND not_before_ms IS NULL)),
    CHECK (state IN ('queued', 'running') OR earlier IS NULL),
    CHECK ((state = 'running') = (holder IS NOT NULL) AND (state = 'running') = (expires_ms IS NOT NULL)),
    CHECK (state = 'failed' OR (state IN ('succeeded', 'diverged')) = (result IS NOT NULL))
);
CREATE INDEX trials_in_order ON trials (sweep_id, position);
CREATE INDEX trials_queued ON trials (sweep_id, position) WHERE state = 'queued';
CREATE INDEX trials_blocked ON trials (sweep_id, id) WHERE state = 'blocked';
CREATE INDEX trials_running ON trials (sweep_id) WHERE state = 'running';
CREATE INDEX trials_again ON trials (sweep_id) WHERE earlier IS NOT NULL;
CREATE INDEX trials_finished ON trials (sweep_id, state, reused) WHERE state IN ('succeeded', 'diverged', 'failed', 'cancelled');

-- Of a trial that combines others of its sweep: those.
CREATE TABLE members (
    trial BIGINT NOT NULL REFERENCES trials (id),
    place BIGINT NOT NULL,
    member BIGINT NOT NULL REFERENCES trials (id),
    PRIMARY KEY (trial, place)
);
CREATE INDEX members_by_member ON members (member);

CREATE TABLE workers (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    worker_id TEXT NOT NULL UNIQUE,
    secret TEXT NOT NULL, -- SHA-256 of the secret that its process made, 64 hexadecimal digits
    host TEXT NOT NULL,
    machine TEXT NOT NULL,
    pid BIGINT NOT NULL,
    devices TEXT NOT NULL,
    slots BIGINT NOT NULL,
    abilities TEXT NOT NULL,
    software TEXT NOT NULL,
    registered_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    left_ms BIGINT,
    checkpoints TEXT CHECK (checkpoints IN ('shared', 'local'))
);

CREATE TABLE machine_faults (
    machine TEXT NOT NULL,
    kind TEXT NOT NULL,
    failures_in_row BIGINT NOT NULL,
    until_ms BIGINT,
    reason TEXT NOT NULL,
    PRIMARY KEY (machine, kind)
);

CREATE TABLE attempts (
    token BIGINT PRIMARY KEY,
    trial BIGINT NOT NULL REFERENCES trials (id),
    worker BIGINT NOT NULL REFERENCES workers (id),
    started_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'succeeded', 'diverged', 'failed', 'cancelled')),
    ended_ms BIGINT CHECK ((outcome = 'running') = (ended_ms IS NULL)),
    error_class TEXT CHECK ((outcome = 'failed') = (error_class IS NOT NULL)),
    message TEXT,
    sequence BIGINT NOT NULL DEFAULT 0,
    step BIGINT NOT NULL DEFAULT 0,
    preparation TEXT,
    log_bytes BIGINT NOT NULL DEFAULT 0,
    log_cut BIGINT,
    evaluations BIGINT NOT NULL DEFAULT 0,
    losses BIGINT NOT NULL DEFAULT 0,
    artifacts BIGINT NOT NULL DEFAULT 0,
    notes BIGINT NOT NULL DEFAULT 0,
    software TEXT,
    libtorch TEXT,
    device TEXT,
    threads BIGINT,
    dataset_digest TEXT,
    weights_digest TEXT,
    code TEXT,
    code_name TEXT,
    micro_batch BIGINT,
    resumed_token BIGINT,
    resumed_step BIGINT,
    exact BIGINT NOT NULL DEFAULT 1 CHECK (exact IN (0, 1)),
    average TEXT,
    ensemble BIGINT,
    CHECK ((resumed_token IS NULL) = (resumed_step IS NULL))
);
CREATE INDEX attempts_by_trial ON attempts (trial, token);

-- Evaluations on domains that the run trained on: what selection may read.
CREATE TABLE validation (
    token BIGINT NOT NULL REFERENCES attempts (token),
    method TEXT NOT NULL,
    step BIGINT NOT NULL,
    domain TEXT NOT NULL,
    split TEXT NOT NULL CHECK (split IN ('in', 'out')),
    n BIGINT CHECK (n > 0),
    correct BIGINT CHECK (correct IS NULL OR (n IS NOT NULL AND correct BETWEEN 0 AND n)),
    accuracy DOUBLE PRECISION CHECK (accuracy IS NOT NULL OR correct IS NULL),
    loss DOUBLE PRECISION,
    metrics TEXT,
    seconds  DOUBLE PRECISION,      -- since training began, without the time between attempts; NULL: not measured
    PRIMARY KEY (token, method, step, domain, split)
);

-- Evaluations on held-out domains: kept apart, so that a selector cannot read them by accident.
CREATE TABLE held_out (
    token BIGINT NOT NULL REFERENCES attempts (token),
    method TEXT NOT NULL,
    step BIGINT NOT NULL,
    domain TEXT NOT NULL,
    split TEXT NOT NULL CHECK (split IN ('in', 'out')),
    n BIGINT CHECK (n > 0),
    correct BIGINT CHECK (correct IS NULL OR (n IS NOT NULL AND correct BETWEEN 0 AND n)),
    accuracy DOUBLE PRECISION CHECK (accuracy IS NOT NULL OR correct IS NULL),
    loss DOUBLE PRECISION,
    metrics TEXT,
    seconds  DOUBLE PRECISION,
    PRIMARY KEY (token, method, step, domain, split)
);

CREATE TABLE training_losses (
    token BIGINT NOT NULL REFERENCES attempts (token),
    step BIGINT NOT NULL,
    loss DOUBLE PRECISION NOT NULL,
    seconds DOUBLE PRECISION,    -- since training began, without the time between attempts; NULL: not measured
    PRIMARY KEY (token, step)
);

-- What attempts left in the artifact store, or the digests alone of what was not kept.
CREATE TABLE artifacts (
    token BIGINT NOT NULL REFERENCES attempts (token),
    kind TEXT NOT NULL CHECK (kind IN ('checkpoint', 'final-weights', 'selected-weights', 'final-logits')),
    method TEXT NOT NULL,
    step BIGINT NOT NULL,
    key TEXT,
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
    token BIGINT,
    at_ms BIGINT NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX trial_events_by_trial ON trial_events (trial, id);

-- The digests that machines reported for a dataset's or a backbone's name. One that two machines reported, or that a user named, counts: the
-- others are forgotten. Two that one machine each reported are a dispute: no trial of that name starts until a user decides.
CREATE TABLE digests (
    kind TEXT NOT NULL CHECK (kind IN ('dataset', 'weights')),
    name TEXT NOT NULL,
    place BIGINT NOT NULL,
    digest TEXT NOT NULL,
    machine TEXT NOT NULL,
    confirmed BIGINT NOT NULL CHECK (confirmed IN (0, 1)),
    used BIGINT NOT NULL CHECK (used IN (0, 1)),
    PRIMARY KEY (kind, name, place)
);

-- Whose requests are answered. Users' queries do not reach this table. A token that ended stays, so that it never counts again.
CREATE TABLE tokens (
    digest     TEXT PRIMARY KEY,           -- SHA-256 of the token, 64 hexadecimal digits
    name       TEXT NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('operator', 'worker', 'reader')),
    identity   TEXT,                       -- SHA-256 of the CA of the identity that made it for itself; NULL: a user made it
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,                     -- NULL: it is valid until it is revoked
    revoked_ms BIGINT
);

-- What users did, in the order in which it was done. Users' queries do not reach this table.
CREATE TABLE audit (
    id     BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at_ms  BIGINT NOT NULL,
    name   TEXT,                           -- of the token; NULL where the coordinator asks for none
    role   TEXT,
    action TEXT NOT NULL,
    sweep  TEXT,                           -- NULL: none
    detail TEXT NOT NULL
);
