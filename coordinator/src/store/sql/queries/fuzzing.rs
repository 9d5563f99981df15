//! The guard of users' SQL for a fuzz target, in the target's own process.

use std::path::Path;

use super::answer_file::AnswerWriter;
use super::sqlite::Query;
use crate::store::StoreError;

/// Instructions of SQLite's machine after which a query is ended: some milliseconds.
const INSTRUCTIONS_MAX: u32 = 100_000;

/// A SQLite file that answers queries.
pub struct GuardedFile(Query);

impl GuardedFile {
    /// Opens a database that a store has made.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Query::open(path).map(Self)
    }

    /// Answers a query: the bytes that the coordinator gets, and why there are no more.
    pub fn ask(&self, sql: &str) -> (Vec<u8>, Option<StoreError>) {
        let mut answer = Vec::new();
        let ended = self.0.limit_instructions(INSTRUCTIONS_MAX).and_then(|()| {
            let answered: Result<(), Refusal> = self.0.answer(sql, &mut AnswerWriter::new(&mut answer));
            answered.map_err(|refusal| refusal.0)
        });
        (answer, ended.err())
    }
}

struct Refusal(StoreError);

impl From<StoreError> for Refusal {
    fn from(reason: StoreError) -> Self {
        Self(reason)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self(StoreError::Query(error.to_string()))
    }
}
