//! The process that answers one query on a SQLite file, a hidden command of `sortie`. The user's text is compiled and run under limits that
//! the system holds it to: SQLite by itself has none for the space of a sort or the memory of an expression.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::answer_file::AnswerWriter;
use super::sqlite::Query;
use crate::store::StoreError;
use crate::store::query_limits::{
    QUERY_BYTES_MAX, QUERY_MEMORY_MAX, QUERY_TEMPORARY_BYTES_MAX, QUERY_TEMPORARY_FILES_MAX, QUERY_TIME_MAX,
};

/// The word that the program is started with, before the path of the database.
pub const QUERY_WORD: &str = "answer-query";

/// Reads the text of a query from standard input, after its length, and writes the answer to standard output. A refusal is the text on
/// standard error, and exit code 1. It ends when standard input closes.
pub fn run_query(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(path) = words.next() else {
        eprintln!("error: this command is for `sortie serve`, which starts it with a query of a user");
        return ExitCode::from(2);
    };
    match answer(Path::new(&path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::Refused(reason)) => {
            // Who does not read it does not need it.
            let _ = io::stderr().write_all(reason.to_string().as_bytes());
            ExitCode::FAILURE
        }
        Err(Ended::CallerGone) => ExitCode::FAILURE,
    }
}

/// Why there is no answer.
enum Ended {
    Refused(StoreError),
    CallerGone,
}

impl From<StoreError> for Ended {
    fn from(reason: StoreError) -> Self {
        Self::Refused(reason)
    }
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::CallerGone
    }
}

fn answer(path: &Path) -> Result<(), Ended> {
    let sql = read_query(&mut io::stdin().lock())?;
    std::thread::Builder::new().name("caller".to_owned()).spawn(end_with_caller)?;
    let query = Query::open(path)?;
    limit_process()?;
    query.answer(&sql, &mut AnswerWriter::new(io::stdout()))
}

fn read_query(input: &mut impl Read) -> io::Result<String> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    let mut text = String::new();
    let read = input.take(u64::from(length)).read_to_string(&mut text)?;
    if read > QUERY_BYTES_MAX || read < usize::try_from(length).unwrap_or(usize::MAX) {
        return Err(ErrorKind::InvalidInput.into());
    }
    Ok(text)
}

/// The coordinator holds the other end of standard input, and its end is this process's.
fn end_with_caller() {
    let mut input = io::stdin().lock();
    let mut ignored = [0];
    while matches!(input.read(&mut ignored), Ok(1..)) {}
    std::process::exit(1);
}

/// Called once the database is open, so that the files and the memory that it needs in any case do not count.
fn limit_process() -> io::Result<()> {
    let free_descriptor = u64::try_from(File::open("/dev/null")?.as_raw_fd()).map_err(io::Error::other)?;
    let limits = [
        (Resource::As, reserved_bytes()? + QUERY_MEMORY_MAX),
        (Resource::Fsize, QUERY_TEMPORARY_BYTES_MAX / QUERY_TEMPORARY_FILES_MAX),
        (Resource::Nofile, free_descriptor + QUERY_TEMPORARY_FILES_MAX),
        // Of the processor; the coordinator looks at the clock.
        (Resource::Cpu, QUERY_TIME_MAX.as_secs()),
        // A signal ends a process that goes beyond.
        (Resource::Core, 0),
    ];
    for (resource, limit) in limits {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}

/// The memory that this process has reserved, used or not: allocators reserve much of it beforehand.
fn reserved_bytes() -> io::Result<u64> {
    let sizes = std::fs::read_to_string("/proc/self/statm")?;
    let pages = sizes.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other("/proc/self/statm"))?;
    Ok(pages * rustix::param::page_size() as u64)
}
