//! Queries on Postgres.
//!
//! A query becomes a temporary view, in a transaction that is never committed. Making a view runs nothing, and afterwards the catalogue
//! has what Postgres understood: every relation, function and operator by number, whatever the query called them. If those are the
//! allowed ones, the transaction is made read-only, and that very view is read, not the text once more. Its one column is a list with the
//! values of a row as texts: so equal names of columns are no trouble, every type can be passed on, and the server itself withholds rows
//! that are too long. A role that may read the views alone would be simpler, but few accounts may make one.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::postgres::{PgColumn, PgConnection};
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
};
use sqlx::{Error, TypeInfo as _};

use super::refusals::{
    database_refuses, no_select, too_long, too_much_space, too_wide, uncallable, unreadable,
};
use crate::store::StoreError;
use crate::store::query::{Output, QueryRow, QueryValue, VIEWS};
use crate::store::query_limits::{QUERY_COLUMNS_MAX, QUERY_ROW_BYTES_MAX, QUERY_TEMPORARY_BYTES_MAX};
use crate::store::sql::sessions::Connector;

/// So that equal values are equal texts wherever the server stands.
const SETTINGS: [(&str, &str); 6] = [
    ("extra_float_digits", "1"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "iso_8601"),
    ("bytea_output", "hex"),
    ("jit", "off"),
];
/// How long the end of a query may take when its caller is gone.
const CANCEL_MAX: Duration = Duration::from_secs(5);

/// Functions that Postgres calls stable, not immutable, because they depend on the time or the session, and that read no table. All other
/// stable ones are refused: some read any table whose name they are given.
const STABLE: [&str; 40] = [
    "age",
    "array_to_json",
    "array_to_string",
    "concat",
    "concat_ws",
    "date",
    "date_part",
    "date_trunc",
    "extract",
    "format",
    "generate_series",
    "json_agg",
    "json_agg_strict",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "json_object_agg_strict",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "length",
    "make_timestamptz",
    "now",
    "numeric",
    "overlaps",
    "quote_literal",
    "quote_nullable",
    "row_to_json",
    "time",
    "timestamp",
    "timestamptz",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_number",
    "to_timestamp",
];

/// Limits the temporary space of the session to so many KiB, unless the server's own limit is less.
const LIMIT_SPACE: &str =
    "SELECT set_config('temp_file_limit', CAST($1 AS TEXT), false) FROM pg_catalog.pg_settings
    WHERE name = 'temp_file_limit' AND CAST(setting AS BIGINT) NOT BETWEEN 0 AND $1";

