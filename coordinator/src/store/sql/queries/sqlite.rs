//! Queries on SQLite.
//!
//! A query is compiled twice. First in a database in memory that has nothing but empty views of the same names and columns: names there
//! can only mean those views, or what the query itself defines. Then, unchanged, on the file. SQLite's authorizer alone would not do: it
//! tells through which view a table is read, but calls a common table expression of the query a view too, so that `WITH v_trials AS (SELECT
//! * FROM logs) ...` would pass. It does refuse, in both, everything but reading and functions that SQLite itself declares innocuous.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, Statement};

use super::answer_file::AnswerWriter;
use super::refusals::{
    database_refuses, no_select, refused, too_long, too_much_memory, too_much_space, too_wide, uncallable,
    unreadable,
};
use crate::store::StoreError;
use crate::store::query::{QueryRow, QueryValue, VIEWS};
use crate::store::query_limits::{QUERY_BYTES_MAX, QUERY_COLUMNS_MAX, QUERY_ROW_BYTES_MAX};

/// Functions that make tables of their arguments alone.
const TABLE_FUNCTIONS: [&str; 2] = ["json_each", "json_tree"];
/// Names that SQLite keeps for itself: its catalogue, and tables about the connection.
const OWN_PREFIXES: [&str; 2] = ["sqlite_", "pragma_"];
/// How long a query waits where the file is locked, which is only while another process recovers it.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// Pages that it keeps in memory, in KiB; sorts of as much need no file.
const CACHE_KIB: i32 = -16_384;
/// SQLite's codes for a temporary file that cannot be made longer, and for memory that it did not get while it read or mapped a file.
const IOERR_WRITE: i32 = 10 | 3 << 8;
const IOERR_NOMEM: i32 = 10 | 12 << 8;
const IOERR_SHMMAP: i32 = 10 | 21 << 8;

/// A file that is open for one query, which nobody has seen yet.
pub(super) struct Query {
    file: Connection,
    sandbox: Connection,
    guard: Guard,
}

impl Query {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = || {
            let file = open(path)?;
            Ok(Self { sandbox: sandbox(&file)?, guard: Guard::of(&file)?, file })
        };
        opened().map_err(|error| failed(&error))
    }

    /// Ends the next query after about so many instructions of SQLite's machine.
    #[cfg(feature = "fuzzing")]
    pub(super) fn limit_instructions(&self, instructions: u32) -> Result<(), StoreError> {
        for connection in [&self.file, &self.sandbox] {
            let mut left = instructions / 1_000;
            let over = move || {
                left = left.saturating_sub(1);
                left == 0
            };
            connection.progress_handler(1_000, Some(over)).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Answers the query with this text. Blocks.
    pub(super) fn answer<E: From<StoreError> + From<std::io::Error>>(
        &self,
        sql: &str,
        answer: &mut AnswerWriter<impl Write>,
    ) -> Result<(), E> {
        self.guard.compile(&self.sandbox, sql, false)?;
        self.guard.answer(&self.file, sql, answer)
    }
}

fn open(path: &Path) -> Result<Connection, Error> {
    let file = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    file.busy_timeout(BUSY_MAX)?;
    file.pragma_update(None, "query_only", true)?;
    file.pragma_update(None, "cache_size", CACHE_KIB)?;
    limit(&file)?;
    Ok(file)
}

/// Bounds what compiling and running can take of this process.
fn limit(connection: &Connection) -> Result<(), Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    let limits = [
        (Limit::SQLITE_LIMIT_LENGTH, QUERY_ROW_BYTES_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, QUERY_BYTES_MAX),
        (Limit::SQLITE_LIMIT_COLUMN, QUERY_COLUMNS_MAX),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ];
    for (limit, value) in limits {
        connection.set_limit(limit, i32::try_from(value).unwrap_or(i32::MAX))?;
    }
    Ok(())
}

/// A database that has the views of the file, without rows, and nothing behind them.
fn sandbox(file: &Connection) -> Result<Connection, Error> {
    let sandbox = Connection::open_in_memory()?;
    for view in VIEWS {
        let columns = file.prepare(&format!("SELECT * FROM {view}"))?.column_names().join(", ");
        let nulls = vec!["NULL"; columns.split(", ").count()].join(", ");
        sandbox.execute_batch(&format!("CREATE VIEW {view} ({columns}) AS SELECT {nulls} WHERE 0"))?;
    }
    limit(&sandbox)?;
    Ok(sandbox)
}

/// What SQLite's authorizer is asked, and why it refused.
struct Guard {
    /// Functions without side effects, by SQLite's own word.
    functions: Arc<HashSet<String>>,
    /// What looks like a table and is none of ours.
    modules: Arc<HashSet<String>>,
    refusal: Arc<Mutex<Option<StoreError>>>,
}

impl Guard {
    fn of(file: &Connection) -> Result<Self, Error> {
        // SQLITE_INNOCUOUS and not SQLITE_DIRECTONLY, for all functions of a name.
        let functions =
            "SELECT name FROM pragma_function_list GROUP BY name HAVING MIN((flags & 0x280000) = 0x200000)";
        let functions = names(file, functions)?;
        let mut modules = names(file, "SELECT name FROM pragma_module_list")?;
        modules.retain(|name| !TABLE_FUNCTIONS.contains(&name.as_str()));
        Ok(Self { functions: Arc::new(functions), modules: Arc::new(modules), refusal: Arc::default() })
    }

