//! What users may ask in SQL, on both real databases: everything about the views, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_coordinator::store::{
    QUERIES_MAX, QUERY_TIME_MAX, QueryRow, QueryValue, StoreError, SubmitOptions,
};
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::record::Fingerprint;

use crate::fixture::*;

/// What a query gives: its columns and all rows.
pub async fn ask(f: &Fixture, sql: &str) -> Result<(Vec<String>, Vec<QueryRow>), StoreError> {
    let mut answer = f.store.query(sql, QUERY_TIME_MAX).await?;
    let mut rows = Vec::new();
    while let Some(chunk) = within(answer.next()).await {
        rows.extend(chunk?);
    }
    Ok((answer.columns().to_vec(), rows))
}

pub async fn rows(f: &Fixture, sql: &str) -> Vec<QueryRow> {
    ask(f, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).1
}

/// The one line with which a query is refused.
async fn refusal(f: &Fixture, sql: &str) -> String {
    let refused = ask(f, sql).await;
    assert!(matches!(refused, Err(StoreError::Query(_))), "{sql}: {refused:?}");
    let line = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(line.lines().count(), 1, "{sql}: {line}");
    line
}

fn is_sqlite(f: &Fixture) -> bool {
    matches!(f.database, Database::Sqlite(_))
}

fn text(text: &str) -> QueryValue {
    QueryValue::Text(text.to_owned())
}

/// [`SWEEP`] with a log, an error message and a fingerprint: what a query must not find.
async fn busy(f: &Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    let mut reported =
        batch(1, vec![evaluation("cartoon", 5, 7), evaluation("photo", 5, 3), evaluation("sketch", 5, 1)]);
    reported
        .evaluations
        .retain(|row| lease.spec.point.held_out != [row.domain.as_str()] || row.domain == "photo");
    reported.log = b"secret".to_vec();
    reported.fingerprint = Some(Fingerprint {
        device: "GPU of 1990".into(),
        software: "worker 1".into(),
        ..Fingerprint::default()
    });
    f.pass(2);
    f.complete_with(lease.token, reported, Outcome::Succeeded).await.unwrap();
}

const COLUMNS: [(&str, &str); 3] = [
    (
        "v_trials",
        "sweep trial_id held_out seed split_seed dropout lr weight_decay head_lr_factor combine members parameters state attempts step \
         started_ms ended_ms worker device software exact dataset_digest weights_digest reused libtorch threads",
    ),
    (
        "v_evaluations",
        "sweep trial_id held_out seed split_seed dropout lr weight_decay head_lr_factor combine members parameters method step domain split \
         role n correct accuracy loss",
    ),
    (
        "v_selected",
        "sweep trial_id held_out seed split_seed dropout lr weight_decay head_lr_factor combine members parameters method selection step \
         score iid ood_in ood_out ood_all",
    ),
];

/// Other people's queries name them: they change only with a word in docs/sql.md, which has one line for each.
pub async fn the_columns_are_alike_everywhere_and_documented(f: Fixture) {
    let documented = include_str!("../../../docs/sql.md");
    for (view, names) in COLUMNS {
        let (columns, none) = ask(&f, &format!("SELECT * FROM {view}")).await.unwrap();
        assert_eq!((columns.join(" "), none.len()), (names.to_owned(), 0));
        for column in columns {
            assert!(
                documented.contains(&format!("| `{column}`")) && documented.contains(&format!("`{view}`")),
                "{view}.{column}"
            );
        }
    }
}

