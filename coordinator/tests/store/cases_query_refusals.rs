//! Queries that are refused: whatever is no reading of the views.

use crate::cases_queries::{busy, is_sqlite, refusal, rows};
use crate::fixture::*;

/// Statements that both databases refuse, and the line that names the reason.
const REFUSED: [(&str, &str); 44] = [
    ("", "one SELECT"),
    ("-- nothing", "one SELECT"),
    (";", "one SELECT"),
    ("INSERT INTO trials SELECT * FROM trials", ""),
    ("INSERT INTO v_trials (sweep) VALUES ('x')", ""),
    ("UPDATE trials SET state = 'queued'", ""),
    ("UPDATE v_trials SET state = 'queued'", ""),
    ("DELETE FROM trials", ""),
    ("DELETE FROM trials RETURNING *", ""),
    ("DROP TABLE trials", ""),
    ("DROP VIEW v_trials", ""),
    ("CREATE TABLE x (y INTEGER)", ""),
    ("CREATE TEMPORARY TABLE x AS SELECT 1", ""),
    ("CREATE TEMPORARY VIEW v_trials AS SELECT * FROM logs", ""),
    ("ALTER TABLE trials ADD COLUMN x INTEGER", ""),
    ("CREATE INDEX x ON trials (state)", ""),
    ("ANALYZE", "one SELECT"),
    ("REINDEX", ""),
    ("VACUUM", "one SELECT"),
    ("BEGIN", "one SELECT"),
    ("COMMIT", "one SELECT"),
    ("SAVEPOINT x", "one SELECT"),
    ("EXPLAIN SELECT * FROM v_trials", ""),
    ("SELECT 1; SELECT 2", ""),
    ("SELECT * FROM v_trials; DROP TABLE trials", ""),
    ("SELECT 1) AS q; DROP TABLE trials; SELECT * FROM (SELECT 1", ""),
    ("SELECT 1) AS x, (SELECT text FROM logs", ""),
    ("WITH x AS (INSERT INTO digests VALUES ('dataset', 'x', 'y') RETURNING *) SELECT * FROM x", ""),
    ("SELECT * FROM trials", "v_trials, v_evaluations, v_metrics, v_curves and v_selected"),
    ("SELECT COUNT(*) FROM logs", "v_trials, v_evaluations, v_metrics, v_curves and v_selected"),
    ("SELECT 1 FROM workers", "v_trials, v_evaluations, v_metrics, v_curves and v_selected"),
    ("SELECT (SELECT MAX(text) FROM logs)", "v_trials, v_evaluations, v_metrics, v_curves and v_selected"),
    (
        "SELECT sweep FROM v_trials WHERE trial_id IN (SELECT trial_id FROM trials)",
        "v_trials, v_evaluations, v_metrics, v_curves and v_selected",
    ),
    (
        "SELECT sweep FROM v_trials WHERE EXISTS (SELECT * FROM sweeps)",
        "v_trials, v_evaluations, v_metrics, v_curves and v_selected",
    ),
    (
        "SELECT sweep FROM v_trials UNION ALL SELECT spec FROM sweeps",
        "v_trials, v_evaluations, v_metrics, v_curves and v_selected",
    ),
    (
        "SELECT sweep FROM v_trials ORDER BY (SELECT MAX(message) FROM attempts)",
        "v_trials, v_evaluations, v_metrics, v_curves and v_selected",
    ),
    (
        "SELECT t.sweep, a.message FROM v_trials AS t LEFT JOIN attempts AS a ON true",
        "v_trials, v_evaluations, v_metrics, v_curves and v_selected",
    ),
    // A name that is allowed, for something that is not.
    (
        "WITH v_trials AS (SELECT * FROM logs) SELECT * FROM v_trials",
        "v_trials, v_evaluations, v_metrics, v_curves and v_selected",
    ),
    (
        "WITH v_trials AS (SELECT spec AS sweep FROM sweeps) SELECT sweep FROM v_trials",
        "v_trials, v_evaluations, v_metrics, v_curves and v_selected",
    ),
    (
        "SELECT v_trials.* FROM logs AS v_trials",
        "v_trials, v_evaluations, v_metrics, v_curves and v_selected",
    ),
    (
        "SELECT * FROM (SELECT * FROM attempts) AS v_trials",
        "v_trials, v_evaluations, v_metrics, v_curves and v_selected",
    ),
    ("SELECT * FROM trial_points", "v_trials, v_evaluations, v_metrics, v_curves and v_selected"),
    ("SELECT nonsense FROM v_trials", "nonsense"),
    ("SELECT no_such_function(1)", "no_such_function"),
];

