-- What may be asked by `sortie sql`: the views v_*, whose columns docs/sql.md describes. They have the same names,
-- order and meaning in migrations/postgres. The other views here only help them, and may change.

-- Trials with their place in the grid as columns. A reused result may have methods that the sweep does not ask for: nobody sees those. An axis is NULL where a trial has none, or has something else there than it should.
CREATE VIEW trial_points AS
SELECT t.id, t.state, t.holder, t.result, t.reused,
    -- The attempt whose evaluations count.
    CASE WHEN t.state = 'succeeded' THEN t.result ELSE t.earlier END AS accepted, s.name AS sweep, s.methods, t.trial_id, t.held_out, t.seed, t.split_seed,
    CASE WHEN json_type(t.parameters, '$.dropout') IN ('integer', 'real') THEN CAST(t.parameters ->> '$.dropout' AS REAL) END AS dropout,
    CASE WHEN json_type(t.parameters, '$.lr') IN ('integer', 'real') THEN CAST(t.parameters ->> '$.lr' AS REAL) END AS lr,
    CASE WHEN json_type(t.parameters, '$.weight_decay') IN ('integer', 'real')
        THEN CAST(t.parameters ->> '$.weight_decay' AS REAL) END AS weight_decay,
    CASE WHEN json_type(t.parameters, '$.head_lr_factor') IN ('integer', 'real')
        THEN CAST(t.parameters ->> '$.head_lr_factor' AS REAL) END AS head_lr_factor,
    CASE WHEN json_type(t.parameters, '$.combine') = 'text' THEN t.parameters ->> '$.combine' END AS combine,
    -- Numbers are stored as floats; beyond 2^53 they would not count anything.
    CASE WHEN json_type(t.parameters, '$.members') IN ('integer', 'real')
        THEN CASE WHEN abs(t.parameters ->> '$.members') <= 9007199254740992 THEN CAST(t.parameters ->> '$.members' AS INTEGER) END
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
    p.parameters, e.method, e.step, e.domain, e.split, 'training' AS role, e.n, e.correct,
    e.accuracy, e.loss
FROM trial_points AS p JOIN validation AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%' WHERE p.accepted IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, e.method, e.step, e.domain, e.split, 'held-out' AS role, e.n, e.correct,
    e.accuracy, e.loss
FROM trial_points AS p JOIN held_out AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%' WHERE p.accepted IS NOT NULL;

-- Named metrics, one row each.
CREATE VIEW v_metrics AS
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, e.method, e.step, e.domain, e.split, 'training' AS role, m.key AS metric, CAST(m.value AS REAL) AS value
FROM trial_points AS p JOIN validation AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%' JOIN json_each(e.metrics) AS m
WHERE p.accepted IS NOT NULL AND e.metrics IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, e.method, e.step, e.domain, e.split, 'held-out' AS role, m.key AS metric, CAST(m.value AS REAL) AS value
FROM trial_points AS p JOIN held_out AS e ON e.token = p.accepted AND p.methods LIKE '%' || e.method || '%' JOIN json_each(e.metrics) AS m
WHERE p.accepted IS NOT NULL AND e.metrics IS NOT NULL;

-- Every number of the attempt that counts or runs, one row each: losses of batches (split batch), and evaluations.
CREATE VIEW v_curves AS
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, 'plain' AS method, l.step, NULL AS domain, 'batch' AS split, 'training' AS role, 'loss' AS metric,
    l.loss AS value, l.seconds
FROM trial_points AS p JOIN training_losses AS l ON l.token = COALESCE(p.holder, p.result, p.accepted)
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, 'training' AS role, 'accuracy' AS metric, e.accuracy AS value, e.seconds
FROM trial_points AS p JOIN validation AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' WHERE e.accuracy IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, 'training' AS role, 'loss' AS metric, e.loss AS value, e.seconds
FROM trial_points AS p JOIN validation AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' WHERE e.loss IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, 'training' AS role, m.key AS metric, CAST(m.value AS REAL) AS value, e.seconds
FROM trial_points AS p JOIN validation AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' JOIN json_each(e.metrics) AS m
WHERE e.metrics IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, 'held-out' AS role, 'accuracy' AS metric, e.accuracy AS value, e.seconds
FROM trial_points AS p JOIN held_out AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' WHERE e.accuracy IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, 'held-out' AS role, 'loss' AS metric, e.loss AS value, e.seconds
FROM trial_points AS p JOIN held_out AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' WHERE e.loss IS NOT NULL
UNION ALL
SELECT p.sweep, p.trial_id, p.held_out, p.seed, p.split_seed, p.dropout, p.lr, p.weight_decay, p.head_lr_factor, p.combine, p.members,
    p.parameters, p.state, e.method, e.step, e.domain, e.split, 'held-out' AS role, m.key AS metric, CAST(m.value AS REAL) AS value, e.seconds
