-- Sweeps, trials, attempts and what they reported. STRICT, and NOT NULL wherever a value always exists: a statement with too few values
-- must fail, not store NULL. NULL means that there is no such value, and no other value means that.
-- Times are milliseconds since the Unix epoch by the coordinator's clock. migrations/postgres holds the same tables under the same numbers.

-- Which database this is: one row with a random number, odd so that it is not 0. A backup has no row; what is restored from it gets a number of
-- its own. Workers name it in every request, so nothing that was begun in another database is accepted in this one.
CREATE TABLE incarnation (
    number INTEGER NOT NULL
) STRICT;
INSERT INTO incarnation (number) VALUES ((random() & 9223372036854775807) | 1);

-- One row per start of a coordinator. Its id is the upper half of the fencing tokens that it issues, so that no token is issued twice.
CREATE TABLE epochs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    started_ms INTEGER NOT NULL,
    latest_ms  INTEGER                     -- the latest time that it wrote something: the next one's time goes on from there
) STRICT;

CREATE TABLE sweeps (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- that of a deleted sweep never comes back: coordinators remember sweeps by it
    name       TEXT    NOT NULL,
    spec       TEXT    NOT NULL,           -- SweepSpec as JSON
    revision   INTEGER NOT NULL DEFAULT 1, -- grows whenever the row changes
    -- deleted: nobody sees it, and its rows are being removed
    state      TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paused', 'cancelled', 'deleted')),
    archived   INTEGER NOT NULL DEFAULT 0 CHECK (archived IN (0, 1)), -- 1: lists leave it out, and none of its trials starts
    priority   INTEGER NOT NULL,           -- higher ones are served first
    -- complete: results of the same trials in other sweeps are taken over that left the files which this one keeps; anyway: whatever they left
    reuse      TEXT    NOT NULL CHECK (reuse IN ('never', 'complete', 'anyway')),
    created_ms INTEGER NOT NULL,
    planned    INTEGER NOT NULL,           -- trials of the grid
    expanded   INTEGER NOT NULL,           -- how many of them have been looked at: below `planned` the sweep is expanding
    base       INTEGER NOT NULL,           -- position of the first trial that this expansion adds
    methods    TEXT    NOT NULL            -- those that its trials are asked for, such as 'plain average'
) STRICT;
CREATE UNIQUE INDEX sweeps_by_name ON sweeps (name) WHERE state <> 'deleted';
CREATE INDEX sweeps_planned ON sweeps (planned) WHERE state <> 'deleted';

CREATE TABLE trials (
    id         INTEGER PRIMARY KEY,
    sweep_id   INTEGER NOT NULL REFERENCES sweeps (id),
    trial_id   TEXT    NOT NULL,           -- hash of the specification, 32 hexadecimal digits
    position   INTEGER NOT NULL,           -- order in which the sweep's trials run
    held_out   TEXT    NOT NULL,           -- 'sketch', 'photo+sketch' for a pair, '' for none
    parameters TEXT    NOT NULL,           -- the other axes as a JSON object, such as {"dropout":0.9,"lr":0.001}
    seed       INTEGER NOT NULL,
    split_seed INTEGER NOT NULL,
    -- blocked: a combination, until all its members have a result
    state      TEXT    NOT NULL CHECK (state IN ('blocked', 'queued', 'running', 'succeeded', 'diverged', 'failed', 'cancelled')),
    lost       INTEGER,                    -- queued: the attempt whose lease expired, as long as no other has started
    not_before_ms INTEGER,                 -- queued after a failure: nobody gets it earlier
    holder     INTEGER,                    -- running: the attempt that has it
    expires_ms INTEGER,                    -- running: when the lease of that attempt ends
    result     INTEGER,                    -- finished: the attempt that ended it; its own, or that of the same trial in another sweep
    earlier    INTEGER,                    -- queued or running again for its files: the attempt whose result counts until another succeeds
    forgiven   INTEGER,                    -- failures of attempts up to this one no longer count against it
    reused        INTEGER NOT NULL DEFAULT 0 CHECK (reused IN (0, 1)), -- 1: the result is that of the same trial in another sweep
    -- What the sweep file that named the trial first has for its numbers, such as {"lr":"1e-3"}: what its program is given.
    written    TEXT    NOT NULL DEFAULT '{}',
    UNIQUE (trial_id, sweep_id),
    CHECK (state = 'queued' OR (lost IS NULL AND not_before_ms IS NULL)),
    CHECK (state IN ('queued', 'running') OR earlier IS NULL),
    CHECK ((state = 'running') = (holder IS NOT NULL) AND (state = 'running') = (expires_ms IS NOT NULL)),
    -- A combination can fail without an attempt.
    CHECK (state = 'failed' OR (state IN ('succeeded', 'diverged')) = (result IS NOT NULL))
) STRICT;
CREATE INDEX trials_in_order ON trials (sweep_id, position);
CREATE INDEX trials_queued ON trials (sweep_id, position) WHERE state = 'queued';
CREATE INDEX trials_blocked ON trials (sweep_id, id) WHERE state = 'blocked';
CREATE INDEX trials_running ON trials (sweep_id) WHERE state = 'running';
CREATE INDEX trials_again ON trials (sweep_id) WHERE earlier IS NOT NULL;
CREATE INDEX trials_finished ON trials (sweep_id, state, reused) WHERE state IN ('succeeded', 'diverged', 'failed', 'cancelled');

