//! Where settings come from, with the real program: flags, variables, the working directory's file, the user's file.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::fs;
use std::path::Path;
use std::process::Stdio;

use sortie_testkit::programs::isolated;

/// Nobody listens on these ports, so that the error names the coordinator that was chosen.
fn asks(folder: &Path, words: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
    command
        .env_clear()
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("SORTIE_INSECURE", "1")
        .envs(environment.iter().copied());
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
    // A folder may have come with a repository: its file does not say where to connect.
    let answer = asks(folder, &["status"], &[]);
    let ignored = "1 note: sortie.toml: coordinator is ignored: only the settings file of the user may have access, coordinator, insecure\n";
    assert!(
        answer.starts_with(ignored) && answer.contains(unreachable(1).trim_start_matches("1 ")),
        "{answer}"
    );
    fs::remove_file(folder.join("sortie.toml")).unwrap();
    let variable = [("SORTIE_COORDINATOR", "http://127.0.0.1:3")];
    assert!(asks(folder, &["status"], &variable).starts_with(&unreachable(3)));
    assert!(
        asks(folder, &["status", "--coordinator", "http://127.0.0.1:4"], &variable)
            .starts_with(&unreachable(4))
    );
    assert!(asks(folder, &["status", "--help"], &[]).contains("http://127.0.0.1:1]"));
}

#[test]
fn a_bad_file_is_one_line_and_does_not_hide_the_help() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (text, said) in [
        (
            "colour = \"red\"",
            "1 error: sortie.toml: colour is no setting; allowed: access, advertise, cache, coordinator, ",
        ),
        (
            "lease = \"long\"",
            "1 error: sortie.toml: lease = \"long\" is not allowed: invalid value 'long' for '--lease <SECONDS>'",
        ),
        ("lease = 0", "1 error: sortie.toml: lease = 0 is not allowed: "),
        (
            "insecure = \"maybe\"",
            "1 error: sortie.toml: insecure = \"maybe\" is not allowed: allowed: 1, true, yes, on, 0, false, no, off",
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

#[test]
fn variables_are_spelled_as_people_spell_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let status = ["status", "--coordinator", "http://127.0.0.1:1"];
    let said = |insecure| asks(folder, &status, &[("SORTIE_INSECURE", insecure)]);
    assert!(["", "0", "False", "off"].iter().all(|off| said(off).contains("add --insecure")));
    assert!(["1", "true", "YES", "on"].iter().all(|on| said(on).contains("cannot reach")));
    let answer = asks(folder, &["status"], &[("SORTIE_INSECURE", "maybe")]);
    assert!(
        answer.starts_with("2 error: invalid value 'maybe' for '--insecure, set by SORTIE_INSECURE': allowed: 1, true, yes, on, "),
        "{answer}"
    );
    // An empty variable is one that is not set.
    let unreachable = "1 error: cannot reach the coordinator at http://127.0.0.1:7070: ";
    assert!(asks(folder, &["status"], &[("SORTIE_COORDINATOR", "")]).starts_with(unreachable));
    let answer =
        asks(folder, &["serve", "--db", "nowhere/a.db"], &[("SORTIE_LEASE", ""), ("SORTIE_LOG_FORMAT", "")]);
    assert!(answer.starts_with("1 error: ") && answer.contains("nowhere"), "{answer}");
    let answer = asks(folder, &["serve"], &[("SORTIE_LEASE", "soon")]);
    assert!(
        answer.starts_with("2 error: invalid value 'soon' for '--lease <SECONDS>, set by SORTIE_LEASE'"),
        "{answer}"
    );
    // A flag is never said to come from a variable.
    let answer = asks(folder, &["serve", "--lease=soon"], &[("SORTIE_LEASE", "soon")]);
    assert!(answer.starts_with("2 error: invalid value 'soon' for '--lease <SECONDS>':"), "{answer}");
}

#[test]
fn a_tilde_is_the_home_folder_in_flags_variables_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let home = home.to_str().unwrap();
    // There is no such folder below the home folder, which the error names.
    let said = format!("{home}/missing/a.db");
    let environment = [("HOME", home)];
    for words in [&["serve", "--db", "sqlite://~/missing/a.db"][..], &["serve", "--db=~/missing/a.db"]] {
        let answer = asks(folder.path(), words, &environment);
        assert!(answer.starts_with("1 ") && answer.contains(&said), "{answer}");
    }
    let answer = asks(folder.path(), &["serve"], &[("HOME", home), ("SORTIE_DB", "~/missing/a.db")]);
    assert!(answer.starts_with("1 ") && answer.contains(&said), "{answer}");
    let answer = asks(folder.path(), &["plan", "~/missing.toml"], &environment);
    assert!(answer.starts_with("1 ") && answer.contains(&format!("{home}/missing.toml")), "{answer}");
    fs::write(folder.path().join("sortie.toml"), "db = \"sqlite://~/missing/a.db\"\nstore = \"~/store\"")
        .unwrap();
    let answer = asks(folder.path(), &["serve"], &environment);
    assert!(answer.starts_with("1 ") && answer.contains(&said), "{answer}");
    fs::write(folder.path().join("sortie.toml"), "store = \"~nobody/store\"").unwrap();
    let answer = asks(folder.path(), &["serve"], &environment);
    assert!(
        answer.starts_with("1 error: sortie.toml: store = ") && answer.contains("write the whole path"),
        "{answer}"
    );
    assert!(!folder.path().join("~").exists() && !folder.path().join("~nobody").exists());
}

#[test]
fn a_worker_reads_the_users_file_and_not_the_folders() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir_all(folder.join("config/sortie")).unwrap();
    fs::write(folder.join("sortie.toml"), "colour = 1").unwrap();
    fs::write(folder.join("config/sortie/sortie.toml"), "devices = \"users\"").unwrap();
    for words in [&["worker"][..], &["--coordinator", "http://127.0.0.1:1", "worker"]] {
        let answer = asks(folder, words, &[]);
        assert!(answer.contains("users") && !answer.contains("colour"), "{answer}");
    }
    assert!(asks(folder, &["run", "x.toml"], &[]).contains("colour is no setting"));
    fs::write(folder.join("sortie.toml"), "grace = 77").unwrap();
    fs::write(folder.join("config/sortie/sortie.toml"), "devices = \"cuda:7\"").unwrap();
    let help = asks(folder, &["worker", "--help"], &[]);
    assert!(
        help.starts_with("0 ") && help.contains("[default: cuda:7]") && !help.contains("[default: 77]"),
        "{help}"
    );
}