FROM trial_points AS p JOIN held_out AS e ON e.token = COALESCE(p.holder, p.result, p.accepted) AND p.methods LIKE '%' || e.method || '%' JOIN json_each(e.metrics) AS m
WHERE e.metrics IS NOT NULL;

-- The steps after which a succeeded trial with one held-out domain was measured, each with its i.i.d. accuracy (NULL: the accuracy on
-- `out` is not known of a training domain that was read after some step), its place among the steps of its trial and method by that, and the last steps that were measured on the
-- training domains and on the held-out one. core/src/selection.rs decides the same: it adds up the domains in their order, one after the
-- other, and so must this, or steps that are equal there would not be here. AVG and SUM carry along what rounding loses, which that does
-- not.
CREATE VIEW ranked_steps AS
SELECT m.sweep, m.id, m.token, m.held_out, m.method, m.step, m.iid,
    ROW_NUMBER() OVER (PARTITION BY m.sweep, m.id, m.method ORDER BY m.iid DESC NULLS LAST, m.step) AS place,
    MAX(CASE WHEN m.trained = 1 THEN m.step END) OVER (PARTITION BY m.sweep, m.id, m.method) AS last_trained,
    MAX(CASE WHEN m.tested = 1 THEN m.step END) OVER (PARTITION BY m.sweep, m.id, m.method) AS last_tested
FROM (
    SELECT d.sweep, d.id, d.token, d.held_out, d.method, d.step, d.trained, d.tested,
        (WITH RECURSIVE sums (domain, total, domains) AS (
            SELECT * FROM (SELECT e.domain, e.accuracy, 1 FROM validation AS e
                WHERE e.token = d.token AND e.method = d.method AND e.step = d.step AND e.split = 'out' AND e.accuracy IS NOT NULL
                ORDER BY e.domain LIMIT 1)
            UNION ALL
            SELECT e.domain, s.total + e.accuracy, s.domains + 1
            FROM sums AS s JOIN validation AS e ON e.token = d.token AND e.method = d.method AND e.step = d.step AND e.split = 'out' AND e.accuracy IS NOT NULL
                AND e.domain = (SELECT MIN(f.domain) FROM validation AS f WHERE f.token = d.token AND f.method = d.method
                    AND f.step = d.step AND f.split = 'out' AND f.accuracy IS NOT NULL AND f.domain > s.domain)
        ) SELECT CASE WHEN domains = (SELECT COUNT(DISTINCT f.domain) FROM validation AS f WHERE f.token = d.token AND f.method = d.method
            AND f.split = 'out') THEN total / domains END FROM sums ORDER BY domains DESC LIMIT 1) AS iid
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
    CASE WHEN i.correct IS NOT NULL AND o.correct IS NOT NULL THEN CAST(i.correct + o.correct AS REAL) / (i.n + o.n)
        WHEN i.n IS NOT NULL AND o.n IS NOT NULL THEN (i.accuracy * i.n + o.accuracy * o.n) / (i.n + o.n) END AS ood_all
FROM ranked_steps AS r JOIN trial_points AS p ON p.id = r.id
LEFT JOIN held_out AS i ON i.token = r.token AND i.method = r.method AND i.step = r.step AND i.domain = r.held_out AND i.split = 'in'
LEFT JOIN held_out AS o ON o.token = r.token AND o.method = r.method AND o.step = r.step AND o.domain = r.held_out AND o.split = 'out'
JOIN (SELECT 'iid' AS selection UNION ALL SELECT 'last' UNION ALL SELECT 'oracle') AS k
    ON (k.selection = 'iid' AND r.place = 1 AND r.iid IS NOT NULL)
    OR (k.selection = 'last' AND r.step = r.last_trained AND r.iid IS NOT NULL)
    OR (k.selection = 'oracle' AND r.step = r.last_tested AND o.accuracy IS NOT NULL);
