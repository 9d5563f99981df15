//! Limits of queries: time, how many at once, and length.

use std::time::Duration;

use sortie_coordinator::store::{QUERIES_MAX, QUERY_TIME_MAX, QueryValue, StoreError};
use sqlx::{Connection as _, Executor as _};

use crate::cases_queries::{is_sqlite, refusal, rows, text};
use crate::fixture::*;

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

/// On SQLite `sortie sql`'s tests look at the limits themselves, in the process that has them.
pub async fn what_takes_too_much_space_is_refused(f: Fixture) {
    let text = if is_sqlite(&f) { "hex(zeroblob(30000))" } else { "repeat('00', 30000)" };
    let sort = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT {text} || i AS t FROM n ORDER BY t DESC"
    );
    let line = "the query needs more temporary space than the 1024 MiB that it may take, or than there is: \
                ask for less at a time, such as one sweep or one method";
    assert_eq!(refusal(&f, &sort).await, line);
    let Database::Postgres(url) = &f.database else { return };
    // The server's own limit stands where it is less.
    let mut owner = sqlx::PgConnection::connect(url).await.unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut owner).await.unwrap();
    let own_limit = format!("ALTER DATABASE {name} SET temp_file_limit = '1MB'");
    owner.execute(sqlx::AssertSqlSafe(own_limit)).await.unwrap();
    let small = sort.replace("100000", "1000");
    assert_eq!(refusal(&f, &small).await, line);
    // An account that may not set it is answered, too.
    let account = format!("{name}_plain");
    for sql in [
        format!("ALTER DATABASE {name} RESET temp_file_limit"),
        format!("CREATE ROLE {account} LOGIN"),
        format!("GRANT ALL ON SCHEMA public TO {account}"),
        format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {account}"),
        format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {account}"),
    ] {
        owner.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    let plain = Fixture::new(Database::Postgres(url.replace("postgres@", &format!("{account}@")))).await;
    assert_eq!(rows(&plain, &small).await.len(), 1_000);
}
