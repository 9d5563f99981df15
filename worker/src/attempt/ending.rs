//! What the end of a trial's process means.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use sortie_core::job::{ErrorClass, Outcome};

/// Bytes of a message; the coordinator keeps 4096.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// What is known when a trial's process has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessEnd {
    /// The outcome that the process reported.
    pub(crate) reported: Option<Outcome>,
    /// The worker was asked to stop, and asked it to end.
    pub(crate) handed_back: bool,
    /// Its wait status, if the system gave one.
    pub(crate) status: Option<ExitStatus>,
    /// What it printed last.
    pub(crate) last_lines: String,
    /// The kernel's out-of-memory killer killed a process while it ran.
    pub(crate) oom_killed: bool,
    /// What a command that ended with exit status 0 lacks for success, if anything.
    pub(crate) lacks: Option<Outcome>,
}

/// Decides the outcome of an attempt of Sortie's own trainer.
///
/// An outcome that the process reported counts, however it ended afterwards: its reports were complete by then, and a crash while libtorch
/// is unloaded changes no number. A process that reported none was ended by the agent, or by a fault that may be transient.
pub(crate) fn of_trial(end: ProcessEnd) -> Outcome {
    if let Some(reported) = end.reported {
        return one_line(reported);
    }
    if end.handed_back {
        return handed_back();
    }
    let class = if was_oom_killed(&end) { ErrorClass::OutOfMemory } else { ErrorClass::Transient };
    failed(class, "the trial's process", &end)
}

/// Decides the outcome of a command. docs/commands.md lists the exit statuses.
pub(crate) fn of_command(end: ProcessEnd) -> Outcome {
    match &end.reported {
        Some(reported @ Outcome::Diverged { .. }) => return reported.clone(),
        Some(reported) => return one_line(reported.clone()),
        None => {}
    }
    // Its status does not matter when it was asked to stop: it may have stopped early and exited with 0.
    if end.handed_back {
        return handed_back();
    }
    let code = end.status.and_then(|status| status.code());
    let class = match code {
        Some(0) => return end.lacks.map_or(Outcome::Succeeded, one_line),
        Some(65) => ErrorClass::BadData,
        Some(78) => ErrorClass::BadConfig,
        // The statuses of shells for a program that cannot be run or is missing: another machine may have it.
        Some(126 | 127) => ErrorClass::Machine,
        Some(75) => ErrorClass::Transient,
        _ if was_oom_killed(&end) || names_lack_of_memory(&end.last_lines) => ErrorClass::OutOfMemory,
        // 128 and more is what shells and interpreters make of a child that a signal killed.
        Some(1..128) => ErrorClass::Crashed,
        _ => ErrorClass::Transient,
    };
    failed(class, "the command", &end)
}

/// A failure that the worker reports, not the process.
pub(crate) fn transient(message: String) -> Outcome {
    one_line(Outcome::Failed { class: ErrorClass::Transient, message })
}

/// This machine lacks something that the trial needs.
pub(crate) fn machine(message: String) -> Outcome {
    one_line(Outcome::Failed { class: ErrorClass::Machine, message })
}

/// An attempt that went on for too long.
pub(crate) fn stalled(message: String) -> Outcome {
    one_line(Outcome::Failed { class: ErrorClass::Stalled, message })
}

/// A trial that cannot run like this anywhere.
pub(crate) fn bad_config(message: String) -> Outcome {
    one_line(Outcome::Failed { class: ErrorClass::BadConfig, message })
}

fn handed_back() -> Outcome {
    Outcome::Failed { class: ErrorClass::Preempted, message: "the worker was asked to stop".to_owned() }
}

fn failed(class: ErrorClass, what: &str, end: &ProcessEnd) -> Outcome {
    let mut message = format!("{what} {}", describe(end));
    if !end.last_lines.is_empty() {
        message.push_str("; it printed last: ");
        message.push_str(&end.last_lines);
    }
    one_line(Outcome::Failed { class, message })
}

/// A shell or an interpreter whose child was killed by signal 9 ends with status 137 itself.
fn was_oom_killed(end: &ProcessEnd) -> bool {
    end.oom_killed
        && end.status.is_some_and(|status| status.signal() == Some(9) || status.code() == Some(137))
}

/// PyTorch, JAX, Python and glibc's C++ each word it differently. A command's output is text only, so this searches its messages.
fn names_lack_of_memory(last_lines: &str) -> bool {
    let phrases = [
        "CUDA out of memory",
        "OutOfMemoryError",
        "MemoryError",
        "RESOURCE_EXHAUSTED: Out of memory",
        "std::bad_alloc",
    ];
    phrases.iter().any(|phrase| last_lines.contains(phrase))
}

/// An outcome whose message is one line that the coordinator keeps.
pub(crate) fn one_line(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed { class, message } => {
            let mut message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            Outcome::Failed { class, message }
        }
        other => other,
    }
}

fn describe(end: &ProcessEnd) -> String {
    let Some(status) = end.status else {
        return "ended in a way that the system does not tell".to_owned();
    };
    match (status.signal(), status.code()) {
        (Some(9), _) if end.oom_killed => {
            "was killed by the kernel because memory ran out (SIGKILL)".to_owned()
        }
        // The sender is unknown: a person, a batch system, or a kernel without a counter of such kills.
        (Some(9), _) => "was killed by signal 9 (SIGKILL)".to_owned(),
        (Some(signal), _) => match signal_name(signal) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        },
        (None, Some(0)) => "ended with exit 0 and reported no result".to_owned(),
        (None, Some(code)) if was_oom_killed(end) => {
            format!("was killed by the kernel because memory ran out (exit {code})")
        }
        (None, Some(code)) => format!("crashed, exit {code}"),
        (None, None) => format!("ended with {status}"),
    }
}