/// The view that a query becomes.
const VIEW: &str = "sortie_query";
/// What Postgres understood of it that is not allowed: what kind of thing, and its name. Built-in things have numbers below 16384; whatever
/// else the view depends on is in `pg_depend`, which does not list those. A query cannot hide a number: what it calls things is written
/// with its braces, spaces and brackets escaped.
const FOREIGN: &str = r"
    WITH query AS (
        SELECT r.oid AS rule, r.ev_class AS own, CAST(r.ev_action AS TEXT) AS tree
        FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = CAST('pg_temp.sortie_query' AS regclass)
    ), views AS (
        SELECT CAST(to_regclass(name) AS OID) AS id FROM unnest($1::TEXT[]) AS name
    ), relations AS (
        SELECT CAST(m[1] AS OID) AS id FROM query, regexp_matches(tree, ':relid ([0-9]+)', 'g') AS m
    ), functions AS (
        SELECT CAST(m[1] AS OID) AS id FROM query, regexp_matches(tree, ':(?:funcid|aggfnoid|winfnoid) ([0-9]+)', 'g') AS m
    )
    -- Every view names itself.
    SELECT 'relation' AS kind, CAST(CAST(r.id AS regclass) AS TEXT) AS name FROM query JOIN relations AS r ON r.id NOT IN (0, query.own)
    WHERE r.id NOT IN (SELECT v.id FROM views AS v WHERE v.id IS NOT NULL)
    UNION ALL
    SELECT 'function', COALESCE(p.proname, CAST(f.id AS TEXT)) FROM functions AS f LEFT JOIN pg_catalog.pg_proc AS p ON p.oid = f.id
    WHERE NOT COALESCE(p.oid < 16384 AND p.pronamespace = CAST('pg_catalog' AS regnamespace)
        AND (p.provolatile = 'i' OR (p.provolatile = 's' AND p.proname = ANY($2::TEXT[]))), false)
    UNION ALL
    SELECT CASE d.refclassid WHEN CAST('pg_catalog.pg_proc' AS regclass) THEN 'function' ELSE 'relation' END,
        pg_describe_object(d.refclassid, d.refobjid, 0)
    FROM query JOIN pg_catalog.pg_depend AS d ON d.classid = CAST('pg_catalog.pg_rewrite' AS regclass) AND d.objid = query.rule
    WHERE NOT (d.refclassid = CAST('pg_catalog.pg_class' AS regclass)
               AND (d.refobjid = query.own OR d.refobjid IN (SELECT v.id FROM views AS v)))
        AND NOT (d.refclassid = CAST('pg_catalog.pg_type' AS regclass)
                 AND d.refobjid IN (SELECT t.oid FROM pg_catalog.pg_type AS t JOIN views AS v ON v.id = t.typrelid))
    UNION ALL
    -- A server that writes these nodes in another way than those that were known: then nothing is known.
    SELECT 'relation', 'what this version of Postgres makes of it' FROM query
    WHERE (SELECT COUNT(*) FROM regexp_matches(tree, '\{(?:FUNCEXPR|AGGREF|WINDOWFUNC) ', 'g'))
            <> (SELECT COUNT(*) FROM regexp_matches(tree, '\{(?:FUNCEXPR :funcid|AGGREF :aggfnoid|WINDOWFUNC :winfnoid) [0-9]+ ', 'g'))
        OR (SELECT COUNT(*) FROM regexp_matches(tree, ':rtekind 0 ', 'g'))
            <> (SELECT COUNT(*) FROM regexp_matches(tree, ':rtekind 0 :relid [0-9]+ ', 'g'))
    LIMIT 1";

/// Answers a query.
pub(super) async fn run(connector: &Connector, sql: &str, output: &mut Output) -> Result<(), StoreError> {
    let limit = output.limit().as_millis().max(1).to_string();
    let settings = [&SETTINGS[..], &[("statement_timeout", &limit)]].concat();
    let mut connection = connector.connect(&settings).await?;
    let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
    let space = i64::try_from(QUERY_TEMPORARY_BYTES_MAX >> 10).unwrap_or(i64::MAX);
    // Only an account that may set it can: for others, the limit on the time is the only one.
    let _ = sqlx::query(LIMIT_SPACE).bind(space).execute(&mut connection).await;
    let (slow, deadline, gone) = (output.slow(), output.deadline(), output.gone());
    let ended = tokio::select! {
        ended = answer(&mut connection, sql, output) => {
            // Nothing is committed, and a server that does not take leave has nothing that is missed.
            let _ = tokio::time::timeout(CANCEL_MAX, connection.close()).await;
            return ended;
        }
        () = tokio::time::sleep_until(deadline) => Err(slow),
        () = gone => Ok(()),
    };
    drop(connection);
    // A server notices that nobody listens only when it has something to send.
    let cancel = async {
        let mut other = connector.connect(&[]).await?;
        sqlx::query("SELECT pg_cancel_backend($1)").bind(process).execute(&mut other).await?;
        other.close().await
    };
    // In vain if the query has ended, which is as well; and its own time limit ends it if this does not.
    let _ = tokio::time::timeout(CANCEL_MAX, cancel).await;
    ended
}

