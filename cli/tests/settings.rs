//! Where settings come from, with the real program: flags, variables, the working directory's file, the user's file.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Nobody listens on these ports, so that the error names the coordinator that was chosen.
fn asks(folder: &Path, words: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sortie"));
    command.env_clear().env("XDG_CONFIG_HOME", folder.join("config")).envs(environment.iter().copied());
    let output = command.args(words).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("panicked"), "{error}");
    format!("{} {error}{}", output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn flags_then_variables_then_the_folders_file_then_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let coordinator = |port: u16| format!("coordinator = \"http://127.0.0.1:{port}\"\n");
    let unreachable =
        |port: u16| format!("1 error: cannot reach the coordinator at http://127.0.0.1:{port}: ");
    fs::create_dir_all(folder.join("config/sortie")).unwrap();
    fs::write(folder.join("config/sortie/sortie.toml"), coordinator(1)).unwrap();
    assert!(
        asks(folder, &["status"], &[]).starts_with(&unreachable(1)),
        "{}",
        asks(folder, &["status"], &[])
    );
    fs::write(folder.join("sortie.toml"), coordinator(2)).unwrap();
    assert!(asks(folder, &["status"], &[]).starts_with(&unreachable(2)));
    let variable = [("SORTIE_COORDINATOR", "http://127.0.0.1:3")];
    assert!(asks(folder, &["status"], &variable).starts_with(&unreachable(3)));
    assert!(
        asks(folder, &["status", "--coordinator", "http://127.0.0.1:4"], &variable)
            .starts_with(&unreachable(4))
    );
    assert!(asks(folder, &["status", "--help"], &[]).contains("http://127.0.0.1:2]"));
}

#[test]
fn a_bad_file_is_one_line_and_does_not_hide_the_help() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (text, said) in [
        ("colour = \"red\"", "1 error: sortie.toml: colour is no setting; allowed: cache, coordinator, "),
        (
            "lease = \"long\"",
            "1 error: sortie.toml: lease = \"long\" is not allowed: invalid value 'long' for '--lease <SECONDS>'",
        ),
        ("lease = 0", "1 error: sortie.toml: lease = 0 is not allowed: "),
        (
            "insecure = \"yes\"",
            "1 error: sortie.toml: insecure = \"yes\" is not allowed: allowed: true or false",
        ),
        ("lease", "1 error: sortie.toml, line 1: "),
    ] {
        fs::write(folder.join("sortie.toml"), text).unwrap();
        let answer = asks(folder, &["status"], &[]);
        assert!(answer.starts_with(said) && answer.lines().count() == 1, "{answer}");
        assert!(asks(folder, &["status", "--help"], &[]).starts_with("0 "));
        assert!(asks(folder, &["fly"], &[]).starts_with("2 "));
    }
}
