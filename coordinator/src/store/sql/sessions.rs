//! Sessions on a Postgres server: that one can be opened, that each connection has one of its own, what each is set to, and what the
//! server does to keep what was acknowledged.

use std::fmt::{self, Write as _};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Error, Executor as _};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::store::database_url::ServerUrl;

/// Until the next try while no server answers.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// How long two sessions may take to show that they are two: far longer than the few answers take.
const CHECK_MAX: Duration = Duration::from_secs(10);
/// How long a server may take to end a session that is not needed any more.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// What the server says about a session that it has no room for, or not yet: too many connections, starting up.
const NOT_YET: [&str; 2] = ["53300", "57P03"];
/// What it says about a prepared statement that is another session's: it does not exist, or it exists already.
const FOREIGN_STATEMENT: [&str; 2] = ["26000", "42P05"];

const POOLER: &str = "a pooler in front of it gives a session to another connection after each transaction, and Sortie needs a session for each connection: \
     set pool_mode = session there, or name the server itself";
const ONE_SESSION: &str = "it answers one connection at a time, and Sortie needs several: let the pooler in front of it open 12 or more (pool_size), or name the server itself";

/// How to open a session. It has the password, and shows none.
#[derive(Clone)]
pub(super) struct Connector(Box<PgConnectOptions>);

impl Connector {
    /// Opens a session with these settings.
    pub(super) async fn connect(&self, settings: &[(&str, &str)]) -> Result<PgConnection, Error> {
        let mut connection = self.0.connect().await?;
        set_up(&mut connection, settings).await?;
        Ok(connection)
    }

    /// Opens a pool of sessions with these settings. One is opened at once.
    pub(super) async fn pool(
        &self,
        options: PgPoolOptions,
        settings: &'static [(&str, &str)],
    ) -> Result<PgPool, Error> {
        let options = options.after_connect(move |connection, _| Box::pin(set_up(connection, settings)));
        options.connect_with((*self.0).clone()).await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Connector")
    }
}

/// Sets a session up. A pooler passes on every statement, but few settings that stand in the start of a session.
async fn set_up(connection: &mut PgConnection, settings: &[(&str, &str)]) -> Result<(), Error> {
    let mut text = String::new();
    for (name, value) in settings {
        // To a string, writing does not fail.
        let _ = write!(text, "SET {name} = '{value}';");
    }
    connection.execute(AssertSqlSafe(text)).await.map(drop)
}

/// Connects to a server and checks what all else relies on. What comes back opens further sessions.
///
/// # Errors
/// One line that says what to do.
pub(super) async fn check(url: &ServerUrl) -> Result<Connector, String> {
    let mut options =
        url.options()?.application_name("sortie").statement_cache_capacity(200).extra_float_digits(None);
    let deadline = Instant::now() + url.connect_limit();
    let mut first = match connect(&options, deadline).await {
        // As libpq does where TLS is wished for, but not required.
        Err(Failed::Server(error)) if is_tls(&error) && matches!(options.get_ssl_mode(), PgSslMode::Prefer) => {
            tracing::warn!(%error, "no TLS with this Postgres server: the connection is not encrypted; sslmode=require would refuse it");
            options = options.ssl_mode(PgSslMode::Disable);
            connect(&options, deadline).await
        }
        connected => connected,
    }
    .map_err(|failed| failed.message(url, &options))?;
    let deadline = Instant::now() + url.connect_limit();
    let mut second = connect(&options, deadline).await.map_err(|failed| match failed {
        Failed::TimeOut => ONE_SESSION.to_owned(),
        failed => failed.message(url, &options),
    })?;
    two_sessions(&mut first, &mut second).await?;
    warn_if_not_durable(&mut first).await;
    for session in [first, second] {
        // A server that does not take leave has nothing that is missed.
        let _ = timeout(CLOSE_MAX, session.close()).await;
    }
    Ok(Connector(Box::new(options)))
}

/// Why there is no connection.
enum Failed {
    Server(Error),
    TimeOut,
}

impl Failed {
    fn message(&self, url: &ServerUrl, options: &PgConnectOptions) -> String {
        use std::io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
        match self {
            // A server in the network gives none of these.
            Self::Server(Error::Io(error))
                if matches!(error.kind(), IsADirectory | NotFound | PermissionDenied)
                    && uses_tls(options) =>
            {
                format!("a file that sslrootcert, sslcert or sslkey names cannot be read ({error})")
            }
            Self::Server(error) => connection_message(error),
            Self::TimeOut => {
                let seconds = url.connect_limit().as_secs();
                format!("no server answers within {seconds} s; start it, or correct the URL")
            }
        }
    }
}

fn uses_tls(options: &PgConnectOptions) -> bool {
    !matches!(options.get_ssl_mode(), PgSslMode::Disable | PgSslMode::Allow)
}