    /// Compiles a query that may only read. `real`: on the file, where tables may only be read through views.
    fn compile<'a>(
        &self,
        connection: &'a Connection,
        sql: &str,
        real: bool,
    ) -> Result<Statement<'a>, StoreError> {
        let (functions, modules, refusal) =
            (Arc::clone(&self.functions), Arc::clone(&self.modules), Arc::clone(&self.refusal));
        let authorizer = move |context: AuthContext<'_>| match check(&context, &functions, &modules, real) {
            Ok(()) => Authorization::Allow,
            Err(reason) => {
                refusal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
                Authorization::Deny
            }
        };
        connection.authorizer(Some(authorizer)).map_err(|error| failed(&error))?;
        let statement = connection.prepare(sql).map_err(|error| self.reason(&error))?;
        match statement.column_count() {
            0 => Err(no_select()),
            columns if columns > QUERY_COLUMNS_MAX => Err(too_wide(columns)),
            _ if !statement.readonly() || statement.is_explain() != 0 => Err(no_select()),
            _ => Ok(statement),
        }
    }

    fn answer<E: From<StoreError> + From<std::io::Error>>(
        &self,
        file: &Connection,
        sql: &str,
        answer: &mut AnswerWriter<impl Write>,
    ) -> Result<(), E> {
        let mut statement = self.compile(file, sql, true)?;
        let columns = statement.column_names().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let width = columns.len();
        answer.begin(columns)?;
        let mut rows = statement.query([]).map_err(|error| self.reason(&error))?;
        while let Some(row) = rows.next().map_err(|error| self.reason(&error))? {
            answer.push(read(row, width)?)?;
        }
        Ok(answer.finish()?)
    }

    /// Why a query was refused: a thing that it may not do, or SQLite's error.
    fn reason(&self, error: &Error) -> StoreError {
        if let Some(reason) = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return reason;
        }
        match error {
            Error::SqliteFailure(code, _) if code.code == ErrorCode::OutOfMemory => too_much_memory(),
            Error::SqliteFailure(code, _) if [IOERR_NOMEM, IOERR_SHMMAP].contains(&code.extended_code) => {
                too_much_memory()
            }
            // The file is open, and only read: what cannot be opened or written is a temporary one.
            Error::SqliteFailure(code, _)
                if matches!(code.code, ErrorCode::DiskFull | ErrorCode::CannotOpen)
                    || code.extended_code == IOERR_WRITE =>
            {
                too_much_space()
            }
            Error::SqliteFailure(_, Some(message)) => database_refuses(message),
            Error::MultipleStatement => no_select(),
            Error::InvalidParameterCount(..) => refused("a query has no parameters".to_owned()),
            other => database_refuses(&other.to_string()),
        }
    }
}

/// Whether a query may do this.
fn check(
    context: &AuthContext<'_>,
    functions: &HashSet<String>,
    modules: &HashSet<String>,
    real: bool,
) -> Result<(), StoreError> {
    match context.action {
        AuthAction::Select | AuthAction::Recursive => Ok(()),
        AuthAction::Function { function_name } if functions.contains(&function_name.to_ascii_lowercase()) => {
            Ok(())
        }
        AuthAction::Function { function_name } => Err(uncallable(function_name)),
        AuthAction::Read { table_name, column_name } => {
            let name = table_name.to_ascii_lowercase();
            // One that is read without any of its columns may be the query's own: then its name is all that is reported.
            let known = VIEWS.contains(&name.as_str())
                || TABLE_FUNCTIONS.contains(&name.as_str())
                || column_name.is_empty();
            let own = OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || modules.contains(&name);
            if own || (real && !known && context.accessor.is_none()) {
                Err(unreadable(table_name))
            } else {
                Ok(())
            }
        }
        _ => Err(no_select()),
    }
}

fn names(connection: &Connection, sql: &str) -> Result<HashSet<String>, Error> {
    connection
        .prepare(sql)?
        .query_map([], |row| row.get::<_, String>(0).map(|name| name.to_ascii_lowercase()))?
        .collect()
}

fn read(row: &rusqlite::Row<'_>, width: usize) -> Result<QueryRow, StoreError> {
    let (mut values, mut bytes) = (Vec::with_capacity(width), 0);
    for column in 0..width {
        let value = row.get_ref(column).map_err(|error| failed(&error))?;
        bytes += if let ValueRef::Text(text) | ValueRef::Blob(text) = value { text.len() } else { 0 };
        if bytes > QUERY_ROW_BYTES_MAX {
            return Err(too_long());
        }
        values.push(match value {
            ValueRef::Null => QueryValue::Null,
            ValueRef::Integer(value) => QueryValue::Integer(value),
            ValueRef::Real(value) => QueryValue::Real(value),
            ValueRef::Text(text) => QueryValue::Text(String::from_utf8_lossy(text).into_owned()),
            // As Postgres writes them.
            ValueRef::Blob(bytes) => QueryValue::Text(
                bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
            ),
        });
    }
    Ok(values)
}

/// The database itself is at fault.
fn failed(error: &Error) -> StoreError {
    refused(format!("the database cannot be asked: {error}"))
}
