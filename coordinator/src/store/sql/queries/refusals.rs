//! Why a query is refused, each in one line.

use crate::store::StoreError;
use crate::store::query::VIEWS;
use crate::store::query_limits::{
    QUERY_COLUMNS_MAX, QUERY_MEMORY_MAX, QUERY_ROW_BYTES_MAX, QUERY_TEMPORARY_BYTES_MAX,
};

/// What helps against every limit on what a query takes.
const ASK_FOR_LESS: &str = "ask for less at a time, such as one sweep or one method";

/// Characters of a name or a message that a refusal repeats.
const QUOTED_CHARS_MAX: usize = 300;

/// The query is wrong, or may not be asked.
pub(super) fn refused(reason: String) -> StoreError {
    StoreError::Query(reason)
}

/// What the database said about a query, with what people then look for.
pub(super) fn database_refuses(message: &str) -> StoreError {
    refused(format!(
        "the database refuses the query: {} (only {} may be read; docs/sql.md describes them)",
        quoted(message),
        views()
    ))
}

/// A query reads what it may not.
pub(super) fn unreadable(what: &str) -> StoreError {
    refused(format!("only {} may be read, not {}", views(), quoted(what)))
}

pub(super) fn uncallable(function: &str) -> StoreError {
    refused(format!(
        "the function {} may not be called in a query: it does more than compute from its arguments",
        quoted(function)
    ))
}

pub(super) fn no_select() -> StoreError {
    refused("a query is one SELECT statement that gives at least one column".to_owned())
}

pub(super) fn too_wide(columns: usize) -> StoreError {
    refused(format!("the query has {columns} columns; allowed: at most {QUERY_COLUMNS_MAX}"))
}

pub(super) fn too_long() -> StoreError {
    refused(format!("a row of the answer is longer than {QUERY_ROW_BYTES_MAX} bytes"))
}

pub(super) fn too_much_memory() -> StoreError {
    refused(format!("the query needs more than {} MiB of memory: {ASK_FOR_LESS}", QUERY_MEMORY_MAX >> 20))
}

pub(super) fn too_much_space() -> StoreError {
    refused(format!(
        "the query needs more temporary space than the {} MiB that it may take, or than there is: {ASK_FOR_LESS}",
        QUERY_TEMPORARY_BYTES_MAX >> 20
    ))
}

/// What repeats a piece of the query, in one line that people read to its end.
fn quoted(text: &str) -> String {
    let line = |text: &str| text.replace(char::is_control, " ");
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}...", line(&text[..end])),
        None => line(text),
    }
}

fn views() -> String {
    let (last, others) = VIEWS.split_last().unwrap_or((&"", &[]));
    format!("{} and {last}", others.join(", "))
}
