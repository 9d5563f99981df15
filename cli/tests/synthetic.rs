//! `sortie synthetic` as a worker runs it: a program with an environment, an output, and ways to end.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use sortie_testkit::programs::isolated;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

/// In a folder whose settings file is broken: a trial must not depend on where it was started.
fn synthetic(words: &[&str], environment: &[(&str, &str)]) -> Command {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-settings");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("sortie.toml"), "nonsense").unwrap();
    let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
    command
        .arg("synthetic")
        .args(words)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

fn run(words: &[&str], environment: &[(&str, &str)]) -> Output {
    synthetic(words, environment).output().unwrap()
}

const TRIAL: [(&str, &str); 3] =
    [("SORTIE_PARAM_TRIAL", "94f9de81"), ("SORTIE_PARAM_HELD_OUT", "b"), ("SORTIE_PARAM_STEPS", "3")];

#[test]
fn its_length_may_be_a_variable() {
    let refused = run(&[], &[("SORTIE_SYNTHETIC_SECONDS", "soon")]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("soon"));
    assert!(run(&["--steps", "1"], &[("SORTIE_SYNTHETIC_SECONDS", "0.01")]).status.success());
}

#[test]
fn every_attempt_at_a_trial_prints_the_same() {
    let output = run(&[], &TRIAL);
    assert!(output.status.success() && output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 4 + 2 * 5);
    // Noise, pauses and chances to fail change no number.
    let other = run(&["--output-bytes", "70000", "--seconds", "0.01", "--flaky", "0"], &TRIAL);
    assert_eq!((other.stdout, other.stderr.len()), (text.into_bytes(), 70_000));
}

#[test]
fn it_ends_as_it_is_told_to() {
    let failed = run(&["--fail-at", "2", "--exit-code", "7"], &TRIAL);
    assert_eq!(failed.status.code(), Some(7));
    assert_eq!(String::from_utf8(failed.stderr).unwrap(), "synthetic failure at step 2\n");
    assert!(String::from_utf8(failed.stdout).unwrap().contains("{\"step\":1,\"loss\""));
    assert_eq!(run(&["--crash-at", "1"], &TRIAL).status.signal(), Some(9));
    assert_eq!(run(&["--flaky", "1"], &TRIAL).status.code(), Some(1));
    let unreadable = run(&[], &[("SORTIE_PARAM_STEPS", "many")]);
    assert_eq!(unreadable.status.code(), Some(1));
    assert!(
        String::from_utf8(unreadable.stderr).unwrap().starts_with("error: SORTIE_PARAM_STEPS = \"many\"")
    );
}

#[test]
fn attempts_have_chances_of_their_own() {
    let ends: Vec<bool> = (0..40).map(|_| run(&["--flaky", "0.5"], &TRIAL).status.success()).collect();
    assert!(ends.contains(&true) && ends.contains(&false), "{ends:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_panic() {
    let mut child = synthetic(&["--steps", "100000"], &TRIAL)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0_u8; 10];
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!((output.status.code(), output.status.signal()), (Some(0), None));
}