const REFUSED_BY_SQLITE: [(&str, &str); 34] = [
    ("SELECT * FROM sqlite_master", "not sqlite_master"),
    ("SELECT COUNT(*) FROM sqlite_schema", "not sqlite_"),
    ("SELECT sql FROM main.sqlite_schema", "not sqlite_"),
    ("SELECT * FROM sqlite_temp_master", "not sqlite_"),
    ("WITH v_trials AS (SELECT sql FROM sqlite_master) SELECT * FROM v_trials", "not sqlite_master"),
    ("SELECT * FROM main.trials", "v_trials, v_evaluations, v_metrics, v_curves and v_selected"),
    ("SELECT 1 WHERE 'x' IN main.logs", "v_trials, v_evaluations, v_metrics, v_curves and v_selected"),
    ("SELECT 1 WHERE 'x' IN sweeps", "v_trials, v_evaluations, v_metrics, v_curves and v_selected"),
    ("SELECT \"text\" FROM \"logs\"", "v_trials, v_evaluations, v_metrics, v_curves and v_selected"),
    ("SELECT * FROM pragma_table_info('trials')", "not pragma_table_info"),
    ("SELECT 1 FROM pragma_database_list", "not pragma_database_list"),
    ("SELECT file FROM pragma_database_list", "not pragma_database_list"),
    ("SELECT * FROM pragma_function_list", "not pragma_function_list"),
    ("SELECT * FROM dbstat", ""),
    ("SELECT * FROM sqlite_dbpage", ""),
    ("SELECT * FROM fts3tokenize", ""),
    ("PRAGMA query_only = 0", "one SELECT"),
    ("PRAGMA table_info(trials)", "one SELECT"),
    ("PRAGMA journal_mode = DELETE", "one SELECT"),
    ("PRAGMA writable_schema = 1", "one SELECT"),
    ("PRAGMA hard_heap_limit = 1", "one SELECT"),
    ("ATTACH '/etc/passwd' AS x", "one SELECT"),
    ("ATTACH ':memory:' AS x", "one SELECT"),
    ("DETACH main", ""),
    ("VACUUM INTO '/tmp/stolen.db'", "one SELECT"),
    ("SELECT load_extension('/tmp/x.so')", "load_extension"),
    ("SELECT fts3_tokenizer('simple')", "fts3_tokenizer"),
    ("SELECT writefile('/tmp/x', 'y')", "writefile"),
    ("SELECT readfile('/etc/passwd')", "readfile"),
    ("EXPLAIN QUERY PLAN SELECT * FROM v_trials", "one SELECT"),
    ("SELECT ?1", "parameters"),
    // A name may hold what ends a line.
    ("SELECT [never\nclosed\n", "[never closed"),
    ("SELECT 1 FROM \"sqlite_\nx\"", ""),
    ("SELECT printf('%2000000d', 1), zeroblob(1000000000)", ""),
];

