//! Runs `sortie-trainer probe`.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use sortie_core::pipe::Probe;

/// How long a probe may take: libtorch's CUDA libraries are 3 GB, and a network disk may be slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(10);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The loader path under which a trainer finds the libraries of this folder before any other.
pub(super) fn loader_path(libraries: &Path) -> OsString {
    let mut path = libraries.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_LIBRARY_PATH").filter(|others| !others.is_empty()) {
        path.push(":");
        path.push(others);
    }
    path
}

/// Runs `sortie-trainer probe` with this folder's libraries. Every symbol is bound at once, so that a library that does not fit is found
/// now.
///
/// # Errors
/// One line that says why it does not answer.
pub(super) fn ask(trainer: &Path, libraries: &Path) -> Result<Probe, String> {
    let mut command = Command::new(trainer);
    command.arg("probe").env("LD_LIBRARY_PATH", loader_path(libraries)).env("LD_BIND_NOW", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| format!("cannot start {}: {error}", trainer.display()))?;
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let ended = wait(&mut child);
    let answer = stdout.join().unwrap_or_default();
    let complaint = stderr.join().unwrap_or_default();
    let place = libraries.display();
    match ended {
        None => Err(format!("the trainer did not answer within {} s with {place}", ANSWER_LIMIT.as_secs())),
        Some(true) => serde_json::from_slice(&answer).map_err(|error| {
            format!("{} gave an answer that this build cannot read: {error}", trainer.display())
        }),
        Some(false) => {
            let text = String::from_utf8_lossy(&complaint);
            let line =
                text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no reason was given");
            let line = line.trim_start_matches("error: ");
            Err(format!("the trainer does not run with {place}: {line}"))
        }
    }
}

fn reader(pipe: Option<impl std::io::Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // After a read error, the message shows what was read before.
            let _ = pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Whether it succeeded; none if it had to be killed.
fn wait(child: &mut Child) -> Option<bool> {
    for _ in 0..ANSWER_LIMIT.as_millis() / POLL.as_millis() {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) => thread::sleep(POLL),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
