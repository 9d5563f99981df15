//! The process of one trial, as its agent sees it.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::attempt_log::AttemptLog;
use super::lines::{Line, Lines};
use super::slots::Slot;
use crate::trial_process::events::LINE_BYTES_MAX;
use crate::trial_process::{Assignment, Event};

/// Events that wait for the attempt; then the process waits.
const EVENTS_WAITING_MAX: usize = 64;
/// How long a process may live after its last word: libtorch unloads and GPU memory is freed.
const EXIT_GRACE: Duration = Duration::from_secs(10);
/// How long its output is read after its death: what it printed last says why it died.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// What a trial's process does.
#[derive(Debug)]
pub(super) enum Message {
    /// It says something.
    Event(Event),
    /// It says something that breaks the schema; the reason in one line.
    Broken(String),
    /// It and its group are gone; nothing follows.
    Ended {
        /// How, where the system tells.
        status: Option<ExitStatus>,
        /// What it printed last.
        last_lines: String,
    },
}

/// A trial's process and its group. Dropping it kills them.
#[derive(Debug)]
pub(super) struct Child {
    group: Arc<Group>,
    messages: mpsc::Receiver<Message>,
}

impl Child {
    /// Starts a process and assigns it its trial.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn spawn(program: &Path, assignment: &Assignment, slot: &Slot, log: AttemptLog) -> io::Result<Self> {
        let mut line = serde_json::to_vec(assignment)?;
        line.push(b'\n');
        let threads = assignment.threads.to_string();
        let mut command = Command::new(program);
        command.arg0("sortie-worker").arg("trial");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that Ctrl-C in a terminal asks the agent alone, and whatever the trial starts dies with it.
        command.process_group(0).kill_on_drop(true);
        command.env("CUDA_VISIBLE_DEVICES", &slot.visible).env("OMP_NUM_THREADS", threads);
        // glibc hands large blocks back to the kernel at once and takes the page faults again at every step; training on a CPU is up to
        // twice as fast when it keeps them. It reads these before main.
        command.env("MALLOC_MMAP_MAX_", "0").env("MALLOC_TRIM_THRESHOLD_", "1099511627776");
        // Threads that wait must not spin: on a machine that is shared with other work, spinning made training several times slower.
        command.env("OMP_WAIT_POLICY", "PASSIVE");
        let mut process = command.spawn()?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the process ended before it began"))?;
        let group = Arc::new(Group { pid, gone: AtomicBool::new(false) });
        let (sender, messages) = mpsc::channel(EVENTS_WAITING_MAX);
        let feeding = process.stdin.take().map(|stdin| feed(stdin, line));
        tokio::spawn(supervise(process, Arc::clone(&group), feeding, log, sender));
        Ok(Self { group, messages })
    }

    /// The next message; the last one is [`Message::Ended`].
    pub(super) async fn next(&mut self) -> Message {
        self.messages.recv().await.unwrap_or(Message::Ended { status: None, last_lines: String::new() })
    }

    /// The process's id, which is its group's.
    pub(super) fn pid(&self) -> i32 {
        self.group.pid.as_raw_nonzero().get()
    }

    /// Asks the group to end.
    pub(super) fn terminate(&self) {
        self.group.signal(Signal::TERM);
    }

    /// Ends the group.
    pub(super) fn kill(&self) {
        self.group.signal(Signal::KILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Debug)]
struct Group {
    pid: Pid,
    /// The process is gone and its id may be another's.
    gone: AtomicBool,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if !self.gone.load(Ordering::Acquire) {
            // The only error is that there is nobody left, which is what a signal is for.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    fn bury(&self) {
        // What the process left behind in its group goes with it.
        self.signal(Signal::KILL);
        self.gone.store(true, Ordering::Release);
    }
}

/// Writes the assignment, then holds the input open: its end tells the process that its agent is gone.
async fn feed(mut stdin: ChildStdin, line: Vec<u8>) {
    // A process that dies before it has read tells why by its exit status.
    let _ = stdin.write_all(&line).await;
    std::future::pending::<()>().await;
}

async fn supervise(
    mut process: tokio::process::Child,
    group: Arc<Group>,
    feeding: Option<impl Future<Output = ()> + Send + 'static>,
    mut log: AttemptLog,
    sender: mpsc::Sender<Message>,
) {
    let mut feeder = JoinSet::new();
    if let Some(feeding) = feeding {
        feeder.spawn(feeding);
    }
    let (mut stdout, mut stderr) = (process.stdout.take(), process.stderr.take());
    let (mut out_buffer, mut err_buffer) = (vec![0; 64 << 10], vec![0; 16 << 10]);
    let mut lines = Lines::new(LINE_BYTES_MAX);
    let mut ended: Option<Option<ExitStatus>> = None;
    let mut deadline: Option<Instant> = None;
    while stdout.is_some() || stderr.is_some() || ended.is_none() {
        tokio::select! {
            count = read(&mut stdout, &mut out_buffer), if stdout.is_some() => {
                let mut last_word = count == 0;
                for line in lines.push(&out_buffer[..count]) {
                    last_word |= tell(line, &mut log, &sender).await;
                }
                if last_word && ended.is_none() {
                    deadline = Some(Instant::now() + EXIT_GRACE);
                }
            }
            count = read(&mut stderr, &mut err_buffer), if stderr.is_some() => log.write(&err_buffer[..count]),
            status = process.wait(), if ended.is_none() => {
                ended = Some(status.ok());
                group.bury();
                deadline = Some(Instant::now() + DRAIN_GRACE);
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                deadline = None;
                if ended.is_some() {
                    break;
                }
                group.signal(Signal::KILL);
            }
        }
    }
    let message = Message::Ended { status: ended.flatten(), last_lines: log.tail() };
    // Nobody listens any more when the agent itself ends.
    let _ = sender.send(message).await;
}

/// Reads what is there; closes the pipe at its end.
async fn read(pipe: &mut Option<impl tokio::io::AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    let count = match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => 0,
    };
    if count == 0 {
        *pipe = None;
    }
    count
}

/// Passes a line on; true if it was the process's last word.
async fn tell(line: Line, log: &mut AttemptLog, sender: &mpsc::Sender<Message>) -> bool {
    let message = match parse(&line) {
        Some(message) => message,
        None => {
            let (Line::Whole(text) | Line::Cut(text)) = line;
            log.write(&text);
            log.write(b"\n");
            return false;
        }
    };
    let last_word = matches!(message, Message::Event(Event::Outcome(_)));
    // Nobody listens any more when the attempt was abandoned.
    let _ = sender.send(message).await;
    last_word
}

/// What a line on the process's standard output means; none for what some library printed there while it was loaded.
fn parse(line: &Line) -> Option<Message> {
    match line {
        Line::Whole(text) if text.first() == Some(&b'{') => Some(match serde_json::from_slice(text) {
            Ok(event) => Message::Event(event),
            // To skip it could lose an evaluation.
            Err(error) => Message::Broken(format!("the trial's process said something that is no event: {error}")),
        }),
        Line::Cut(text) if text.first() == Some(&b'{') => {
            Some(Message::Broken(format!("the trial's process said more than {LINE_BYTES_MAX} bytes in one line")))
        }
        _ => None,
    }
}
