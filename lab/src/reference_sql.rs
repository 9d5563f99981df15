//! Plain SQL that writes the evaluations of a sweep and averages them: the reference for the numbers that the programs print.

use anyhow::{Context, Result};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};

/// Evaluations of one trial: three methods at five steps on both splits of four domains.
pub const ROWS_PER_TRIAL: u64 = 3 * 5 * 2 * 4;

/// One attempt for each trial. A few trials fail or diverge; all others succeed.
const ATTEMPTS: [&str; 3] = [
    "INSERT INTO workers (worker_id, host, pid, devices, slots, abilities, software, registered_ms, seen_ms)
        VALUES ('reference', 'reference', 1, 'cpu', 1, '{}', 'reference', 1, 1)",
    "INSERT INTO attempts (token, trial, worker, started_ms, ended_ms, outcome, sequence, step)
        SELECT id, id, 1, 1, 2, 'succeeded', 1, 1200 FROM trials",
    "UPDATE trials SET result = id,
        state = CASE WHEN id % 97 = 0 THEN 'failed' WHEN id % 89 = 0 THEN 'diverged' ELSE 'succeeded' END",
];

/// Evaluations of one table. `$table` is its name, `$relation` decides whether its domains are held out, `$images` is the number of images.
/// Rows are written trial by trial, as workers report them. The numbers of images make the sums of accuracies that select steps exact, so
/// that the order of adding does not matter.
const EVALUATIONS: &str = "
    WITH methods (name, no) AS (VALUES ('plain', 1), ('average', 2), ('ensemble', 3)),
        steps (step) AS (VALUES (0), (300), (600), (900), (1200)),
        domains (name, no) AS (VALUES ('art_painting', 1), ('cartoon', 2), ('photo', 3), ('sketch', 4)),
        splits (name, no) AS (VALUES ('in', 1), ('out', 2)),
        dice AS (
            SELECT t.id AS token, m.name AS method, s.step AS step, d.name AS domain, p.name AS split, $images AS n,
                (t.id * 48271 + m.no * 7919 + s.step * 104729 + d.no * 1299709 + p.no * 15485863) % 2147483647 * 16807 % 2147483647 AS dice
            FROM trials AS t CROSS JOIN methods AS m CROSS JOIN steps AS s CROSS JOIN domains AS d CROSS JOIN splits AS p
            WHERE t.state = 'succeeded' AND '+' || t.held_out || '+' $relation '%+' || d.name || '+%')
    INSERT INTO $table (token, method, step, domain, split, n, correct, accuracy, loss)
        SELECT token, method, step, domain, split, n, dice % (n + 1), CAST(dice % (n + 1) AS DOUBLE PRECISION) / n,
            CAST(dice % 9973 AS DOUBLE PRECISION) / 3777
        FROM dice ORDER BY token, method, step, domain, split";

/// The table by dropout and learning rate: for each trial with one held-out domain the earliest step of the best score, and the accuracies
/// at that step.
const CELLS: &str = "
    WITH scores AS ($scores),
        best AS (SELECT token, step, ROW_NUMBER() OVER (PARTITION BY token ORDER BY score DESC, step) AS rank FROM scores),
        iid AS (SELECT token, step, AVG(accuracy) AS iid FROM validation WHERE method = 'plain' AND split = 'out' GROUP BY token, step)
    SELECT CAST($json ->> 'dropout' AS DOUBLE PRECISION) AS dropout, CAST($json ->> 'lr' AS DOUBLE PRECISION) AS lr, t.held_out,
        COUNT(*) AS planned, COUNT(CASE WHEN t.state = 'succeeded' THEN 1 END) AS done, COUNT(best.token) AS measured,
        AVG(iid.iid) AS iid, AVG(o.accuracy) AS ood
    FROM trials AS t LEFT JOIN best ON best.token = t.result AND best.rank = 1 AND t.state = 'succeeded'
    LEFT JOIN iid ON iid.token = best.token AND iid.step = best.step
    LEFT JOIN held_out AS o ON o.token = best.token AND o.step = best.step AND o.method = 'plain' AND o.split = 'in'
    WHERE t.held_out NOT LIKE '%+%' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";

/// The score of a step by the mean accuracy on the training domains.
const IID: &str = "SELECT token, step, AVG(accuracy) AS score FROM validation WHERE method = 'plain' AND split = 'out' GROUP BY token, step";

/// The score of a step by the trials that also hold out one of the training domains; all three must have succeeded.
const LOO: &str = "
    SELECT t.result AS token, h.step, AVG(h.accuracy) AS score FROM trials AS t
    JOIN trials AS p ON p.parameters = t.parameters AND p.seed = t.seed AND p.split_seed = t.split_seed AND p.state = 'succeeded'
        AND p.held_out LIKE '%+%' AND '+' || p.held_out || '+' LIKE '%+' || t.held_out || '+%'
    JOIN held_out AS h ON h.token = p.token AND h.method = 'plain' AND h.split = 'in' AND h.domain <> t.held_out
    WHERE t.held_out NOT LIKE '%+%' AND t.state = 'succeeded' GROUP BY t.result, h.step HAVING COUNT(*) = 3";

