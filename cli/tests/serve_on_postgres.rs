//! What `sortie serve` says about a Postgres server that it starts on.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use sortie_testkit::programs::isolated;
use std::process::Stdio;

use sortie_testkit::postgres::{PgBouncer, PoolMode, Postgres};

const DURABLE: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];

/// Starts a coordinator, which stops at once; its exit code, and the lines of its log.
fn serve(url: &str) -> (i32, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
    command.env_clear().env("HOME", folder.path()).current_dir(folder.path()).stdin(Stdio::null());
    command.args(["serve", "--listen", "127.0.0.1:0", "--stop-on-stdin-close", "--db", url]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said.lines().map(str::to_owned).collect())
}

#[test]
fn settings_that_lose_what_was_acknowledged_are_named() {
    if !Postgres::is_installed() {
        println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
        return;
    }
    let mut server = Postgres::start().unwrap();
    let url = server.url("postgres");
    let (code, lines) = serve(&url);
    assert!(code == 0 && !lines.iter().any(|line| line.contains("= off")), "{code} {lines:?}");
    server.configure(&DURABLE.map(|name| (name, "off"))).unwrap();
    let (code, lines) = serve(&url);
    assert_eq!(code, 0, "{lines:?}");
    for name in DURABLE {
        let of_it: Vec<_> = lines.iter().filter(|line| line.contains(&format!("{name} = off"))).collect();
        assert!(
            of_it.len() == 1 && of_it[0].contains("WARN") && of_it[0].contains("a power cut can"),
            "{lines:?}"
        );
    }
    if !PgBouncer::is_installed() {
        println!("skipped in part: needs PgBouncer (apt-get install pgbouncer)");
        return;
    }
    let pooler = PgBouncer::start(&server, PoolMode::Transaction, 5, "options,extra_float_digits").unwrap();
    let (code, lines) = serve(&pooler.url("postgres"));
    assert_eq!((code, lines.len()), (1, 1), "{lines:?}");
    assert!(lines[0].contains("pool_mode = session"), "{lines:?}");
}