pub async fn trials_are_shown_with_the_attempt_that_counts(f: Fixture) {
    busy(&f).await;
    let running = f.claim_one().await;
    f.store.heartbeat("w1", vec![(running.token, 7)]).await.unwrap();
    f.fail(f.claim_one().await.token, ErrorClass::Transient).await;
    f.submit_with(&SWEEP.replace("\"first\"", "\"second\""), SubmitOptions::default()).await;
    let columns = "sweep, held_out, seed, dropout, lr, head_lr_factor, combine, members, state, attempts, step, started_ms, ended_ms, worker, \
                   device, software, exact, dataset_digest, reused";
    let reported = rows(
        &f,
        &format!(
            "SELECT {columns} FROM v_trials WHERE state IN ('succeeded', 'running') ORDER BY sweep, state"
        ),
    )
    .await;
    let (int, none) = (QueryValue::Integer, || QueryValue::Null);
    let real = QueryValue::Real;
    let place = |sweep: &str, held_out: &str, dropout| {
        vec![text(sweep), text(held_out), int(0), real(dropout), real(1e-3), real(1.0), none(), none()]
    };
    let done = |reused| {
        vec![
            text("succeeded"),
            int(1),
            int(5),
            int(T0),
            int(T0 + 2_000),
            text("host:7"),
            text("GPU of 1990"),
            text("worker 1"),
            int(1),
            none(),
            int(reused),
        ]
    };
    let runs = vec![
        text("running"),
        int(1),
        int(7),
        int(T0 + 2_000),
        none(),
        text("host:7"),
        none(),
        none(),
        int(1),
        none(),
        int(0),
    ];
    let expected = [
        [place("first", "photo", 0.0), done(0)].concat(),
        [place("first", "sketch", 0.0), runs].concat(),
        [place("second", "photo", 0.0), done(1)].concat(),
    ];
    // The first sorts "running" before "succeeded".
    assert_eq!(reported, [expected[1].clone(), expected[0].clone(), expected[2].clone()]);
    let queued =
        rows(&f, "SELECT attempts, step, worker FROM v_trials WHERE state = 'queued' AND attempts > 0").await;
    assert_eq!(queued, [[int(1), none(), none()]]);
    let measured = rows(
        &f,
        "SELECT sweep, domain, role, n, correct, accuracy, loss FROM v_evaluations ORDER BY sweep, domain",
    )
    .await;
    let line = |sweep: &str, domain: &str, role: &str, correct: i64, accuracy| {
        vec![text(sweep), text(domain), text(role), int(10), int(correct), real(accuracy), real(0.5)]
    };
    let of = |sweep| {
        [
            line(sweep, "cartoon", "training", 7, 0.7),
            line(sweep, "photo", "held-out", 3, 0.3),
            line(sweep, "sketch", "training", 1, 0.1),
        ]
    };
    assert_eq!(measured, [of("first"), of("second")].concat());
}