async fn answer(connection: &mut PgConnection, sql: &str, output: &mut Output) -> Result<(), StoreError> {
    let slow = output.slow();
    let failed = |error: Error| failed(error, &slow);
    // Dropped, it is rolled back.
    let mut tx = connection.begin().await.map_err(failed)?;
    let sql = sql.trim_end_matches(|end: char| end == ';' || end.is_whitespace());
    let statement = tx.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await.map_err(failed)?;
    let kinds: Vec<Kind> = statement.columns().iter().map(Kind::of).collect();
    match kinds.len() {
        0 => return Err(no_select()),
        columns if columns > QUERY_COLUMNS_MAX => return Err(too_wide(columns)),
        _ => {}
    }
    let names = statement.columns().iter().map(|column| column.name().to_owned()).collect();
    tx.execute(sqlx::query(AssertSqlSafe(view(sql, kinds.len())))).await.map_err(failed)?;
    let views: Vec<String> = VIEWS.map(str::to_owned).to_vec();
    let stable: Vec<String> = STABLE.map(str::to_owned).to_vec();
    let foreign =
        sqlx::query_as(FOREIGN).bind(views).bind(stable).fetch_optional(&mut *tx).await.map_err(failed)?;
    match foreign as Option<(String, String)> {
        Some((kind, name)) if kind == "function" => return Err(uncallable(&name)),
        Some((_, name)) => return Err(unreadable(&name)),
        None => {}
    }
    tx.execute("SET TRANSACTION READ ONLY").await.map_err(failed)?;
    // NULL stands for a row that is too long.
    let rows = format!(
        "SELECT CASE WHEN pg_column_size(line) <= {QUERY_ROW_BYTES_MAX} THEN line END FROM pg_temp.{VIEW}"
    );
    let mut rows = sqlx::query(AssertSqlSafe(rows)).fetch(&mut *tx);
    // The first row, too, may show that the query cannot be answered.
    let mut next = rows.try_next().await.map_err(failed)?;
    if output.begin(names).is_err() {
        return Ok(());
    }
    while let Some(row) = next {
        let line: Option<Vec<Option<String>>> = row.try_get(0).map_err(failed)?;
        if output.push(read(line.ok_or_else(too_long)?, &kinds)).await.is_err() {
            return Ok(());
        }
        next = rows.try_next().await.map_err(failed)?;
    }
    // If the reader is gone, there is nobody to notify.
    let _ = output.finish().await;
    Ok(())
}

/// The statement that makes the view of a query. `OFFSET 0` keeps its rows from being made twice, once to be measured.
fn view(sql: &str, columns: usize) -> String {
    let names: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
    let texts: Vec<String> = names.iter().map(|name| format!("CAST(q.{name} AS TEXT)")).collect();
    // The query may end in a comment.
    format!(
        "CREATE TEMPORARY VIEW {VIEW} AS SELECT ARRAY[{}] AS line FROM (\n{sql}\n) AS q ({}) OFFSET 0",
        texts.join(", "),
        names.join(", ")
    )
}

/// How the text of a value is read.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Integer,
    Real,
    Decimal,
    Flag,
    Text,
}

impl Kind {
    fn of(column: &PgColumn) -> Self {
        match column.type_info().name() {
            "INT2" | "INT4" | "INT8" => Self::Integer,
            "FLOAT4" | "FLOAT8" => Self::Real,
            "NUMERIC" => Self::Decimal,
            "BOOL" => Self::Flag,
            _ => Self::Text,
        }
    }
}

fn read(line: Vec<Option<String>>, kinds: &[Kind]) -> QueryRow {
    let value = |(text, kind): (Option<String>, &Kind)| {
        let Some(text) = text else { return QueryValue::Null };
        let read = match kind {
            Kind::Integer => text.parse().ok().map(QueryValue::Integer),
            Kind::Real => text.parse().ok().map(QueryValue::Real),
            // There are NaN and Infinity too, which are no numbers to most.
            Kind::Decimal if !text.ends_with(|end: char| end.is_ascii_digit()) => None,
            Kind::Decimal => return QueryValue::Decimal(text),
            Kind::Flag => text.parse().ok().map(QueryValue::Flag),
            Kind::Text => None,
        };
        read.unwrap_or(QueryValue::Text(text))
    };
    line.into_iter().zip(kinds).map(value).collect()
}

fn failed(error: Error, slow: &StoreError) -> StoreError {
    let Some(message) = error.as_database_error() else { return error.into() };
    match (message.code().as_deref(), slow) {
        // The server's own limit on its time.
        (Some("57014"), StoreError::SlowQuery { limit }) => StoreError::SlowQuery { limit: *limit },
        // The limit on its temporary files, and a disk without room for them.
        (Some("53400" | "53100"), _) => too_much_space(),
        _ => database_refuses(message.message()),
    }
}
