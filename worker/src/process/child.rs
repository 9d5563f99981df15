//! The process of one trial, as its agent sees it.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use sortie_core::job::Outcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use crate::attempt::attempt_log::{AttemptLog, LastOutput};
use crate::process::launch::{Launch, OutputParser};
use crate::process::lines::{Line, Lines};
use crate::process::metric_lines::Reading;
use crate::process::metrics_record::MetricsRecord;
use sortie_core::pipe::Event;
use sortie_core::pipe::LINE_BYTES_MAX;

/// The most events that are queued for the attempt; with more, the process waits.
const EVENTS_WAITING_MAX: usize = 64;
/// How long a process may run after its outcome: a trainer ends at once, and the system frees its GPU memory.
const EXIT_GRACE: Duration = Duration::from_secs(10);
/// How long output is read after the process has ended: its last lines say why.
const DRAIN_GRACE: Duration = Duration::from_secs(1);
/// How long a guard whose input was closed may take to kill what its command started. It needs milliseconds.
const GUARD_GRACE: Duration = Duration::from_secs(1);

/// What happened to a trial's process.
#[derive(Debug)]
pub(crate) enum Message {
    /// It reported an event.
    Event(Event),
    /// It printed something; the output that the coordinator gets at once, if any of it.
    Printed(Vec<u8>),
    /// It printed a line that breaks the schema, which is this outcome.
    Broken(Outcome),
    /// It and its group have ended, with this status if the system gave one; nothing follows.
    Ended(Option<ExitStatus>, LastOutput),
}

/// A trial's process and its group. Dropping it kills them.
#[derive(Debug)]
pub(crate) struct Child {
    group: Arc<Group>,
    messages: mpsc::Receiver<Message>,
    /// Becomes true when the process is to be killed.
    kill_requested: watch::Sender<bool>,
}

impl Child {
    /// Starts a process, or gives its work to one that `waits` for it.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn spawn(
        launch: Launch,
        waits: Option<tokio::process::Child>,
        log: AttemptLog,
    ) -> io::Result<Self> {
        let Launch { command, input, parser, guarded, record, .. } = launch;
        // A killed guard could not kill processes that left its group. Dropping the handle closes its input, which ends it.
        let mut process = waits.map_or_else(|| start(command, !guarded), Ok)?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the process ended before it began"))?;
        let group = Arc::new(Group { pid, guarded, gone: AtomicBool::new(false) });
        let (sender, messages) = mpsc::channel(EVENTS_WAITING_MAX);
        let (kill_requested, kill_requests) = watch::channel(false);
        let mut input_writer = JoinSet::new();
        if let Some(stdin) = process.stdin.take() {
            input_writer.spawn(write_input(stdin, input));
        }
        let forwarder = OutputForwarder { log, parser, record, sender };
        tokio::spawn(
            Supervisor {
                process,
                group: Arc::clone(&group),
                input_writer,
                forwarder,
                kill_requests,
                deadline: None,
            }
            .run()
            .in_current_span(),
        );
        Ok(Self { group, messages, kill_requested })
    }

    /// The next message; the last one is [`Message::Ended`].
    pub(crate) async fn next(&mut self) -> Message {
        self.messages.recv().await.unwrap_or_else(|| Message::Ended(None, LastOutput::default()))
    }

    /// The process's id, which is its group's.
    pub(crate) fn pid(&self) -> i32 {
        self.group.pid.as_raw_nonzero().get()
    }

    /// Asks the group to end.
    pub(crate) fn terminate(&self) {
        self.group.signal(Signal::TERM);
    }

    /// Ends the group.
    pub(crate) fn kill(&self) {
        if !self.group.guarded {
            self.group.signal(Signal::KILL);
        }
        self.kill_requested.send_replace(true);
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
    guarded: bool,
    /// The process has ended, and the system may reuse its id.
    gone: AtomicBool,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if !self.gone.load(Ordering::Acquire) {
            // An error means that no process is left.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    fn reap(&self) {
        // What the process left behind in its group goes with it.
        self.signal(Signal::KILL);
        self.gone.store(true, Ordering::Release);
    }
}

/// Starts a process with pipes to this one.
///
/// # Errors
/// When the system refuses.
pub(super) fn start(mut command: Command, kill_on_drop: bool) -> io::Result<tokio::process::Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(kill_on_drop).spawn()
}

/// Writes the process's input, then holds it open: it closes when the agent ends.
async fn write_input(mut stdin: ChildStdin, input: Vec<u8>) {
    // If the process ends before it has read, its exit status says why.
    let _ = stdin.write_all(&input).await;
    std::future::pending::<()>().await;
}