pub async fn whatever_sql_can_ask_of_the_views_is_answered(f: Fixture) {
    busy(&f).await;
    let (int, real) = (QueryValue::Integer, QueryValue::Real);
    for (sql, expected) in [
        ("SELECT 1;", vec![vec![int(1)]]),
        ("  -- why\nselect 1 as a, 2 as a -- because", vec![vec![int(1), int(2)]]),
        ("VALUES (1, 'x'), (2, NULL)", vec![vec![int(1), text("x")], vec![int(2), QueryValue::Null]]),
        ("SELECT (SELECT COUNT(*) FROM v_trials)", vec![vec![int(4)]]),
        (
            "WITH v AS (SELECT * FROM v_trials) SELECT COUNT(*) FROM v AS a JOIN v_evaluations AS e ON e.trial_id = a.trial_id",
            vec![vec![int(3)]],
        ),
        // What a query calls its own things is its own affair.
        (
            "WITH trials AS (SELECT sweep FROM v_trials), c AS (SELECT 1) SELECT DISTINCT sweep FROM trials, c",
            vec![vec![text("first")]],
        ),
        (
            "WITH trials AS (SELECT 1 AS x), c AS (SELECT 2 AS y) SELECT COUNT(*) FROM trials, c",
            vec![vec![int(1)]],
        ),
        (
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT SUM(i * CAST(1.5 AS DOUBLE PRECISION)) FROM n",
            vec![vec![real(9.0)]],
        ),
        (
            "SELECT MAX(accuracy) - MIN(accuracy) FROM v_evaluations WHERE step IN (SELECT step FROM v_selected)",
            vec![vec![real(0.7 - 0.1)]],
        ),
        (
            "SELECT correct, ROW_NUMBER() OVER (ORDER BY correct DESC) FROM v_evaluations ORDER BY 2 LIMIT 1",
            vec![vec![int(7), int(1)]],
        ),
        (
            "SELECT upper(domain) || '!' FROM v_evaluations WHERE domain LIKE 'car%' AND abs(correct) > 1",
            vec![vec![text("CARTOON!")]],
        ),
        (
            "SELECT COALESCE(loss, 0) FROM v_evaluations WHERE EXISTS (SELECT * FROM v_trials) LIMIT 1",
            vec![vec![real(0.5)]],
        ),
        ("SELECT ':relid 5 {FUNCEXPR :funcid 7'", vec![vec![text(":relid 5 {FUNCEXPR :funcid 7")]]),
    ] {
        assert_eq!(rows(&f, sql).await, expected, "{sql}");
    }
    let (columns, _) =
        ask(&f, "SELECT t.sweep, e.sweep, 1 AS \"N\" FROM v_trials t JOIN v_evaluations e ON true")
            .await
            .unwrap();
    assert_eq!(columns, ["sweep", "sweep", "N"]);
    // Each database's own functions.
    let own = if is_sqlite(&f) {
        vec![
            "SELECT parameters ->> '$.lr', json_extract(parameters, '$.lr') FROM v_trials",
            "SELECT key FROM v_trials, json_each(parameters)",
            "SELECT group_concat(domain, ',' ORDER BY domain) FROM v_evaluations",
            "SELECT datetime(started_ms / 1000, 'unixepoch') FROM v_trials",
            "SELECT x'00ff'",
            "SELECT trial_id FROM main.v_trials",
        ]
    } else {
        vec![
            "SELECT CAST(parameters AS JSON) ->> 'lr', parameters::jsonb FROM v_trials",
            "SELECT k FROM v_trials, json_object_keys(parameters::json) AS k",
            "SELECT string_agg(domain, ',' ORDER BY domain), json_agg(domain) FROM v_evaluations",
            "SELECT to_timestamp(started_ms / 1000.0), now() FROM v_trials",
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY accuracy), corr(accuracy, correct), stddev(accuracy) FROM v_evaluations",
            "SELECT DISTINCT ON (domain) domain, e FROM v_evaluations AS e ORDER BY domain, correct",
            "SELECT trial_id FROM public.v_trials",
            "SELECT x FROM v_trials AS t, LATERAL (SELECT t.lr * 2 AS x) AS l",
            "SELECT ROW(1, 'a'), ARRAY[1, 2], NULL::record, '1 day'::interval",
            "SELECT CASE WHEN 1 IN (1, 2) THEN date_trunc('day', now()) END, CURRENT_DATE, round(avg(correct), 3) FROM v_evaluations",
        ]
    };
    for sql in own {
        assert!(!rows(&f, sql).await.is_empty(), "{sql}");
    }
    if !is_sqlite(&f) {
        let kinds = "SELECT true, 1.50, 12345678901234567890, CAST('NaN' AS NUMERIC), CAST(0.1 AS REAL), CAST('Infinity' AS DOUBLE PRECISION), '\\x00ff'::bytea";
        let decimal = |digits: &str| QueryValue::Decimal(digits.to_owned());
        let (infinite, bytes) = (real(f64::INFINITY), text("\\x00ff"));
        let expected = vec![
            QueryValue::Flag(true),
            decimal("1.50"),
            decimal("12345678901234567890"),
            text("NaN"),
            real(0.1),
            infinite,
            bytes,
        ];
        assert_eq!(rows(&f, kinds).await, [expected]);
    }
}

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
    ("SELECT * FROM trials", "v_trials, v_evaluations and v_selected"),
    ("SELECT COUNT(*) FROM logs", "v_trials, v_evaluations and v_selected"),
    ("SELECT 1 FROM workers", "v_trials, v_evaluations and v_selected"),
    ("SELECT (SELECT MAX(text) FROM logs)", "v_trials, v_evaluations and v_selected"),
    (
        "SELECT sweep FROM v_trials WHERE trial_id IN (SELECT trial_id FROM trials)",
        "v_trials, v_evaluations and v_selected",
    ),
    (
        "SELECT sweep FROM v_trials WHERE EXISTS (SELECT * FROM sweeps)",
        "v_trials, v_evaluations and v_selected",
    ),
    (
        "SELECT sweep FROM v_trials UNION ALL SELECT spec FROM sweeps",
        "v_trials, v_evaluations and v_selected",
    ),
    (
        "SELECT sweep FROM v_trials ORDER BY (SELECT MAX(message) FROM attempts)",
        "v_trials, v_evaluations and v_selected",
    ),
    (
        "SELECT t.sweep, a.message FROM v_trials AS t LEFT JOIN attempts AS a ON true",
        "v_trials, v_evaluations and v_selected",
    ),
    // A name that is allowed, for something that is not.
    (
        "WITH v_trials AS (SELECT * FROM logs) SELECT * FROM v_trials",
        "v_trials, v_evaluations and v_selected",
    ),
    (
        "WITH v_trials AS (SELECT spec AS sweep FROM sweeps) SELECT sweep FROM v_trials",
        "v_trials, v_evaluations and v_selected",
    ),
    ("SELECT v_trials.* FROM logs AS v_trials", "v_trials, v_evaluations and v_selected"),
    ("SELECT * FROM (SELECT * FROM attempts) AS v_trials", "v_trials, v_evaluations and v_selected"),
    ("SELECT * FROM trial_points", "v_trials, v_evaluations and v_selected"),
    ("SELECT nonsense FROM v_trials", "nonsense"),
    ("SELECT no_such_function(1)", "no_such_function"),
];

