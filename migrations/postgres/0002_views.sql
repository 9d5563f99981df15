-- What may be asked by `sortie sql`: the views v_*, whose columns docs/sql.md describes. They have the same names,
-- order and meaning in migrations/sqlite. The other views here only help them, and may change.

-- Trials with their place in the grid as columns. A reused result may have methods that the sweep does not ask for: nobody sees those. An axis is NULL where a trial has none, or has something else there than it should.
CREATE VIEW trial_points AS
SELECT t.id, t.state, t.holder, t.result, t.reused,
    -- The attempt whose evaluations count.
    CASE WHEN t.state = 'succeeded' THEN t.result ELSE t.earlier END AS accepted, s.name AS sweep, s.methods, t.trial_id, t.held_out, t.seed, t.split_seed,
    CASE WHEN json_typeof(CAST(t.parameters AS JSON) -> 'dropout') = 'number'
        THEN CAST(CAST(t.parameters AS JSON) ->> 'dropout' AS DOUBLE PRECISION) END AS dropout,
    CASE WHEN json_typeof(CAST(t.parameters AS JSON) -> 'lr') = 'number'
        THEN CAST(CAST(t.parameters AS JSON) ->> 'lr' AS DOUBLE PRECISION) END AS lr,
    CASE WHEN json_typeof(CAST(t.parameters AS JSON) -> 'weight_decay') = 'number'
        THEN CAST(CAST(t.parameters AS JSON) ->> 'weight_decay' AS DOUBLE PRECISION) END AS weight_decay,
    CASE WHEN json_typeof(CAST(t.parameters AS JSON) -> 'head_lr_factor') = 'number'
        THEN CAST(CAST(t.parameters AS JSON) ->> 'head_lr_factor' AS DOUBLE PRECISION) END AS head_lr_factor,
    CASE WHEN json_typeof(CAST(t.parameters AS JSON) -> 'combine') = 'string' THEN CAST(t.parameters AS JSON) ->> 'combine' END AS combine,
    -- Numbers are stored as floats; beyond 2^53 they would not count anything.
    CASE WHEN json_typeof(CAST(t.parameters AS JSON) -> 'members') = 'number'
        THEN CASE WHEN abs(CAST(CAST(t.parameters AS JSON) ->> 'members' AS DOUBLE PRECISION)) <= 9007199254740992
            THEN CAST(trunc(CAST(CAST(t.parameters AS JSON) ->> 'members' AS DOUBLE PRECISION)) AS BIGINT) END
        END AS members,
    t.parameters
FROM trials AS t JOIN sweeps AS s ON s.id = t.sweep_id AND s.state <> 'deleted';

CREATE VIEW v_trials AS
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state,
    (SELECT COUNT(*) FROM attempts AS own WHERE own.trial = p.id)
        + (SELECT COUNT(*) FROM attempts AS origin WHERE p.reused = 1 AND origin.trial = a.trial) AS attempts,
    a.step, a.started_ms, a.ended_ms, w.host || ':' || CAST(w.pid AS TEXT) AS worker,
    a.device, a.software, a.exact,
    a.dataset_digest, a.weights_digest, p.reused,
    a.libtorch, a.threads, a.code, a.code_name, a.micro_batch
FROM trial_points AS p
LEFT JOIN attempts AS a ON a.token = COALESCE(p.holder, p.result, p.accepted)
LEFT JOIN workers AS w ON w.id = a.worker;

CREATE VIEW v_evaluations AS
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, e.method, e.step, e.domain, e.split, CAST('training' AS TEXT) AS role, e.n, e.correct,
    e.accuracy, e.loss
FROM trial_points AS p JOIN validation AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%' WHERE p.accepted IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, e.method, e.step, e.domain, e.split, CAST('held-out' AS TEXT) AS role, e.n, e.correct,
    e.accuracy, e.loss
FROM trial_points AS p JOIN held_out AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%' WHERE p.accepted IS NOT NULL;

-- Named metrics, one row each.
CREATE VIEW v_metrics AS
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, e.method, e.step, e.domain, e.split, CAST('training' AS TEXT) AS role, m.key AS metric, CAST(m.value AS DOUBLE PRECISION) AS value
FROM trial_points AS p JOIN validation AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%' CROSS JOIN LATERAL json_each_text(CAST(e.metrics AS JSON)) AS m
WHERE p.accepted IS NOT NULL AND e.metrics IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, e.method, e.step, e.domain, e.split, CAST('held-out' AS TEXT) AS role, m.key AS metric, CAST(m.value AS DOUBLE PRECISION) AS value
FROM trial_points AS p JOIN held_out AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%' CROSS JOIN LATERAL json_each_text(CAST(e.metrics AS JSON)) AS m
WHERE p.accepted IS NOT NULL AND e.metrics IS NOT NULL;

-- Every number of the attempt that counts or runs, one row each: losses of batches (split batch), and evaluations.
CREATE VIEW v_curves AS
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, CAST('plain' AS TEXT) AS method, l.step, CAST(NULL AS TEXT) AS domain, CAST('batch' AS TEXT) AS split, CAST('training' AS TEXT) AS role, CAST('loss' AS TEXT) AS metric,
    l.loss AS value, l.seconds