/// Reads a process's output until it ends, and kills it at its deadline.
struct Supervisor {
    process: tokio::process::Child,
    group: Arc<Group>,
    input_writer: JoinSet<()>,
    forwarder: OutputForwarder,
    kill_requests: watch::Receiver<bool>,
    /// When the process is killed.
    deadline: Option<Instant>,
}

impl Supervisor {
    async fn run(mut self) {
        let (mut stdout, mut stderr) = (self.process.stdout.take(), self.process.stderr.take());
        let (mut out_buffer, mut err_buffer) = (vec![0; 64 << 10], vec![0; 16 << 10]);
        let mut lines = Lines::new(LINE_BYTES_MAX);
        let mut ended: Option<Option<ExitStatus>> = None;
        while stdout.is_some() || stderr.is_some() || ended.is_none() {
            tokio::select! {
                count = read(&mut stdout, &mut out_buffer), if stdout.is_some() => {
                    let mut is_outcome = count == 0;
                    for line in lines.push(&out_buffer[..count]) {
                        is_outcome |= self.forwarder.forward(line).await;
                    }
                    if is_outcome && ended.is_none() && self.deadline.is_none() {
                        self.deadline = Some(Instant::now() + EXIT_GRACE);
                    }
                }
                count = read(&mut stderr, &mut err_buffer), if stderr.is_some() => self.forwarder.keep(&err_buffer[..count]).await,
                status = self.process.wait(), if ended.is_none() => {
                    ended = Some(status.ok());
                    self.group.reap();
                    self.deadline = Some(Instant::now() + DRAIN_GRACE);
                }
                () = kill_requested(&mut self.kill_requests), if ended.is_none() && !self.input_writer.is_empty() => self.kill(),
                () = sleep_until(self.deadline.unwrap_or_else(Instant::now)), if self.deadline.is_some() => {
                    self.deadline = None;
                    if ended.is_some() {
                        break;
                    }
                    self.kill();
                }
            }
        }
        if let Some(rest) = lines.rest() {
            self.forwarder.forward(rest).await;
        }
        let rest = self.forwarder.parser.rest();
        self.forwarder.report(rest).await;
        let OutputForwarder { log, parser, sender, .. } = self.forwarder;
        let (lacks, notes) = parser.end();
        let last_output = LastOutput { lacks, notes, ..log.end() };
        // There is no receiver any more when the agent itself ends.
        let _ = sender.send(Message::Ended(ended.flatten(), last_output)).await;
    }

    /// Ends the process: a guard by closing its input and, if that does not help, like any other by a signal that it cannot refuse.
    fn kill(&mut self) {
        if self.group.guarded && !self.input_writer.is_empty() {
            self.deadline = Some(Instant::now() + GUARD_GRACE);
        } else {
            self.group.signal(Signal::KILL);
        }
        self.input_writer = JoinSet::new();
    }
}

async fn kill_requested(kill_requests: &mut watch::Receiver<bool>) {
    // An error means that the handle was dropped, so the process must end too.
    let _ = kill_requests.wait_for(|kill_requested| *kill_requested).await;
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

/// Forwards a process's events and output to the attempt and to the log. There is no receiver any more when the attempt was abandoned.
struct OutputForwarder {
    log: AttemptLog,
    parser: OutputParser,
    record: Option<MetricsRecord>,
    sender: mpsc::Sender<Message>,
}

impl OutputForwarder {
    /// Forwards a line of standard output; true if it was the outcome.
    async fn forward(&mut self, line: Line) -> bool {
        let Reading { events, output } = match self.parser.read(&line) {
            Ok(reading) => reading,
            Err(outcome) => {
                let _ = self.sender.send(Message::Broken(outcome)).await;
                return false;
            }
        };
        let is_silent = events.is_empty();
        let is_outcome = self.report(events).await;
        match output {
            Some(mut output) => {
                output.push(line.end.byte());
                self.keep(&output).await;
            }
            // A metric that was reported before is a sign of life all the same.
            None if is_silent => self.keep(b"").await,
            None => {}
        }
        is_outcome
    }

    /// Forwards events, and notes them before that; true if the outcome is among them.
    async fn report(&mut self, events: Vec<Event>) -> bool {
        if let Some(record) = &mut self.record {
            record.note(&events);
        }
        let mut is_outcome = false;
        for event in events {
            is_outcome |= matches!(event, Event::Outcome(_));
            let _ = self.sender.send(Message::Event(event)).await;
        }
        is_outcome
    }

    /// Logs output that is no event.
    async fn keep(&mut self, bytes: &[u8]) {
        let head = self.log.write(bytes);
        if head.is_empty() {
            // A sign of progress, for which nobody waits.
            let _ = self.sender.try_send(Message::Printed(Vec::new()));
        } else {
            let _ = self.sender.send(Message::Printed(head.to_vec())).await;
        }
    }
}
