//! What users may ask in SQL, on both real databases: everything about the views, and nothing else.

use std::collections::BTreeMap;

use sortie_coordinator::store::{QUERY_TIME_MAX, QueryRow, QueryValue, StoreError, SubmitOptions};
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::lease::AttemptHeartbeat;
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
pub async fn refusal(f: &Fixture, sql: &str) -> String {
    let refused = ask(f, sql).await;
    assert!(matches!(refused, Err(StoreError::Query(_))), "{sql}: {refused:?}");
    let line = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(line.lines().count(), 1, "{sql}: {line}");
    line
}

pub fn is_sqlite(f: &Fixture) -> bool {
    matches!(f.database, Database::Sqlite(_))
}

pub fn text(text: &str) -> QueryValue {
    QueryValue::Text(text.to_owned())
}

/// [`SWEEP`] with a log, an error message and a fingerprint: what a query must not find.
pub async fn busy(f: &Fixture) {
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

const COLUMNS: [(&str, &str); 5] = [
    (
        "v_trials",
        "sweep trial_id held_out seed split_seed dropout lr weight_decay head_lr_factor combine members parameters state attempts step \
         started_ms ended_ms worker device software exact dataset_digest weights_digest reused libtorch threads \
         code code_name micro_batch",
    ),
    (
        "v_evaluations",
        "sweep trial_id held_out seed split_seed dropout lr weight_decay head_lr_factor combine members parameters method step domain split \
         role n correct accuracy loss",
    ),
    (
        "v_metrics",
        "sweep trial_id held_out seed split_seed dropout lr weight_decay head_lr_factor combine members parameters method step domain split \
         role metric value",
    ),
    (
        "v_curves",
        "sweep trial_id held_out seed split_seed dropout lr weight_decay head_lr_factor combine members parameters state method step domain \
         split role metric value seconds",
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
    f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(running.token, 7)]).await.unwrap();
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
    assert_evaluations(&f).await;
}

/// Each sweep has the three evaluations of its accepted attempt.
async fn assert_evaluations(f: &Fixture) {
    let (int, real) = (QueryValue::Integer, QueryValue::Real);
    let measured = rows(
        f,
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
    // Every number of them is a row of its own, whatever the trial's state.
    let numbers = "SELECT sweep, domain, role, accuracy FROM v_evaluations ORDER BY sweep, domain";
    let by_step =
        "SELECT sweep, domain, role, value FROM v_curves WHERE metric = 'accuracy' ORDER BY sweep, domain";
    assert_eq!(rows(f, numbers).await, rows(f, by_step).await);
    let losses = "SELECT COUNT(*) FROM v_curves WHERE metric = 'loss' AND split <> 'batch' AND value = 0.5 AND state = 'succeeded'";
    assert_eq!(rows(f, losses).await, [[int(6)]]);
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
    assert_own_functions(&f).await;
    if !is_sqlite(&f) {
        assert_kinds_of_values(&f).await;
    }
}

/// Each database answers with its own functions too.
async fn assert_own_functions(f: &Fixture) {
    let own = if is_sqlite(f) {
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
        assert!(!rows(f, sql).await.is_empty(), "{sql}");
    }
}

/// Postgres has more kinds of values than SQLite.
async fn assert_kinds_of_values(f: &Fixture) {
    let real = QueryValue::Real;
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
    assert_eq!(rows(f, kinds).await, [expected]);
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
