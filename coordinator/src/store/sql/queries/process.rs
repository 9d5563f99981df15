//! Queries on SQLite, as the coordinator sees them: a process that answers one, and ends with it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use super::answer_file::{read_columns, read_row};
use super::program::QUERY_WORD;
use super::refusals::{refused, too_much_memory, too_much_space};
use crate::store::StoreError;
use crate::store::query::Output;

/// What the process needs to know of its surroundings: where SQLite puts temporary files, and where the system finds libraries. The rest may
/// hold secrets.
const VARIABLES: [&str; 3] = ["SQLITE_TMPDIR", "TMPDIR", "LD_LIBRARY_PATH"];
/// The longest refusal: it may repeat some of the query.
const REFUSAL_BYTES_MAX: u64 = 256 << 10;
/// How long the end of the process may take.
const END_MAX: Duration = Duration::from_secs(5);

/// Answers a query.
pub(super) async fn run(
    program: &Path,
    database: &Path,
    sql: &str,
    output: &mut Output,
) -> Result<(), StoreError> {
    let mut command = Command::new(program);
    command.arg(QUERY_WORD).arg(database).env_clear().kill_on_drop(true);
    command.envs(VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| unasked(&format!("{} cannot be started: {error}", program.display())))?;
    let (slow, deadline, gone) = (output.slow(), output.deadline(), output.gone());
    let ended = tokio::select! {
        ended = answer(&mut child, sql, output) => ended,
        () = tokio::time::sleep_until(deadline) => Err(slow),
        () = gone => Ok(()),
    };
    // It has ended already, or is killed. The kernel may keep it for a while that waits for a disk.
    let _ = tokio::time::timeout(END_MAX, child.kill()).await;
    ended
}

async fn answer(child: &mut Child, sql: &str, output: &mut Output) -> Result<(), StoreError> {
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(unasked("its process has no pipes"));
    };
    let ask = async {
        let length = u32::try_from(sql.len()).unwrap_or(u32::MAX);
        // A process that does not read it ends, and says why.
        let _ = stdin.write_u32_le(length).await;
        let _ = stdin.write_all(sql.as_bytes()).await;
    };
    let refusal = async {
        let mut text = String::new();
        let _ = (&mut stderr).take(REFUSAL_BYTES_MAX).read_to_string(&mut text).await;
        text
    };
    let ((), passed_on, refusal) = tokio::join!(ask, pass_on(BufReader::new(stdout), output), refusal);
    let status = child.wait().await.map_err(|error| unasked(&error.to_string()))?;
    // Until here: its end is the process's.
    drop(stdin);
    match (status.success(), passed_on) {
        (true, Ok(())) => Ok(()),
        (true, Err(error)) => Err(unasked(&error.to_string())),
        (false, _) if status.code() == Some(1) && !refusal.is_empty() => Err(refused(refusal)),
        (false, _) => Err(unanswered(status, output)),
    }
}

/// Passes rows on until there are no more, or nobody reads them.
async fn pass_on(mut answer: impl AsyncRead + Unpin, output: &mut Output) -> std::io::Result<()> {
    let Some(columns) = read_columns(&mut answer).await? else { return Ok(()) };
    if output.begin(columns).is_err() {
        return Ok(());
    }
    while let Some(row) = read_row(&mut answer).await? {
        if output.push(row).await.is_err() {
            return Ok(());
        }
    }
    // If the reader is gone, there is nobody to notify.
    let _ = output.finish().await;
    Ok(())
}

/// Why a process ended that said nothing.
fn unanswered(status: ExitStatus, output: &Output) -> StoreError {
    use std::os::unix::process::ExitStatusExt as _;
    match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::XFSZ) => too_much_space(),
        Some(Signal::XCPU) => output.slow(),
        // Rust aborts where it gets no memory, a stack that cannot grow is a fault, and a system without memory kills.
        Some(Signal::ABORT | Signal::SEGV | Signal::BUS | Signal::KILL) => too_much_memory(),
        _ => unasked(&format!("its process ended without an answer ({status})")),
    }
}

/// The query is not at fault.
fn unasked(reason: &str) -> StoreError {
    refused(format!("the database cannot be asked: {reason}"))
}
