//! What the end of a trial's process means.

use std::process::ExitStatus;

use sortie_core::job::{ErrorClass, Outcome};

/// Bytes of a message; the coordinator keeps 4096.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Decides the outcome of an attempt whose process is gone.
///
/// What the process said of itself counts, however it ended afterwards: its reports were complete before it said so, and a crash while
/// libtorch is unloaded changes no number. A process that said nothing was ended by us, or by something that may not happen again.
pub(super) fn outcome(said: Option<Outcome>, handed_back: bool, status: Option<ExitStatus>, last_lines: &str) -> Outcome {
    if let Some(ending) = said {
        return one_line(ending);
    }
    if handed_back {
        return Outcome::Failed { class: ErrorClass::Preempted, message: "the worker was asked to stop".to_owned() };
    }
    let mut message = format!("the trial's process {}", describe(status));
    if !last_lines.is_empty() {
        message.push_str("; it printed last: ");
        message.push_str(last_lines);
    }
    one_line(Outcome::Failed { class: ErrorClass::Transient, message })
}

/// A failure that the worker itself has to tell.
pub(super) fn transient(message: String) -> Outcome {
    one_line(Outcome::Failed { class: ErrorClass::Transient, message })
}

fn one_line(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed { class, message } => {
            let mut message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            Outcome::Failed { class, message }
        }
        other => other,
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    let Some(status) = status else {
        return "ended in a way that the system does not tell".to_owned();
    };
    match (status.signal(), status.code()) {
        // Who sent it cannot be known: a person, a batch system, or the kernel short of memory.
        (Some(9), _) => "was killed by signal 9 (SIGKILL), as the kernel does when memory runs out".to_owned(),
        (Some(signal), _) => match signal_name(signal) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        },
        (None, Some(code)) => format!("ended with exit status {code} and no outcome"),
        (None, None) => format!("ended with {status}"),
    }
}

/// The signals by which programs die, with the numbers that they have on every architecture Linux runs libtorch on.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn failed(outcome: Outcome) -> (ErrorClass, String) {
        match outcome {
            Outcome::Failed { class, message } => (class, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_process_said_counts() {
        let crashed = Some(ExitStatus::from_raw(11));
        assert_eq!(outcome(Some(Outcome::Succeeded), false, crashed, ""), Outcome::Succeeded);
        assert_eq!(outcome(Some(Outcome::Succeeded), true, crashed, ""), Outcome::Succeeded);
        assert_eq!(outcome(Some(Outcome::Diverged { step: 3 }), false, None, "noise"), Outcome::Diverged { step: 3 });
        let said = Outcome::Failed { class: ErrorClass::BadData, message: "/x: gone\nreally".into() };
        assert_eq!(failed(outcome(Some(said), false, None, "noise")), (ErrorClass::BadData, "/x: gone really".to_owned()));
    }

    #[test]
    fn a_silent_end_is_ours_or_transient() {
        let killed = Some(ExitStatus::from_raw(9));
        assert_eq!(failed(outcome(None, true, killed, "")).0, ErrorClass::Preempted);
        let (class, message) = failed(outcome(None, false, killed, ""));
        assert_eq!(class, ErrorClass::Transient);
        assert!(message.contains("signal 9 (SIGKILL)"), "{message}");
        let (class, message) = failed(outcome(None, false, Some(ExitStatus::from_raw(3 << 8)), "a | b"));
        assert_eq!(
            (class, message.as_str()),
            (ErrorClass::Transient, "the trial's process ended with exit status 3 and no outcome; it printed last: a | b")
        );
        assert!(failed(outcome(None, false, Some(ExitStatus::from_raw(40)), "")).1.ends_with("signal 40"));
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let (_, message) = failed(transient("é".repeat(5_000)));
        assert_eq!(message.len(), MESSAGE_BYTES_MAX);
    }
}