FROM trial_points AS p JOIN training_losses AS l ON l.token = COALESCE(p.holder, p.result, p.accepted)
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, CAST('training' AS TEXT) AS role, CAST('accuracy' AS TEXT) AS metric, e.accuracy AS value, e.seconds
FROM trial_points AS p JOIN validation AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' WHERE e.accuracy IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, CAST('training' AS TEXT) AS role, CAST('loss' AS TEXT) AS metric, e.loss AS value, e.seconds
FROM trial_points AS p JOIN validation AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' WHERE e.loss IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, CAST('training' AS TEXT) AS role, m.key AS metric,
    CAST(m.value AS DOUBLE PRECISION) AS value, e.seconds
FROM trial_points AS p JOIN validation AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%'
    CROSS JOIN LATERAL json_each_text(CAST(e.metrics AS JSON)) AS m
WHERE e.metrics IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, CAST('held-out' AS TEXT) AS role, CAST('accuracy' AS TEXT) AS metric, e.accuracy AS value, e.seconds
FROM trial_points AS p JOIN held_out AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' WHERE e.accuracy IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, CAST('held-out' AS TEXT) AS role, CAST('loss' AS TEXT) AS metric, e.loss AS value, e.seconds
FROM trial_points AS p JOIN held_out AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' WHERE e.loss IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, CAST('held-out' AS TEXT) AS role, m.key AS metric,
    CAST(m.value AS DOUBLE PRECISION) AS value, e.seconds
FROM trial_points AS p JOIN held_out AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%'
    CROSS JOIN LATERAL json_each_text(CAST(e.metrics AS JSON)) AS m
WHERE e.metrics IS NOT NULL;

-- The steps after which a succeeded trial with one held-out domain was measured, each with its i.i.d. accuracy (NULL: the accuracy on
-- `out` is not known of a training domain that was read after some step), its place among the steps of its trial and method by that, and the last steps that were measured on the
-- training domains and on the held-out one. core/src/selection.rs decides the same: it adds up the domains in their order, one after the
-- other, and so must this, or steps that are equal there would not be here.
CREATE VIEW ranked_steps AS
SELECT m.sweep, m.id, m.token, m.held_out, m.method, m.step, m.iid,
    ROW_NUMBER() OVER (PARTITION BY m.sweep, m.id, m.method ORDER BY m.iid DESC NULLS LAST, m.step) AS place,
    MAX(CASE WHEN m.trained = 1 THEN m.step END) OVER (PARTITION BY m.sweep, m.id, m.method) AS last_trained,
    MAX(CASE WHEN m.tested = 1 THEN m.step END) OVER (PARTITION BY m.sweep, m.id, m.method) AS last_tested
FROM (
    SELECT d.sweep, d.id, d.token, d.held_out, d.method, d.step, d.trained, d.tested,
        (SELECT CASE WHEN count(e.accuracy) = (SELECT count(DISTINCT f.domain) FROM validation AS f
            WHERE f.token = d.token AND f.method = d.method AND f.split = 'out') THEN sum(e.accuracy ORDER BY e.domain) / count(e.accuracy) END FROM validation AS e
            WHERE e.token = d.token AND e.method = d.method AND e.step = d.step AND e.split = 'out') AS iid
    FROM (
        SELECT u.sweep, u.id, u.token, u.held_out, u.method, u.step, MAX(u.trained) AS trained, MAX(u.tested) AS tested
        FROM (
            SELECT p.sweep, p.id, p.accepted AS token, p.held_out, e.method, e.step, 1 AS trained, 0 AS tested
            FROM trial_points AS p JOIN validation AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%'
            WHERE p.accepted IS NOT NULL AND p.held_out <> '' AND p.held_out NOT LIKE '%+%'
            UNION ALL
            SELECT p.sweep, p.id, p.accepted AS token, p.held_out, e.method, e.step, 0 AS trained, 1 AS tested
            FROM trial_points AS p JOIN held_out AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%'
            WHERE p.accepted IS NOT NULL AND p.held_out <> '' AND p.held_out NOT LIKE '%+%'
        ) AS u
        GROUP BY u.sweep, u.id, u.token, u.held_out, u.method, u.step
    ) AS d
) AS m;

CREATE VIEW v_selected AS
SELECT r.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, r.method, k.selection, r.step, CASE WHEN k.selection = 'oracle' THEN o.accuracy ELSE r.iid END AS score,
    r.iid, i.accuracy AS ood_in, o.accuracy AS ood_out,
    CASE WHEN i.correct IS NOT NULL AND o.correct IS NOT NULL THEN CAST(i.correct + o.correct AS DOUBLE PRECISION) / (i.n + o.n)
        WHEN i.n IS NOT NULL AND o.n IS NOT NULL THEN (i.accuracy * i.n + o.accuracy * o.n) / (i.n + o.n) END AS ood_all
FROM ranked_steps AS r JOIN trial_points AS p ON p.id = r.id
LEFT JOIN held_out AS i ON i.token = r.token AND i.method = r.method AND i.step = r.step AND i.domain = r.held_out AND i.split = 'in'
LEFT JOIN held_out AS o ON o.token = r.token AND o.method = r.method AND o.step = r.step AND o.domain = r.held_out AND o.split = 'out'
JOIN (SELECT 'iid' AS selection UNION ALL SELECT 'last' UNION ALL SELECT 'oracle') AS k
    ON (k.selection = 'iid' AND r.place = 1 AND r.iid IS NOT NULL)
    OR (k.selection = 'last' AND r.step = r.last_trained AND r.iid IS NOT NULL)
    OR (k.selection = 'oracle' AND r.step = r.last_tested AND o.accuracy IS NOT NULL);
