//! More than a hundred starts of the real program that fail, each with a password somewhere. None of them prints it, or a piece of it.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use sortie_testkit::programs::isolated;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;

/// A piece of a password that is too short to be found by chance in anything is no secret.
const PIECE: usize = 4;
/// Starts that run at a time. Most of their time they wait.
const AT_A_TIME: usize = 8;
/// Two pieces, which the passwords of the table have around a character.
const LEFT: &str = "qXvJ7wKz";
const RIGHT: &str = "Yh3GkPdW";

/// A start that fails.
struct Start {
    words: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// The file `sortie.toml` of the folder that it starts in.
    settings: String,
    /// What it says.
    says: &'static str,
}

impl Start {
    fn serve(words: &[&str], says: &'static str) -> Self {
        let words = ["serve", "--listen", "127.0.0.1:0", "--stop-on-stdin-close"].iter().chain(words);
        Self::of(&words.copied().collect::<Vec<_>>(), says)
    }

    fn of(words: &[&str], says: &'static str) -> Self {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Self { words, variables: Vec::new(), settings: String::new(), says }
    }

    fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.push((variable, value.to_owned()));
        self
    }

    fn with_settings(mut self, settings: String) -> Self {
        self.settings = settings;
        self
    }

    /// Runs it; everything that it prints.
    fn output(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sortie.toml"), &self.settings).unwrap();
        let mut command = isolated(env!("CARGO_BIN_EXE_sortie"));
        command.env_clear().env("HOME", folder.path()).env("XDG_CONFIG_HOME", folder.path().join("config"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output =
            command.args(&self.words).current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
        let (printed, said) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let help = self.words.iter().any(|word| word.contains("help"));
        assert_eq!(output.status.success(), help, "{:?}: {printed}{said}", self.words);
        assert!(!said.contains("panicked"), "{:?}: {said}", self.words);
        // A password is hidden from other users' eyes, but a file of its name is not.
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        format!("{printed}{said}{left:?}")
    }
}

/// The URLs that are wrong, with what is said about them. A password with that character between its pieces; its place in the URL.
fn wrong_urls() -> Vec<(String, &'static str)> {
    let mut urls = Vec::new();
    for (c, says) in [
        ("#", "'#' in the password must be written %23"),
        ("/", "'/' in the password must be written %2F"),
        ("@", "'@' in the password must be written %40"),
        ("?", "'?' in the password must be written %3F"),
        ("%", "'%' in the password must be written %25"),
        ("[", "'[' in the password must be written %5B"),
        (" ", "must be written %20"),
        ("\t", "must be written %09"),
        ("\n", "must be written %0A"),
        ("@/", "'/' and '@' in the password must be written %2F and %40"),
        ("#?", "'?' and '#' in the password must be written %3F and %23"),
        ("&", "no server answers"),
        (":", "no server answers"),
        ("+", "no server answers"),
        ("\\", "no server answers"),
        ("\"", "no server answers"),
        ("$", "no server answers"),
        ("=", "no server answers"),
        ("%23", "no server answers"),
        ("%2F", "no server answers"),
        ("%40", "no server answers"),
        ("\u{fc}", "no server answers"),
        ("%FF", "with all but letters and digits written as %XX"),
    ] {
        let password = format!("{LEFT}{c}{RIGHT}");
        urls.push((format!("postgres://me:{password}@127.0.0.1:1/db?connect_timeout=1"), says));
    }
    let password = format!("{LEFT}{RIGHT}");
    for (url, says) in [
        ("postgres://me:PW@127.0.0.1:port/db", "the port is not a number"),
        ("postgres://me:PW@127.0.0.1:70000/db", "the port is not a number"),
        ("postgres://me:PW/db", "the port is not a number"),
        ("postgres://me:PW", "the port is not a number"),
        ("postgres://me:PW@ho{st/db", "the host is not a name"),
        ("postgres://me:PW@a,b/db", "several hosts"),
        ("postgres://me:PW@[::1/db", "postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("postgres://:PW@127.0.0.1:1/db?connect_timeout=1", "no server answers"),
        ("postgresql://me:PW@127.0.0.1:1/db?connect_timeout=1", "no server answers"),
        ("POSTGRES://me:PW@127.0.0.1:1/db?connect_timeout=1", "no server answers"),
        ("postgres://127.0.0.1:1/db?user=me&password=PW&connect_timeout=1", "no server answers"),
        ("postgres://127.0.0.1:1/db?pasword=PW", "parameter 1 is unknown"),
        ("postgres://127.0.0.1:1/db?sslpassword=PW", "sslpassword is not supported"),
        ("postgres://127.0.0.1:1/db?password=PW&PW", "parameter 2 is unknown"),
        ("postgres://127.0.0.1:1/db?password=PW+PW", "'+' in the password must be written %2B"),
        ("postgres://127.0.0.1:1/db?password=PW#PW", "'#' must be written %23"),
        ("postgres://127.0.0.1:1/db?password=PW&sslmode=PW", "sslmode is not right"),
        ("postgres:/me:PW@127.0.0.1/db", "two slashes"),
        ("postgres:me:PW@127.0.0.1/db", "two slashes"),
        ("postgres//me:PW@127.0.0.1/db", "does not begin with postgres://"),
        ("me:PW@127.0.0.1/db", "does not begin with postgres://"),
        ("//me:PW@127.0.0.1/db", "does not begin with postgres://"),
        ("'postgres://me:PW@127.0.0.1/db'", "use sqlite://PATH or postgres://"),
        ("mysql://me:PW@127.0.0.1/db", "mysql:// is not supported"),
        ("jdbc:postgresql://127.0.0.1/db?user=me&password=PW", "use sqlite://PATH or postgres://"),
        ("sqlite://me:PW@127.0.0.1/db", "does not begin with postgres://"),
        ("sqlite://a.db?password=PW", "use sqlite://PATH"),
        ("host=127.0.0.1 user=me password=PW", "libpq's form"),
        ("user = me password = 'PW PW' host = 127.0.0.1", "libpq's form"),
        ("password=PW", "libpq's form"),
    ] {
        urls.push((url.replace("PW", &password), says));
    }
    urls
}

/// Wrong URLs by every way in which one can be given.
fn of_databases() -> Vec<Start> {
    let mut starts = Vec::new();
    for (index, (url, says)) in wrong_urls().into_iter().enumerate() {
        let log = ["trace", "debug", "sqlx=trace,info", "warn"][index % 4];
        starts.push(Start::serve(&["--db", &url], says).with("SORTIE_LOG", log));
        let by_variable = Start::serve(&["--log-format", "json"], says).with("SORTIE_DB", &url);
        starts.push(by_variable.with("SORTIE_LOG", "trace"));
        let settings = format!("db = {}\n", toml_text(&url));
        starts.push(Start::serve(&[], says).with_settings(settings));
    }
    starts
}

fn toml_text(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
    format!("\"{escaped}\"")
}

/// Files of settings that cannot be read, with a URL in them.
fn of_settings_files(url: &str) -> Vec<Start> {
    let texts = [
        "db = URL",
        "db = \"URL",
        "db = 'URL' x",
        "db = \"URL\"\ndb = \"URL\"",
        "db = [\"URL\"]",
        "db = { url = \"URL\" }",
        "lease = \"URL\"",
        "listen = \"URL\"",
        "\"URL\" = 1",
        "URL = 1",
        "database = \"URL\"",
    ];
    let start = |text: &str| Start::serve(&[], "sortie.toml").with_settings(text.replace("URL", url));
    texts.map(start).into()
}

/// Passwords in wrong places, other URLs, files that cannot be read, variables of other programs.
fn of_other_kinds(folder: &Path, refusing: &str) -> Vec<Start> {
    let secret = format!("{LEFT}{RIGHT}");
    let url = format!("postgres://me:{secret}@127.0.0.1:1/db?connect_timeout=1");
    let url = url.as_str();
    let login = format!("me:{secret}@127.0.0.1:1");
    let pgpass = folder.join("pgpass");
    std::fs::write(&pgpass, format!("127.0.0.1:1:{secret}\n127.0.0.1:1:*:me:{secret}\n")).unwrap();
    std::fs::set_permissions(&pgpass, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let bare = "postgres://me@127.0.0.1:1/db?connect_timeout=1";
    let mut starts = of_settings_files(url);
    starts.extend([
        Start::serve(&[url], "not shown"),
        Start::serve(&["--db"], "a value is required").with("SORTIE_DB", url),
        Start::serve(&[&format!("--database={url}")], "unexpected argument"),
        Start::serve(&["--lease", url], "not shown"),
        Start::of(&["serve", "--stop-on-stdin-close", "--listen", url], "not shown"),
        Start::serve(&["--log-format", url], "not shown"),
        Start::serve(&["--db", "a", "--db", url], "cannot be used multiple times"),
        Start::serve(&[], "not shown").with("SORTIE_LEASE", url),
        Start::of(&["serve", "--stop-on-stdin-close"], "not shown").with("SORTIE_LISTEN", url),
        Start::serve(&["--help"], "The database").with("SORTIE_DB", url).with("SORTIE_LEASE", url),
        Start::serve(&["--help"], "The database").with_settings(format!("db = \"{url}\"\n")),
        Start::of(&["run", "--help"], "The database").with("SORTIE_DB", url),
        Start::of(&["help", "serve"], "The database").with("SORTIE_DB", url),
        Start::of(&[url], "not shown"),
        Start::of(&["serv", url], "unrecognized subcommand"),
        Start::serve(&["--nonsense"], "unexpected argument").with("SORTIE_DB", url),
        Start::serve(&["--db", url], "SORTIE_LOG cannot be read").with("SORTIE_LOG", &format!("a=={url}")),
        Start::serve(&["--db", bare], "no server answers").with("PGPASSWORD", &secret),
        Start::serve(&["--db", bare], "PGSSLMODE is not right").with("PGSSLMODE", &secret),
        Start::serve(&["--db", bare], "no server answers").with("PGPASSFILE", pgpass.to_str().unwrap()),
        Start::serve(&["--db", bare], "no server answers")
            .with("PGPASSFILE", pgpass.to_str().unwrap())
            .with("SORTIE_LOG", "sqlx_postgres::options::pgpass=trace"),
        Start::serve(
            &["--db", &format!("postgres://me:{secret}@{refusing}/db?connect_timeout=1")],
            "no such account",
        )
        .with("SORTIE_LOG", "trace"),
    ]);
    for scheme in ["http", "https", "ftp"] {
        for command in
            [&["status"][..], &["worker", "--devices", "cpu"], &["export", "s", "--format", "csv", "-o", "x"]]
        {
            let url = format!("{scheme}://{login}");
            let words = [command, &["--coordinator", &url]].concat();
            starts.push(Start::of(&words, "the coordinator's URL has a user").with("SORTIE_LOG", "trace"));
        }
    }
    for store in [
        "s3://KEY@bucket/x",
        "s3://bucket/x?secret=KEY",
        "https://KEY@127.0.0.1:1/x",
        "s3:KEY@bucket",
        "KEY@host",
    ] {
        let key = format!("{LEFT}:{RIGHT}");
        let words = ["--db", "a.db", "--store", &store.replace("KEY", &key)];
        starts.push(Start::serve(&words, "s3://BUCKET/PREFIX").with("SORTIE_LOG", "trace"));
    }
    starts.push(
        Start::serve(&["--db", "a.db", "--store", "s3://bucket/x"], "AWS_ENDPOINT")
            .with("AWS_ENDPOINT", &format!("http://{login}"))
            .with("AWS_SECRET_ACCESS_KEY", &secret),
    );
    starts.push(Start::of(&["run", "missing.toml", "--db", url], "missing.toml"));
    starts.push(Start::of(&["run", "missing.toml", "--db", &format!("{url}#")], "missing.toml"));
    starts
}

/// A server that refuses everybody, as Postgres does; its address.
fn refusing_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            // The first request is for TLS.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"N");
            let _ = stream.read(&mut request);
            let fields = b"SFATAL\0VFATAL\0C28000\0Mno such account\0\0";
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&b"E"[..], &length, fields].concat());
        }
    });
    address
}

#[test]
fn nothing_that_fails_prints_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let mut starts = of_databases();
    starts.extend(of_other_kinds(folder.path(), &refusing_server()));
    assert!(starts.len() > 100, "{}", starts.len());
    let pieces: Vec<&str> = [LEFT, RIGHT]
        .iter()
        .flat_map(|half| (0..=half.len() - PIECE).map(|from| &half[from..from + PIECE]))
        .collect();
    let failures = Mutex::new(Vec::new());
    let queue = Mutex::new(starts.iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(start) = queue.lock().unwrap().next() else { break };
                    let output = start.output();
                    let shown: Vec<&&str> = pieces.iter().filter(|piece| output.contains(**piece)).collect();
                    if !shown.is_empty() || !output.contains(start.says) {
                        let (words, says) = (&start.words, start.says);
                        let failure =
                            format!("{words:?} shows {shown:?}, or does not say {says:?}: {output}");
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), starts.len(), failures.join("\n"));
}