const REFUSED_BY_SQLITE: [(&str, &str); 32] = [
    ("SELECT * FROM sqlite_master", "not sqlite_master"),
    ("SELECT COUNT(*) FROM sqlite_schema", "not sqlite_"),
    ("SELECT sql FROM main.sqlite_schema", "not sqlite_"),
    ("SELECT * FROM sqlite_temp_master", "not sqlite_"),
    ("WITH v_trials AS (SELECT sql FROM sqlite_master) SELECT * FROM v_trials", "not sqlite_master"),
    ("SELECT * FROM main.trials", "v_trials, v_evaluations and v_selected"),
    ("SELECT 1 WHERE 'x' IN main.logs", "v_trials, v_evaluations and v_selected"),
    ("SELECT 1 WHERE 'x' IN sweeps", "v_trials, v_evaluations and v_selected"),
    ("SELECT \"text\" FROM \"logs\"", "v_trials, v_evaluations and v_selected"),
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
    ("SELECT printf('%2000000d', 1), zeroblob(1000000000)", ""),
];

const REFUSED_BY_POSTGRES: [(&str, &str); 60] = [
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

/// Rows without end.
const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT ";

pub async fn a_query_without_end_ends(f: Fixture) {
    // While it works, and while it has rows that nobody reads.
    let unread =
        [format!("{ENDLESS} i FROM n"), "WITH n AS (SELECT 1 AS x) SELECT 1 FROM n WHERE 1 = 2".to_owned()];
    for sql in [format!("{ENDLESS} COUNT(*) FROM n"), format!("{ENDLESS} i FROM n WHERE i < 0")] {
        let error = within(f.store.query(&sql, Duration::from_millis(300))).await;
        let error = match error {
            // SQLite reports that it runs before its first row.
            Ok(mut answer) => within(answer.next()).await.unwrap().err().unwrap(),
            Err(error) => error,
        };
        assert!(matches!(error, StoreError::SlowQuery { .. }), "{sql}: {error:?}");
        assert!(error.to_string().starts_with("the query took longer than 0.3 s"), "{error}");
    }
    let mut answer = f.store.query(&unread[0], Duration::from_millis(500)).await.unwrap();
    assert!(within(answer.next()).await.unwrap().is_ok_and(|chunk| !chunk.is_empty()));
    // A reader that holds on to it and reads nothing does not keep its place.
    all_places_are_free(&f).await;
    let end = loop {
        match within(answer.next()).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(end, StoreError::SlowQuery { .. }), "{end:?}");
    assert!(answer.next().await.is_none());
}

pub async fn only_so_many_run_at_a_time_and_one_that_nobody_reads_ends(f: Fixture) {
    let endless = format!("{ENDLESS} i FROM n");
    let mut running = Vec::new();
    for _ in 0..QUERIES_MAX {
        running.push(f.store.query(&endless, QUERY_TIME_MAX).await.unwrap());
    }
    let refused = f.store.query("SELECT 1", QUERY_TIME_MAX).await.err().unwrap();
    assert_eq!(refused.to_string(), "2 queries run already: ask again when one of them has ended");
    // Nobody waits for them meanwhile.
    f.submit(SWEEP).await;
    f.finish_everything().await;
    assert_eq!(f.status("first").await.succeeded, 4);
    drop(running);
    all_places_are_free(&f).await;
    // One that is at work sends nothing for a long time.
    let silent = format!("{ENDLESS} COUNT(*) FROM n");
    let gone = tokio::time::timeout(Duration::from_secs(1), async {
        loop {
            match f.store.query(&silent, QUERY_TIME_MAX).await {
                Err(StoreError::QueriesRunning) => tokio::time::sleep(Duration::from_millis(5)).await,
                answer => return answer.unwrap().next().await.map(|chunk| chunk.map(drop)),
            }
        }
    });
    assert!(gone.await.is_err());
    all_places_are_free(&f).await;
}

/// Waits until as many queries run at once as may.
async fn all_places_are_free(f: &Fixture) {
    // They have to be there at the same time.
    let endless = format!("{ENDLESS} i FROM n");
    let tries = async {
        loop {
            let both = (
                f.store.query(&endless, QUERY_TIME_MAX).await,
                f.store.query(&endless, QUERY_TIME_MAX).await,
            );
            if let (Ok(_), Ok(_)) = both {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(tries).await;
}

pub async fn what_is_too_long_is_refused(f: Fixture) {
    let long = format!("SELECT 1 {}", " ".repeat(70_000));
    assert_eq!(refusal(&f, &long).await, "the query has 70009 bytes; allowed: at most 65536");
    assert_eq!(refusal(&f, "SELECT '\0'").await, "the query holds a character with the code 0");
    let wide = format!("SELECT {}", vec!["1"; 129].join(", "));
    assert!(refusal(&f, &wide).await.contains(if is_sqlite(&f) {
        "too many columns"
    } else {
        "129 columns; allowed: at most 128"
    }));
    let huge = "WITH RECURSIVE n (i, t) AS (SELECT 1, CAST('xxxxxxxx' AS TEXT) UNION ALL SELECT i + 1, t || t FROM n WHERE i < 17) SELECT t, t, t FROM n";
    assert!(refusal(&f, huge).await.contains("a row of the answer is longer than 1048576 bytes"));
    // What is not, arrives.
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i, 'a text' AS t FROM n";
    let all = rows(&f, many).await;
    assert_eq!((all.len(), &all[19_999]), (20_000, &vec![QueryValue::Integer(20_000), text("a text")]));
}

pub async fn parameters_become_columns_where_they_are_what_they_should_be(f: Fixture) {
    let sweep =
        |name: &str, grid: &str| format!("name = \"{name}\"\n[run]\ncommand = ['run']\n[grid]\n{grid}\n");
    f.submit(&sweep("numbers", "lr = [0.1234567890123456, 5e-324, 3e7]\ndropout = 0.9\nmembers = 4")).await;
    f.submit(&sweep("others", "lr = \"adam\"\ndropout = true\nmembers = [1e300, 2.5]\nweight_decay = 0"))
        .await;
    let (int, real, null) = (QueryValue::Integer, QueryValue::Real, QueryValue::Null);
    let reported = rows(
        &f,
        "SELECT lr, dropout, members, combine, parameters FROM v_trials WHERE sweep = 'numbers' ORDER BY lr",
    )
    .await;
    let mut by_lr = BTreeMap::new();
    for row in &reported {
        let [QueryValue::Real(lr), rest @ .., QueryValue::Text(parameters)] = row.as_slice() else {
            panic!("{row:?}")
        };
        assert_eq!(rest, [real(0.9), int(4), null.clone()]);
        by_lr.insert(lr.to_bits(), parameters.contains(&format!("\"lr\":{}", serde_json::json!(lr))));
    }
    let exact: Vec<u64> = [5e-324, 0.123_456_789_012_345_6, 3e7].map(f64::to_bits).to_vec();
    assert_eq!(by_lr.into_iter().collect::<Vec<_>>(), exact.iter().map(|&lr| (lr, true)).collect::<Vec<_>>());
    let others = rows(&f, "SELECT lr, dropout, combine, members, weight_decay FROM v_trials WHERE sweep = 'others' ORDER BY members").await;
    let row = |members| vec![null.clone(), null.clone(), null.clone(), members, real(0.0)];
    let mut expected = vec![row(null.clone()), row(int(2))];
    // Postgres puts NULL last.
    expected.sort_by_key(|row| (row[3] == QueryValue::Null) != is_sqlite(&f));
    assert_eq!(others, expected);
    let pair = "[[combine]]\nname = \"pair\"\nkind = \"ensemble\"\nover = \"seed\"\n";
    f.submit(&format!("{SWEEP}seeds = 2\n{pair}")).await;
    let combined = rows(
        &f,
        "SELECT DISTINCT combine, members FROM v_trials WHERE sweep = 'first' AND combine IS NOT NULL",
    )
    .await;
    assert_eq!(combined, [vec![text("pair"), int(2)]]);
}
