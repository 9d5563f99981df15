//! Checks of [`super::sessions`] against real servers: poolers that give sessions away, and TLS.

use std::path::Path;
use std::time::Duration;

use sortie_testkit::certificates::Authority;
use sortie_testkit::postgres::{PgBouncer, PoolMode, Postgres};
use sqlx::{Connection as _, PgConnection, Row as _};

use super::database::SqlBackend;
use super::engine::Pool;
use super::postgres;
use crate::store::OpenOptions;
use crate::store::database_url::{DatabaseUrl, Place};

/// None, with a line that says so, where there is no server.
fn server() -> Option<Postgres> {
    if !Postgres::is_installed() {
        println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
        return None;
    }
    Some(Postgres::start().unwrap())
}

/// The database, or why it is refused, in one line.
async fn open(url: &str) -> Result<SqlBackend, String> {
    let url: DatabaseUrl = url.parse().unwrap();
    let Place::Server(server) = url.place() else { panic!("{url}") };
    let opened = postgres::open(server, &OpenOptions::default()).await.map_err(|error| error.to_string());
    opened.inspect_err(|error| {
        assert!(error.starts_with(&format!("cannot open the database {url}: ")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    })
}

async fn first_text(database: &SqlBackend, sql: &'static str) -> String {
    let Pool::Postgres(pool) = &database.writer else { panic!("{database:?}") };
    sqlx::query(sql).fetch_one(pool).await.unwrap().get(0)
}

#[tokio::test]
async fn a_pooler_is_refused_unless_each_connection_keeps_its_session() {
    if !PgBouncer::is_installed() {
        println!("skipped: needs PgBouncer (apt-get install pgbouncer)");
        return;
    }
    let Some(server) = server() else { return };
    for (mode, pool_size, ignored, part) in [
        (PoolMode::Transaction, 1, "", "set pool_mode = session there, or name the server itself"),
        (PoolMode::Transaction, 5, "", "set pool_mode = session there, or name the server itself"),
        (PoolMode::Transaction, 1, "options,extra_float_digits", "set pool_mode = session"),
        (PoolMode::Transaction, 5, "options,extra_float_digits", "set pool_mode = session"),
        (PoolMode::Statement, 5, "", "set pool_mode = session"),
        (PoolMode::Session, 1, "", "it answers one connection at a time"),
    ] {
        let pooler = PgBouncer::start(&server, mode, pool_size, ignored).unwrap();
        let url = pooler.url("postgres");
        let opening = tokio::time::timeout(Duration::from_secs(60), open(&url));
        let error = opening.await.unwrap_or_else(|_| panic!("{mode} {pool_size} hangs")).unwrap_err();
        assert!(error.contains(part), "{mode} pooling, {pool_size} sessions: {error}; {}", pooler.log());
    }
    // With sessions of its own, every setting that the store relies on arrives, also those that the pooler does not know.
    let pooler = PgBouncer::start(&server, PoolMode::Session, 20, "").unwrap();
    let database = open(&pooler.url("postgres")).await.unwrap();
    for (question, answer) in
        [("SHOW synchronous_commit", "on"), ("SHOW enable_seqscan", "off"), ("SHOW jit", "off")]
    {
        assert_eq!(first_text(&database, question).await, answer, "{question}");
    }
}

#[tokio::test]
async fn nothing_that_is_open_shows_its_password() {
    let Some(server) = server() else { return };
    let url = server.url("postgres").replace("sortie@", "sortie:visible1@");
    let database = open(&url).await.unwrap();
    assert!(!format!("{database:?} {url:?}", url = url.parse::<DatabaseUrl>()).contains("visible1"));
}

/// How many sessions of ours are encrypted, and how many are not.
async fn sessions(server: &Postgres) -> (i64, i64) {
    let mut connection =
        PgConnection::connect(&format!("{}?sslmode=disable", server.url("postgres"))).await.unwrap();
    let count = "SELECT COUNT(*) FILTER (WHERE s.ssl), COUNT(*) FILTER (WHERE NOT s.ssl) FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a \
                 ON a.pid = s.pid WHERE a.application_name = 'sortie'";
    sqlx::query_as(count).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn tls_is_used_as_the_url_says() {
    if !Authority::is_installed() {
        println!("skipped: needs openssl (apt-get install openssl)");
        return;
    }
    let Some(mut server) = server() else { return };
    let plain = server.url("postgres");
    // A busy machine may be slow to start a session.
    let plain_patient = format!("{plain}?connect_timeout=60");
    let refused = open(&format!("{plain}?sslmode=require")).await.unwrap_err();
    assert!(refused.contains("server does not support TLS"), "{refused}");

    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let (certificate, key) = (server.folder().join("server.pem"), server.folder().join("server.key"));
    authority.sign("DNS:localhost", &certificate, &key).unwrap();
    for file in [&certificate, &key] {
        server.own_secret(file).unwrap();
    }
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let tls = [("ssl", "on"), ("ssl_cert_file", certificate), ("ssl_key_file", key)];
    server.configure(&tls).unwrap();

    let named = plain.replace("127.0.0.1", "localhost");
    let with = |url: &str, mode: &str, root: Option<&Path>| {
        let root = root.map_or_else(String::new, |root| format!("&sslrootcert={}", root.display()));
        format!("{url}?connect_timeout=60&sslmode={mode}{root}")
    };
    let (right, wrong) = (authority.root(), stranger.root());
    for url in [
        plain_patient.clone(),
        with(&plain, "prefer", None),
        with(&plain, "require", None),
        // The name is not checked.
        with(&plain, "verify-ca", Some(&right)),
        with(&named, "verify-full", Some(&right)),
    ] {
        let database = open(&url).await.unwrap();
        let (encrypted, open) = sessions(&server).await;
        assert!(encrypted >= 2 && open == 0, "{url}: {encrypted} {open}");
        let Pool::Postgres(pool) = &database.readers else { panic!("{database:?}") };
        pool.close().await;
        let Pool::Postgres(pool) = &database.writer else { panic!("{database:?}") };
        pool.close().await;
    }
    for (url, part) in [
        (with(&plain, "verify-full", Some(&right)), "certificate not valid for name"),
        (with(&named, "verify-full", Some(&wrong)), "invalid peer certificate"),
        (with(&named, "verify-full", None), "invalid peer certificate"),
        (with(&plain, "verify-ca", Some(&wrong)), "invalid peer certificate"),
        // As libpq does: a root that is named is used.
        (with(&plain, "require", Some(&wrong)), "invalid peer certificate"),
        (with(&named, "verify-full", Some(Path::new("/no/such.pem"))), "a file that sslrootcert"),
    ] {
        let error = open(&url).await.map(|_| ()).unwrap_err();
        assert!(error.contains(part), "{url}: {error}");
    }

    // A server whose TLS is older than ours: wished for, it is done without; required, it is refused.
    let old = [("ssl_min_protocol_version", "TLSv1"), ("ssl_max_protocol_version", "TLSv1.1")];
    server.configure(&[&tls[..], &old].concat()).unwrap();
    let database = open(&plain_patient).await.unwrap();
    assert_eq!(first_text(&database, "SHOW synchronous_commit").await, "on");
    assert_eq!(sessions(&server).await.0, 0);
    let error = open(&with(&plain, "require", None)).await.unwrap_err();
    assert!(error.contains("no TLS"), "{error}");
}
