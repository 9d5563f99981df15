//! Who reaches a coordinator: programs that find its access file, and nobody else.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SWEEP: &str = "name = \"s\"\n[run]\ncommand = [\"true\", \"{x}\"]\n[grid]\nx = [1]\n";

/// A user of this machine, with folders of their own.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s.toml"), SWEEP).unwrap();
        Self { folder }
    }

    fn access(&self, role: &str) -> PathBuf {
        self.folder.path().join(format!("state/sortie/access/{role}.toml"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sortie"));
        command.env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("HOME", self.folder.path()).env("XDG_STATE_HOME", self.folder.path().join("state"));
        command
    }

    fn serve(&self, words: &[&str]) -> Coordinator {
        let mut command = self.command();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(words).stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Coordinator { child, url: line.trim().strip_prefix("listening on ").unwrap().to_owned() }
    }

    /// The exit code, and what was printed on both outputs.
    fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
        let output = self.command().args(words).envs(variables.iter().copied()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), text)
    }

    fn says(&self, words: &[&str]) -> String {
        let (code, text) = self.run(words, &[]);
        assert_eq!(code, Some(0), "{words:?}: {text}");
        text
    }

    fn refused(&self, words: &[&str], variables: &[(&str, &str)], part: &str) {
        let (code, text) = self.run(words, variables);
        assert_eq!((code, text.lines().count()), (Some(1), 1), "{words:?}: {text}");
        assert!(text.contains(part), "{words:?}: {text}");
        assert!(!text.contains("sortie_"), "a token is shown: {text}");
    }
}

