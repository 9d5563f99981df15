//! Reads one [`Assignment`] from standard input, runs the trial, and writes [`Event`]s to the pipe that was
//! standard output. The input then stays open and silent: its end means that the agent is gone, and the watchdog ends the process.
//!
//! The assignment may be long in coming: until then the process waits, with libtorch loaded and its device opened.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::pipe::{Assignment, Event, LINE_BYTES_MAX};

use super::log::{LoggedSink, TrialLog};
use super::{EventSink, watchdog};

use crate::error::TrialError;
use crate::libtorch::end_process;
use crate::training::{Artifacts, ComputeDevice, TrialEnvironment, run_combination, run_trial, warm_up};

/// Runs the trial that standard input assigns, and ends the process. The outcome is reported as an event, whatever it is. The exit status tells
/// only whether it could be reported. `device` is opened before there is a trial.
pub fn run(device: &str) -> ! {
    let status = match serve(device) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {error}");
            1
        }
    };
    // Every report is in the pipe, and every file is written.
    end_process(status)
}

fn serve(device: &str) -> io::Result<()> {
    let events = take_event_pipe()?;
    let _ = rustix::thread::set_name(c"sortie-waiting");
    // A failure is the trial's to report, which opens the device again; without one it is nobody's.
    let _ = device.parse::<ComputeDevice>().map(ComputeDevice::open);
    warm_up();
    let Some(assignment) = read_assignment()? else { return Ok(()) };
    // So that people tell trials from their agent in tools that show thread names; a failure costs nothing but that.
    let _ = rustix::thread::set_name(c"sortie-trial");
    watchdog::start()?;
    let mut sink = EventSink::new(events);
    sink.write_event(&Event::Handshake(crate::commands::probe::handshake()))?;
    let stop = Arc::new(AtomicBool::new(false));
    // The second signal, or one that comes while a long step runs, is the agent's SIGKILL.
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))?;
    let log = TrialLog::new(&assignment, io::stderr());
    let mut logged = LoggedSink { sink: &mut sink, log };
    let ending = run_to_ending(&assignment, &stop, &mut logged);
    logged.log.ended(&ending);
    sink.end(ending)
}

fn run_to_ending<W: Write + Send, L: Write + Send>(
    assignment: &Assignment,
    stop: &Arc<AtomicBool>,
    sink: &mut LoggedSink<'_, W, L>,
) -> Outcome {
    let environment = match assignment.device.parse() {
        Ok(device) => TrialEnvironment {
            data_root: assignment.data.clone(),
            cache_dir: assignment.cache.clone(),
            device,
            threads: Some(assignment.threads),
            artifacts: Artifacts {
                store: assignment.store.clone(),
                token: assignment.token,
                checkpoints: assignment.checkpoints.clone(),
                keep: assignment.keep,
                interval_min: assignment.keep.checkpoint_interval(),
                kill_at: assignment.kill_at,
            },
            stop: Arc::clone(stop),
        },
        Err(message) => return Outcome::Failed { class: ErrorClass::BadConfig, message },
    };
    // `run_trial` lets no panic out; this edge holds even if that changes. The sink only buffers rows, which a panic cannot tear.
    let result = catch_unwind(AssertUnwindSafe(|| match &assignment.combination {
        None => run_trial(&assignment.spec, &environment, sink),
        Some(combination) => run_combination(combination, &assignment.spec, &environment, sink),
    }));
    let result = result.unwrap_or_else(|_| Err(TrialError::Other("the trial panicked".to_owned())));
    sink.sink.ending_of(result)
}

/// Keeps the pipe to the agent for events alone: whatever else in this process writes to standard output, C++ included, goes to
/// standard error, that is to the attempt's log.
fn take_event_pipe() -> io::Result<File> {
    let pipe = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(File::from(pipe))
}

/// None if the agent ended before it had one.
fn read_assignment() -> io::Result<Option<Assignment>> {
    let mut line = String::new();
    if io::stdin().lock().take(LINE_BYTES_MAX as u64).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).map_err(|error| {
        let what = "this command is for `sortie worker`, which starts it once per trial; there is no trial on standard input";
        io::Error::new(io::ErrorKind::InvalidInput, format!("{what} ({error})"))
    })
}