const REFUSED_BY_POSTGRES: [(&str, &str); 61] = [
    ("SELECT rolpassword FROM pg_authid", "not pg_authid"),
    ("SELECT * FROM pg_catalog.pg_shadow", "not pg_shadow"),
    ("SELECT count(*) FROM pg_stat_activity", "not pg_stat_activity"),
    ("SELECT * FROM information_schema.tables", "not information_schema.tables"),
    ("WITH v_trials AS (SELECT rolname FROM pg_roles) SELECT * FROM v_trials", "not pg_roles"),
    ("SELECT * FROM public.trials", "not trials"),
    ("TABLE logs", "not logs"),
    ("SELECT 1 FROM ONLY trials", "not trials"),
    ("SELECT trials FROM trials", "not trials"),
    ("SELECT * FROM pg_temp.sortie_query", ""),
    ("SELECT * FROM sortie_query", ""),
    ("SELECT pg_read_file('/etc/passwd')", "pg_read_file"),
    ("SELECT * FROM pg_ls_dir('/')", "pg_ls_dir"),
    ("SELECT * FROM v_trials, pg_read_binary_file('/etc/passwd')", "pg_read_binary_file"),
    ("SELECT (pg_stat_file('/etc/passwd')).size", "pg_stat_file"),
    ("SELECT lo_import('/etc/passwd')", "lo_import"),
    ("SELECT lo_export(1, '/tmp/x')", "lo_export"),
    ("SELECT lo_get(1)", "lo_get"),
    ("SELECT lo_unlink(1)", "lo_unlink"),
    ("SELECT set_config('role', 'postgres', true)", "set_config"),
    ("SELECT set_config('transaction_read_only', 'off', true)", "set_config"),
    ("SELECT current_setting('data_directory')", "current_setting"),
    ("SELECT nextval('trials_id_seq')", "nextval"),
    ("SELECT last_value FROM trials_id_seq", "not trials_id_seq"),
    ("SELECT pg_advisory_lock(1)", "pg_advisory_lock"),
    ("SELECT pg_terminate_backend(1)", "pg_terminate_backend"),
    ("SELECT pg_cancel_backend(1)", "pg_cancel_backend"),
    ("SELECT pg_reload_conf()", "pg_reload_conf"),
    ("SELECT pg_notify('sortie', '')", "pg_notify"),
    ("SELECT pg_sleep(1000)", "pg_sleep"),
    ("SELECT 1 WHERE (SELECT true FROM pg_sleep(1000))", "pg_sleep"),
    ("SELECT sum(1) FILTER (WHERE random() < 2)", "random"),
    ("SELECT count(*) OVER (ORDER BY CAST(setseed(0) AS TEXT)) FROM v_trials", "setseed"),
    // These read any table whose name they are given, or run any text.
    ("SELECT table_to_xml('trials', true, false, '')", "table_to_xml"),
    ("SELECT query_to_xml('SELECT * FROM trials', true, false, '')", "query_to_xml"),
    ("SELECT database_to_xml(true, false, '')", "database_to_xml"),
    ("SELECT schema_to_xml('public', true, false, '')", "schema_to_xml"),
    ("SELECT * FROM ts_stat('SELECT to_tsvector(text) FROM logs')", "ts_stat"),
    ("SELECT ts_rewrite('a'::tsquery, 'SELECT a, b FROM secrets')", "ts_rewrite"),
    ("SELECT cursor_to_xml('x', 1, true, false, '')", "cursor_to_xml"),
    ("SELECT pg_get_viewdef('v_trials')", "pg_get_viewdef"),
    ("SELECT pg_relation_size('trials')", "pg_relation_size"),
    ("SELECT version()", "version"),
    ("SELECT inner_query() FROM (SELECT 1) AS x", "inner_query"),
    ("SELECT peek()", "peek"),
    ("SELECT 1 <<<>>> 1", "<<<>>>"),
    ("COPY trials TO STDOUT", ""),
    ("COPY trials TO PROGRAM 'cat'", ""),
    ("COPY (SELECT 1) TO '/tmp/x'", ""),
    ("SET ROLE postgres", "one SELECT"),
    ("SET transaction_read_only = off", "one SELECT"),
    ("RESET ALL", "one SELECT"),
    ("SHOW data_directory", ""),
    ("DO $$ BEGIN DELETE FROM trials; END $$", "one SELECT"),
    ("CALL nothing()", ""),
    ("LOCK trials", "one SELECT"),
    ("LISTEN sortie", "one SELECT"),
    ("SELECT * INTO x FROM v_trials", ""),
    ("SELECT * FROM v_trials FOR UPDATE", ""),
    ("SELECT $1", ""),
    // A name may hold what ends a line.
    ("SELECT \"a\n\nb\" FROM v_trials", "a  b"),
];

pub async fn nothing_but_reading_the_views_is_possible(f: Fixture) {
    busy(&f).await;
    let own: &[(&str, &str)] = if is_sqlite(&f) {
        &REFUSED_BY_SQLITE
    } else {
        plant(&f).await;
        &REFUSED_BY_POSTGRES
    };
    let before = rows(&f, "SELECT * FROM v_trials ORDER BY trial_id").await;
    for (sql, part) in REFUSED.iter().chain(own) {
        let line = refusal(&f, sql).await;
        assert!(line.contains(part), "{sql}: {line}");
        assert!(!line.contains("secret"), "{sql}: {line}");
    }
    assert_eq!(rows(&f, "SELECT * FROM v_trials ORDER BY trial_id").await, before);
    assert!(!std::path::Path::new("/tmp/stolen.db").exists());
    // And the coordinator goes on.
    f.succeed(f.claim_one().await.token).await;
}

/// Functions of somebody's own on the server that call themselves harmless.
async fn plant(f: &Fixture) {
    use sqlx::{Connection as _, Executor as _};
    let mut connection = sqlx::PgConnection::connect(&f.database.url()).await.unwrap();
    for sql in [
        "CREATE FUNCTION peek() RETURNS BIGINT IMMUTABLE LANGUAGE sql AS 'SELECT COUNT(*) FROM trials'",
        "CREATE FUNCTION peek(INTEGER, INTEGER) RETURNS BIGINT IMMUTABLE LANGUAGE sql AS 'SELECT COUNT(*) FROM trials'",
        "CREATE FUNCTION inner_query() RETURNS TEXT STABLE LANGUAGE sql AS 'SELECT MAX(spec) FROM sweeps'",
        "CREATE OPERATOR <<<>>> (LEFTARG = INTEGER, RIGHTARG = INTEGER, FUNCTION = peek)",
    ] {
        connection.execute(sql).await.unwrap();
    }
}