/// Connects, again and again while the server may be starting.
async fn connect(options: &PgConnectOptions, deadline: Instant) -> Result<PgConnection, Failed> {
    loop {
        let error = match timeout_at(deadline, options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => return Err(Failed::TimeOut),
        };
        let starting = match &error {
            Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            error => code_is(error, &NOT_YET),
        };
        if !starting || Instant::now() + TRY_AGAIN >= deadline {
            return Err(Failed::Server(error));
        }
        sleep(TRY_AGAIN).await;
    }
}

fn code_is(error: &Error, codes: &[&str]) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| codes.contains(&code.as_ref()))
}

fn is_tls(error: &Error) -> bool {
    match error {
        Error::Tls(_) => true,
        // A certificate or an answer that is no TLS.
        Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// Why no connection can be made, in one line.
pub(super) fn connection_message(error: &Error) -> String {
    match error {
        Error::Database(error) => error.message().to_owned(),
        error if is_tls(error) => {
            format!(
                "no TLS with the server ({}): sslrootcert names the file of its root certificate, and sslmode what is checked",
                tls_reason(error)
            )
        }
        Error::Io(error) => format!("no server answers ({error}); start it, or correct the URL"),
        Error::PoolTimedOut => "no session is free; start the server, or allow more connections".to_owned(),
        other => other.to_string(),
    }
}

fn tls_reason(error: &Error) -> String {
    match error {
        Error::Tls(error) => error.to_string(),
        Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Fails unless each of two connections keeps a session of its own, which a pooler may give to others between transactions.
async fn two_sessions(first: &mut PgConnection, second: &mut PgConnection) -> Result<(), String> {
    let deadline = Instant::now() + CHECK_MAX;
    let refused = |error: Error| {
        // Another session shows by what it does not know.
        if code_is(&error, &FOREIGN_STATEMENT) { POOLER.to_owned() } else { connection_message(&error) }
    };
    let alone = async {
        let one = Session::begin(first, "one").await?;
        let two = Session::begin(second, "two").await?;
        Ok((one, two))
    };
    let (one, two) = match timeout_at(deadline, alone).await {
        Ok(sessions) => sessions.map_err(refused)?,
        Err(_) => return Err(ONE_SESSION.to_owned()),
    };
    if one.process == two.process {
        return Err(POOLER.to_owned());
    }
    let interleaved = async {
        // The order of ends changes, so that a pooler which hands sessions on in any order confuses them.
        for swapped in [false, true] {
            let mut in_first = first.begin().await?;
            let mut in_second = second.begin().await?;
            let kept = one.is_kept(&mut in_first).await? && two.is_kept(&mut in_second).await?;
            if swapped {
                in_first.commit().await?;
                in_second.commit().await?;
            } else {
                in_second.commit().await?;
                in_first.commit().await?;
            }
            if !(kept && two.is_kept(second).await? && one.is_kept(first).await?) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match timeout_at(deadline, interleaved).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(POOLER.to_owned()),
        // The second transaction may wait for the end of the first.
        Err(_) => {
            let seconds = CHECK_MAX.as_secs();
            Err(format!(
                "two transactions at a time got no answer within {seconds} s: it is too busy, or {POOLER}"
            ))
        }
        Ok(Err(error)) => Err(refused(error)),
    }
}

/// What a connection's session is known by.
struct Session {
    process: i32,
    name: &'static str,
}

impl Session {
    /// Leaves a name in the session.
    async fn begin(connection: &mut PgConnection, name: &'static str) -> Result<Self, Error> {
        let process = "SELECT pg_backend_pid() FROM set_config('sortie.session', $1, false)";
        let process = sqlx::query_scalar(process).bind(name).fetch_one(connection).await?;
        Ok(Self { process, name })
    }

    /// Whether the connection has that session still.
    async fn is_kept(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        let found = "SELECT pg_backend_pid(), current_setting('sortie.session', true)";
        let found: (i32, Option<String>) = sqlx::query_as(found).fetch_one(connection).await?;
        Ok(found == (self.process, Some(self.name.to_owned())))
    }
}

/// Warns of each setting that lets a power cut take what was acknowledged.
async fn warn_if_not_durable(connection: &mut PgConnection) {
    let off = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name";
    let off: Vec<String> = sqlx::query_scalar(off).fetch_all(connection).await.unwrap_or_default();
    for name in off {
        match name.as_str() {
            "fsync" => tracing::warn!(
                "this Postgres server runs with fsync = off: a power cut can lose what was acknowledged, and the whole database"
            ),
            "full_page_writes" => tracing::warn!(
                "this Postgres server runs with full_page_writes = off: a power cut can damage tables beyond repair"
            ),
            _ => tracing::warn!(
                "this Postgres server has synchronous_commit = off: a power cut can lose commits of the last moments; Sortie sets it to on for its own sessions, other clients of this database have what the server says"
            ),
        }
    }
}