const COUNTS: &str = "
    SELECT (SELECT COUNT(*) FROM validation) + (SELECT COUNT(*) FROM held_out),
        CAST((SELECT SUM(correct) FROM validation) + (SELECT SUM(correct) FROM held_out) AS BIGINT),
        (SELECT COUNT(*) FROM trials WHERE state <> 'succeeded')";

/// A database that no coordinator has open while this connection writes.
#[derive(Debug)]
pub enum ReferenceDatabase {
    /// A file.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

/// A cell of the table by dropout rate, learning rate and held-out domain.
#[derive(Debug)]
pub struct ReferenceCell {
    pub dropout: f64,
    pub lr: f64,
    pub held_out: String,
    /// The mean i.i.d. accuracy; none without measured trials.
    pub iid: Option<f64>,
    /// The mean o.o.d. accuracy.
    pub ood: Option<f64>,
    /// Planned trials.
    pub planned: i64,
    /// Trials that succeeded.
    pub done: i64,
    /// Succeeded trials with a selected step.
    pub measured: i64,
}

/// What an export must contain.
#[derive(Debug)]
pub struct ExportCounts {
    /// Evaluations.
    pub rows: u64,
    /// The sum of their correctly classified images.
    pub correct: i64,
    /// Trials without evaluations.
    pub empty: u64,
}

/// Runs a call on the pool of either database.
macro_rules! on {
    ($database:expr, $pool:ident => $call:expr) => {
        match $database {
            ReferenceDatabase::Sqlite($pool) => $call,
            ReferenceDatabase::Postgres($pool) => $call,
        }
    };
}

impl ReferenceDatabase {
    /// Connects.
    ///
    /// # Errors
    /// When there is no answer, or the file is not a database.
    pub async fn open(url: &str) -> Result<Self> {
        Ok(match url.strip_prefix("sqlite://") {
            Some(path) => {
                let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal);
                let options = options.synchronous(SqliteSynchronous::Off);
                Self::Sqlite(
                    SqlitePoolOptions::new()
                        .max_connections(1)
                        .connect_with(options)
                        .await
                        .context("cannot open the database")?,
                )
            }
            None => Self::Postgres(
                PgPoolOptions::new()
                    .max_connections(1)
                    .connect(url)
                    .await
                    .context("cannot open the database")?,
            ),
        })
    }

    /// Writes an attempt for every trial, and evaluations for the succeeded ones. The numbers are the same in every run.
    ///
    /// # Errors
    /// With the database's message.
    pub async fn fill(&self) -> Result<()> {
        for sql in ATTEMPTS {
            self.execute(sql.to_owned()).await?;
        }
        let tables = [
            ("validation", "NOT LIKE", "CASE p.no WHEN 1 THEN 1333 ELSE 256 END"),
            ("held_out", "LIKE", "CASE p.no WHEN 1 THEN 1024 ELSE 411 END"),
        ];
        for (table, relation, images) in tables {
            self.execute(
                EVALUATIONS
                    .replace("$table", table)
                    .replace("$relation", relation)
                    .replace("$images", images),
            )
            .await?;
        }
        // A server that runs for longer updates its statistics by itself.
        if matches!(self, Self::Postgres(_)) {
            self.execute("VACUUM ANALYZE".to_owned()).await?;
        }
        Ok(())
    }

    async fn execute(&self, sql: String) -> Result<()> {
        let sql = sqlx::AssertSqlSafe(sql);
        on!(self, pool => sqlx::query(sql).execute(pool).await.map(|_| ()))
            .context("cannot fill the database")
    }

    /// The table, with the step selected by leave-one-out or by the training domains.
    ///
    /// # Errors
    /// With the database's message.
    pub async fn cells(&self, leave_one_out: bool) -> Result<Vec<ReferenceCell>> {
        let parameters =
            if matches!(self, Self::Sqlite(_)) { "t.parameters" } else { "CAST(t.parameters AS JSON)" };
        let sql = sqlx::AssertSqlSafe(
            CELLS.replace("$json", parameters).replace("$scores", if leave_one_out { LOO } else { IID }),
        );
        type Row = (f64, f64, String, i64, i64, i64, Option<f64>, Option<f64>);
        let rows: Vec<Row> = on!(self, pool => sqlx::query_as(sql).fetch_all(pool).await)
            .context("cannot compute the reference table")?;
        let cell = |(dropout, lr, held_out, planned, done, measured, iid, ood)| ReferenceCell {
            dropout,
            lr,
            held_out,
            iid,
            ood,
            planned,
            done,
            measured,
        };
        Ok(rows.into_iter().map(cell).collect())
    }

    /// Counts the rows that were written.
    ///
    /// # Errors
    /// With the database's message.
    pub async fn counts(&self) -> Result<ExportCounts> {
        let (rows, correct, empty): (i64, i64, i64) =
            on!(self, pool => sqlx::query_as(COUNTS).fetch_one(pool).await)
                .context("cannot count the rows")?;
        Ok(ExportCounts { rows: rows.unsigned_abs(), correct, empty: empty.unsigned_abs() })
    }
}