/// The signals that end programs, by their numbers on every Linux architecture that libtorch runs on.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        _ => return None,
    })
}

/// The outcome where a trainer that waited ended before it took its trial, which is not the trial's fault.
pub(crate) fn before_it_began() -> Outcome {
    let message = "the trainer that waited for a trial ended before it took this one".to_owned();
    Outcome::Failed { class: ErrorClass::Preempted, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(outcome: Outcome) -> (ErrorClass, String) {
        match outcome {
            Outcome::Failed { class, message } => (class, message),
            other => panic!("{other:?}"),
        }
    }

    /// A wait status as the kernel packs it: the exit code in the second byte, the signal in the first.
    fn end(status: i32, last_lines: &str) -> ProcessEnd {
        ProcessEnd {
            status: Some(ExitStatus::from_raw(status)),
            last_lines: last_lines.to_owned(),
            ..ProcessEnd::default()
        }
    }

    #[test]
    fn what_the_process_said_counts() {
        let crashed =
            |reported, handed_back| ProcessEnd { reported: Some(reported), handed_back, ..end(11, "noise") };
        assert_eq!(of_trial(crashed(Outcome::Succeeded, false)), Outcome::Succeeded);
        assert_eq!(of_trial(crashed(Outcome::Succeeded, true)), Outcome::Succeeded);
        let diverged = Outcome::Diverged { step: 3 };
        assert_eq!(of_trial(crashed(diverged.clone(), false)), diverged);
        assert_eq!(of_command(crashed(diverged.clone(), true)), diverged);
        let said = Outcome::Failed { class: ErrorClass::BadData, message: "/x: gone\nreally".into() };
        assert_eq!(
            failed(of_trial(crashed(said, false))),
            (ErrorClass::BadData, "/x: gone really".to_owned())
        );
    }

    #[test]
    fn a_silent_end_is_ours_or_the_kernels_or_transient() {
        assert_eq!(failed(of_trial(ProcessEnd { handed_back: true, ..end(9, "") })).0, ErrorClass::Preempted);
        let (class, message) = failed(of_trial(end(9, "")));
        assert_eq!(
            (class, message.as_str()),
            (ErrorClass::Transient, "the trial's process was killed by signal 9 (SIGKILL)")
        );
        assert_eq!(
            failed(of_trial(ProcessEnd { oom_killed: true, ..end(9, "") })).0,
            ErrorClass::OutOfMemory
        );
        assert_eq!(failed(of_trial(ProcessEnd { oom_killed: true, ..end(11, "") })).0, ErrorClass::Transient);
        let (class, message) = failed(of_command(ProcessEnd { oom_killed: true, ..end(137 << 8, "Killed") }));
        assert_eq!(class, ErrorClass::OutOfMemory);
        let said =
            "the command was killed by the kernel because memory ran out (exit 137); it printed last: Killed";
        assert_eq!(message, said);
        let (class, message) = failed(of_trial(end(3 << 8, "a | b")));
        assert_eq!(
            (class, message.as_str()),
            (ErrorClass::Transient, "the trial's process crashed, exit 3; it printed last: a | b")
        );
        assert!(failed(of_trial(end(40, ""))).1.ends_with("signal 40"));
    }

    #[test]
    fn every_exit_status_of_a_command_has_its_meaning() {
        assert_eq!(of_command(end(0, "")), Outcome::Succeeded);
        let lacks = Some(transient("incomplete:\nit is".to_owned()));
        let (class, message) = failed(of_command(ProcessEnd { lacks, ..end(0, "") }));
        assert_eq!((class, message.as_str()), (ErrorClass::Transient, "incomplete: it is"));
        for (code, last_lines, class) in [
            (65, "MemoryError", ErrorClass::BadData),
            (78, "", ErrorClass::BadConfig),
            (127, "", ErrorClass::Machine),
            (126, "", ErrorClass::Machine),
            (75, "", ErrorClass::Transient),
            (1, "KeyError: 'x'", ErrorClass::Crashed),
            (134, "Aborted", ErrorClass::Transient),
            (1, "torch.OutOfMemoryError: CUDA out of memory. Tried", ErrorClass::OutOfMemory),
            (1, "Traceback | MemoryError", ErrorClass::OutOfMemory),
        ] {
            // A command that was asked to stop is handed back whatever its status.
            assert_eq!(failed(of_command(end(code << 8, last_lines))).0, class, "{code} {last_lines}");
            assert_eq!(
                failed(of_command(ProcessEnd { handed_back: true, ..end(code << 8, "") })).0,
                ErrorClass::Preempted
            );
        }
        for status in [9, 137 << 8] {
            assert_eq!(
                failed(of_command(ProcessEnd { oom_killed: true, ..end(status, "") })).0,
                ErrorClass::OutOfMemory
            );
            assert_eq!(failed(of_command(end(status, ""))).0, ErrorClass::Transient);
        }
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let (_, message) = failed(transient("é".repeat(5_000)));
        assert_eq!(message.len(), MESSAGE_BYTES_MAX);
    }
}