-- Of a trial that combines others of its sweep: those.
CREATE TABLE members (
    trial  INTEGER NOT NULL REFERENCES trials (id),
    place  INTEGER NOT NULL,               -- 0, 1, 2, ... in the order of the grid
    member INTEGER NOT NULL REFERENCES trials (id),
    PRIMARY KEY (trial, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_member ON members (member);

CREATE TABLE workers (
    id              INTEGER PRIMARY KEY,
    worker_id       TEXT    NOT NULL UNIQUE,
    secret          TEXT    NOT NULL,      -- SHA-256 of the secret that its process made, 64 hexadecimal digits
    host            TEXT    NOT NULL,
    machine         TEXT    NOT NULL,      -- what workers share that were started alike on one host
    pid             INTEGER NOT NULL,
    devices         TEXT    NOT NULL,      -- comma separated
    slots           INTEGER NOT NULL,
    abilities       TEXT    NOT NULL,      -- Abilities as JSON
    software        TEXT    NOT NULL,
    registered_ms   INTEGER NOT NULL,
    seen_ms         INTEGER NOT NULL,
    left_ms         INTEGER,               -- when it reported its end
    checkpoints     TEXT CHECK (checkpoints IN ('shared', 'local')) -- shared: it reaches the artifact store; NULL: not known yet
) STRICT;

-- What is held against a machine for one kind of work: 'commands', 'devices', 'dataset PACS'. Without a row, nothing is.
CREATE TABLE machine_faults (
    machine         TEXT    NOT NULL,
    kind            TEXT    NOT NULL,
    failures_in_row INTEGER NOT NULL,      -- attempts that failed there since one succeeded
    until_ms        INTEGER,               -- quarantined: gets no such trials before that, and one at a time after it until one succeeds
    reason          TEXT    NOT NULL,
    PRIMARY KEY (machine, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    token          INTEGER PRIMARY KEY,    -- the fencing token
    trial          INTEGER NOT NULL REFERENCES trials (id),
    worker         INTEGER NOT NULL REFERENCES workers (id),
    started_ms     INTEGER NOT NULL,
    outcome        TEXT    NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'succeeded', 'diverged', 'failed', 'cancelled')),
    ended_ms       INTEGER CHECK ((outcome = 'running') = (ended_ms IS NULL)),
    error_class    TEXT    CHECK ((outcome = 'failed') = (error_class IS NOT NULL)),
    message        TEXT,                   -- failed or diverged: why, in one line
    sequence       INTEGER NOT NULL DEFAULT 0, -- how many batches of reports were accepted
    step           INTEGER NOT NULL DEFAULT 0, -- the last step that it reported
    preparation    TEXT,                   -- what it does before its first step, for people; NULL once it trains
    log_bytes      INTEGER NOT NULL DEFAULT 0, -- of its output: how much was stored
    log_cut        INTEGER,              -- the last batch of its beginning, which is kept, if later output was left out; NULL: everything is kept
    evaluations    INTEGER NOT NULL DEFAULT 0, -- how many it reported, repeats included; eight named numbers count as one more
    losses         INTEGER NOT NULL DEFAULT 0, -- likewise, and of the next two
    artifacts      INTEGER NOT NULL DEFAULT 0,
    notes          INTEGER NOT NULL DEFAULT 0,
    software       TEXT,                   -- this and what it ran on: NULL until it reports it
    libtorch       TEXT,
    device         TEXT,
    threads        INTEGER,
    dataset_digest TEXT,
    weights_digest TEXT,
    code           TEXT,                   -- what ran, as JSON; NULL: not known
    code_name      TEXT,                   -- its name, such as 3f2a91c/9b01d2e: attempts that ran the same have the same
    micro_batch    INTEGER,                -- images of a step that were computed at a time; NULL: what the trial says
    resumed_token  INTEGER,                -- the attempt whose checkpoint it went on from; NULL if it began at step 0
    resumed_step   INTEGER,                -- the last step that it did not make itself
    exact          INTEGER NOT NULL DEFAULT 1 CHECK (exact IN (0, 1)), -- 0: resumed on another device, thread count or libtorch
    average        TEXT,                   -- the average of the trajectory that it evaluates, such as '300/1': from which step, and how often
    ensemble       INTEGER,                -- the step from which on evaluations enter the ensemble over the trajectory
    CHECK ((resumed_token IS NULL) = (resumed_step IS NULL))
) STRICT;
CREATE INDEX attempts_by_trial ON attempts (trial, token);

-- Evaluations on domains that the run trained on: what selection may read.
CREATE TABLE validation (
    token    INTEGER NOT NULL REFERENCES attempts (token),
    method   TEXT    NOT NULL,
    step     INTEGER NOT NULL,
    domain   TEXT    NOT NULL,
    split    TEXT    NOT NULL CHECK (split IN ('in', 'out')),
    n        INTEGER CHECK (n > 0),        -- images; NULL: not known
    correct  INTEGER CHECK (correct IS NULL OR (n IS NOT NULL AND correct BETWEEN 0 AND n)), -- NULL: only the accuracy is known
    accuracy REAL    CHECK (accuracy IS NOT NULL OR correct IS NULL), -- NULL: not reported
    loss     REAL,                         -- NULL: not reported
    metrics  TEXT,                         -- what else was measured: a JSON object of numbers by name; NULL: nothing
    seconds  REAL,                  -- since training began, without the time between attempts; NULL: not measured
    PRIMARY KEY (token, method, step, domain, split)
) STRICT, WITHOUT ROWID;

-- Evaluations on held-out domains: kept apart, so that a selector cannot read them by accident.
CREATE TABLE held_out (
    token    INTEGER NOT NULL REFERENCES attempts (token),
    method   TEXT    NOT NULL,
    step     INTEGER NOT NULL,
    domain   TEXT    NOT NULL,
    split    TEXT    NOT NULL CHECK (split IN ('in', 'out')),
    n        INTEGER CHECK (n > 0),
    correct  INTEGER CHECK (correct IS NULL OR (n IS NOT NULL AND correct BETWEEN 0 AND n)),
    accuracy REAL    CHECK (accuracy IS NOT NULL OR correct IS NULL),
    loss     REAL,
    metrics  TEXT,
    seconds  REAL,
    PRIMARY KEY (token, method, step, domain, split)
) STRICT, WITHOUT ROWID;

CREATE TABLE training_losses (
    token INTEGER NOT NULL REFERENCES attempts (token),
    step  INTEGER NOT NULL,
    loss  REAL    NOT NULL,
    seconds REAL,                -- since training began, without the time between attempts; NULL: not measured
    PRIMARY KEY (token, step)
) STRICT, WITHOUT ROWID;

-- What attempts left in the artifact store, or the digests alone of what was not kept.
CREATE TABLE artifacts (
    token  INTEGER NOT NULL REFERENCES attempts (token),
    kind   TEXT    NOT NULL CHECK (kind IN ('checkpoint', 'final-weights', 'selected-weights', 'final-logits')),
    method TEXT    NOT NULL,
    step   INTEGER NOT NULL,
    key    TEXT,                           -- below the store's root; NULL if it was not kept
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
    token  INTEGER,                        -- the attempt, if one is concerned
    at_ms  INTEGER NOT NULL,
    what   TEXT    NOT NULL,
    detail TEXT    NOT NULL
) STRICT;
CREATE INDEX trial_events_by_trial ON trial_events (trial, id);

-- The digests that machines reported for a dataset's or a backbone's name. One that two machines reported, or that a user named, counts: the
-- others are forgotten. Two that one machine each reported are a dispute: no trial of that name starts until a user decides.
CREATE TABLE digests (
    kind      TEXT    NOT NULL CHECK (kind IN ('dataset', 'weights')),
    name      TEXT    NOT NULL,
    place     INTEGER NOT NULL,            -- 0, 1, 2, ... as they came
    digest    TEXT    NOT NULL,
    machine   TEXT    NOT NULL,            -- that reported it first; '' for one that only a user named
    confirmed INTEGER NOT NULL CHECK (confirmed IN (0, 1)), -- 1: it counts
    used      INTEGER NOT NULL CHECK (used IN (0, 1)), -- 1: an attempt with it gave a result
    PRIMARY KEY (kind, name, place)
) STRICT, WITHOUT ROWID;

-- Whose requests are answered. Users' queries do not reach this table. A token that ended stays, so that it never counts again.
CREATE TABLE tokens (
    digest     TEXT PRIMARY KEY,           -- SHA-256 of the token, 64 hexadecimal digits
    name       TEXT NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('operator', 'worker', 'reader')),
    identity   TEXT,                       -- SHA-256 of the CA of the identity that made it for itself; NULL: a user made it
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,                     -- NULL: it is valid until it is revoked
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;

-- What users did, in the order in which it was done. Users' queries do not reach this table.
CREATE TABLE audit (
    id     INTEGER PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    name   TEXT,                           -- of the token; NULL where the coordinator asks for none
    role   TEXT,
    action TEXT NOT NULL,
    sweep  TEXT,                           -- NULL: none
    detail TEXT NOT NULL
) STRICT;
