-- Combinations: trials that are made of other trials of their sweep. One waits, with a due_ms later than any time, until all its members
-- have a result.
CREATE TABLE members (
    trial  BIGINT NOT NULL REFERENCES trials (id),
    place  BIGINT NOT NULL,                -- 0, 1, 2, ... in the order of the grid
    member BIGINT NOT NULL REFERENCES trials (id),
    PRIMARY KEY (trial, place)
);
CREATE INDEX trials_waiting ON trials (id) WHERE state = 'queued' AND due_ms = 9223372036854775807;