struct Coordinator {
    child: Child,
    url: String,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn programs_of_one_user_find_the_coordinator_and_nothing_is_typed() {
    let user = User::new();
    user.refused(&["status"], &[], "sortie serve");
    let first = user.serve(&["--db", "a.db"]);
    assert!(first.url.starts_with("https://"));
    user.says(&["submit", "s.toml"]);
    assert!(user.says(&["status", "--json"]).contains("\"s\""));
    for role in ["operator", "worker", "reader"] {
        assert_eq!(mode(&user.access(role)), 0o600);
    }
    assert_eq!(mode(&user.folder.path().join("state/sortie/identity.toml")), 0o600);
    // A second coordinator does not take the files; its address alone is enough for it.
    let second = user.serve(&["--db", "b.db"]);
    assert!(user.says(&["status", "--json"]).contains("\"s\""));
    assert_eq!(user.says(&["status", "--json", "--coordinator", &second.url]).trim(), r#"{"sweeps":[]}"#);
    // Tomorrow's coordinator on another file is found as today's is.
    drop((first, second));
    let third = user.serve(&["--db", "b.db"]);
    assert_eq!(user.says(&["status", "--json"]).trim(), r#"{"sweeps":[]}"#);
    drop(third);
}

#[test]
fn another_user_needs_the_file_in_either_form() {
    let (user, other) = (User::new(), User::new());
    let coordinator = user.serve(&["--db", "a.db"]);
    let at = ["--coordinator", coordinator.url.as_str(), "status"];
    other.refused(&at, &[], "no access file");
    // Somebody who has a coordinator of their own has another CA: they send no token.
    let own = other.serve(&["--db", "own.db"]);
    other.refused(&at, &[], "another CA");
    let line = user.says(&["access", "show", "--one-line"]);
    let (code, text) = other.run(&["status", "--json"], &[("SORTIE_ACCESS", line.trim())]);
    assert_eq!((code, text.trim()), (Some(0), r#"{"sweeps":[]}"#));
    // Quotes that a tool left are no part of it. What is no line is not shown, for it may be most of one.
    let quoted = format!("\"{}\"", line.trim());
    assert_eq!(other.run(&["status", "--json"], &[("SORTIE_ACCESS", &quoted)]).0, Some(0));
    let whole = user.says(&["access", "show"]);
    let token = whole.split("token = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for wrong in [whole.clone(), format!("x{}", line.trim()), format!("./{token}")] {
        let (code, said) = other.run(&["status"], &[("SORTIE_ACCESS", &wrong)]);
        assert!(code == Some(1) && said.contains("not shown"), "{said}");
        assert!(!said.contains(&token[..20]) && !said.contains(&line.trim()[20..60]), "{said}");
    }
    let (code, said) = other.run(&["workers", line.trim()], &[]);
    assert!(code == Some(2) && !said.contains(&line.trim()[20..60]), "{said}");
    // A file by its name, and one that was imported, which a coordinator of that user then leaves alone.
    let file = other.folder.path().join("theirs.toml");
    fs::write(&file, user.says(&["access", "show"])).unwrap();
    let named = ["status", "--access", "theirs.toml"];
    other.refused(&named, &[], "chmod 600");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    other.says(&named);
    drop(own);
    other.says(&["access", "import", "theirs.toml"]);
    let _own = other.serve(&["--db", "own.db"]);
    assert_eq!(other.says(&["access", "show"]).trim(), user.says(&["access", "show"]).trim());
    assert_ne!(other.says(&["access", "show", "--own"]).trim(), user.says(&["access", "show"]).trim());
    user.says(&["submit", "s.toml"]);
    assert!(other.says(&["status", "--json"]).contains("\"s\""));
}

#[test]
fn a_role_allows_what_it_is_for() {
    let (user, reader) = (User::new(), User::new());
    let coordinator = user.serve(&["--db", "a.db"]);
    let line = |role: &str| user.says(&["access", "show", "--role", role, "--one-line"]).trim().to_owned();
    let (reading, working) = (line("reader"), line("worker"));
    let with =
        |line: &str, words: &[&str], part: &str| reader.refused(words, &[("SORTIE_ACCESS", line)], part);
    with(&reading, &["submit", "s.toml"], "a reader's token does not allow Submit");
    with(&working, &["status"], "a worker's token does not allow Status");
    with(&reading, &["backup", "x"], "a reader's token does not allow Backup");
    assert_eq!(reader.run(&["status"], &[("SORTIE_ACCESS", &reading)]).0, Some(0));
    let plain = coordinator.url.replace("https", "http");
    reader.refused(&["status", "--coordinator", &plain], &[], "--insecure");
    reader.refused(&["status", "--coordinator", &plain, "--insecure"], &[], "coordinator");
    let worker = ["worker", "--devices", "cpu", "--allow-commands", "--exit-when-idle"];
    let (code, said) = reader.run(&worker, &[("SORTIE_ACCESS", &reading)]);
    assert!(code == Some(1) && said.contains("a reader's token does not allow Register"), "{said}");
    let (code, said) = reader.run(&worker, &[("SORTIE_ACCESS", &working)]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn an_identity_moves_to_another_machine() {
    let (user, other) = (User::new(), User::new());
    let coordinator = user.serve(&["--db", "a.db"]);
    fs::write(other.folder.path().join("identity"), user.says(&["access", "export"])).unwrap();
    other.says(&["access", "import", "identity"]);
    let second = other.serve(&["--db", "b.db"]);
    // Either coordinator takes the tokens of both.
    user.says(&["status", "--coordinator", &second.url]);
    other.says(&["status", "--coordinator", &coordinator.url]);
    let third = User::new();
    drop(third.serve(&["--db", "c.db"]));
    fs::copy(other.folder.path().join("identity"), third.folder.path().join("identity")).unwrap();
    third.refused(&["access", "import", "identity"], &[], "another identity");
}

#[test]
fn who_listens_in_the_coordinators_place_gets_no_token() {
    let user = User::new();
    drop(user.serve(&["--db", "a.db"]));
    let impostor = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", impostor.local_addr().unwrap());
    let listening = std::thread::spawn(move || {
        let (mut stream, _) = impostor.accept().unwrap();
        let mut heard = vec![0; 4_096];
        let length = stream.read(&mut heard).unwrap();
        heard.truncate(length);
        heard
    });
    user.refused(&["status", "--coordinator", &url], &[], "cannot reach");
    let heard = listening.join().unwrap();
    // A greeting of TLS, and no token in it.
    assert_eq!(heard[0], 0x16);
    assert!(!heard.windows(7).any(|bytes| bytes == b"sortie_"));
}

#[test]
fn tokens_are_made_expire_and_are_revoked() {
    let (user, other) = (User::new(), User::new());
    let _coordinator = user.serve(&["--db", "a.db"]);
    let made = user.says(&["token", "create", "--role", "reader", "--name", "ann", "--one-line"]);
    let with = |line: &str, words: &[&str]| other.run(words, &[("SORTIE_ACCESS", line.trim())]);
    assert_eq!(with(&made, &["status"]).0, Some(0));
    assert!(with(&made, &["token", "list"]).1.contains("a reader's token does not allow Tokens"));
    let again = ["token", "create", "--role", "worker", "--name", "ann"];
    user.refused(&again, &[], "there is a token \"ann\" already");
    // Alone it is what HTTP takes, and it is shown once.
    let bare = user.says(&["token", "create", "--role", "operator", "--name", "bob"]);
    assert!(bare.starts_with("sortie_") && bare.trim().len() == 71, "{bare}");
    let list = user.says(&["token", "list"]);
    assert!(!list.contains(&bare.trim()[..12]) && list.contains("ann       reader    valid"), "{list}");
    let brief = ["token", "create", "--role", "reader", "--name", "brief", "--expires", "1s", "--one-line"];
    let brief = user.says(&brief);
    user.says(&["token", "revoke", "ann"]);
    let refused = with(&made, &["status"]);
    assert!(refused.0 == Some(1) && refused.1.contains("the token \"ann\" was revoked"), "{refused:?}");
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    let refused = with(&brief, &["status"]);
    assert!(refused.0 == Some(1) && refused.1.contains("the token \"brief\" has expired"), "{refused:?}");
    user.says(&["token", "revoke", "bob"]);
    user.refused(&["token", "revoke", "operator"], &[], "the last operator's token");
    user.refused(&["token", "revoke", "nobody"], &[], "there are: operator, reader, worker");
    let (code, text) = user.run(&["token", "rotate", "worker", "--overlap", "soon"], &[]);
    assert!(code == Some(2) && text.contains("7d"), "{text}");
    user.says(&["submit", "s.toml"]);
    user.says(&["cancel", "s"]);
    let audit = user.says(&["audit"]);
    let lines: Vec<&str> = audit.lines().collect();
    assert!(lines[1].contains("operator  operator  cancel") && lines[2].contains("submit"), "{audit}");
    assert!(
        lines.iter().any(|line| line.contains("create-token") && line.contains("ann, reader")),
        "{audit}"
    );
    assert_eq!(user.says(&["audit", "s"]).lines().count(), 3);
}

#[test]
fn a_rotated_token_reaches_workers_that_read_the_file_and_ends_no_attempt() {
    let user = User::new();
    let metric = r#"{{"step": 1, "domain": "a", "split": "out", "metrics": {{"f": 0.5}}}}"#;
    let sweep = format!(
        "name = \"s\"\n[run]\ncommand = [\"sh\", \"-c\", '''sleep 6; echo '{metric}'''', \"{{x}}\"]\n[grid]\nx = [1, 2, 3]\n"
    );
    fs::write(user.folder.path().join("s.toml"), sweep).unwrap();
    let _coordinator = user.serve(&["--db", "a.db", "--lease", "3"]);
    user.says(&["submit", "s.toml"]);
    let old = user.says(&["access", "show", "--role", "worker", "--one-line"]);
    let mut worker = user.command();
    worker.args(["worker", "--devices", "cpu", "--allow-commands", "--exit-when-idle"]);
    let mut worker = worker.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    for polls in 0.. {
        let status: serde_json::Value = serde_json::from_str(&user.says(&["status", "--json"])).unwrap();
        if status["sweeps"][0]["running"] == 1 {
            break;
        }
        assert!(polls < 600, "no trial starts: {status}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let said = user.says(&["token", "rotate", "worker", "--overlap", "0s"]);
    assert!(said.contains("worker.toml") && !said.contains("sortie_"), "{said}");
    assert_ne!(old, user.says(&["access", "show", "--role", "worker", "--one-line"]));
    let ended = worker.wait().unwrap();
    let mut log = String::new();
    worker.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(ended.success(), "{log}");
    let status: serde_json::Value = serde_json::from_str(&user.says(&["status", "--json"])).unwrap();
    assert_eq!(status["sweeps"][0]["succeeded"], 3, "{log}");
    let attempts = user.says(&["sql", "SELECT attempts FROM v_trials ORDER BY 1"]);
    assert!(!attempts.contains('2'), "an attempt was lost: {attempts}{log}");
    // Who has the old one only is out.
    let worker = ["worker", "--devices", "cpu", "--allow-commands", "--exit-when-idle"];
    let (code, said) = user.run(&worker, &[("SORTIE_ACCESS", old.trim())]);
    assert!(code == Some(1) && said.contains("has expired"), "{said}");
    // The next coordinator has the new one from the start.
    user.says(&["token", "rotate", "operator", "--overlap", "0s"]);
    user.says(&["status"]);
}

#[test]
fn over_http_a_token_is_asked_for_on_every_path_but_two() {
    let user = User::new();
    let coordinator = user.serve(&["--db", "a.db"]);
    let token = user.says(&["token", "create", "--role", "reader", "--name", "page"]);
    let status = |path: &str, header: &str| {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-quiet", "-alpn", "http/1.1", "-connect"]);
        client.arg(coordinator.url.strip_prefix("https://").unwrap());
        let mut client =
            client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n");
        client.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
        let answer = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let holder = format!("authorization: Bearer {}\r\n", token.trim());
    let wrong = format!("authorization: Bearer {}\r\n", token.trim().replace(['5', 'a'], "7"));
    for (path, header, expected) in [
        ("/healthz", "", "200"),
        ("/readyz", "", "200"),
        ("/", "", "401"),
        ("/metrics", "", "401"),
        ("/", wrong.as_str(), "401"),
        ("/", holder.as_str(), "404"),
        ("/healthz", holder.as_str(), "200"),
    ] {
        assert_eq!(status(path, header), expected, "{path} {header:?}");
    }
}
