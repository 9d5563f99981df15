//! Finds out what a command runs, before it starts: git's commit, the digests of the files that it names, the interpreter's version.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sortie_core::code::{Code, FILES_MAX};
use tokio::process::Command;
use tokio::time::timeout;

/// How long git or an interpreter may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Files that are longer are no source files.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Bytes of a version or a path that are reported.
const TEXT_BYTES_MAX: usize = 200;
/// Programs that are asked for their version.
const INTERPRETERS: [&str; 4] = ["python", "R", "Rscript", "julia"];

/// What a command runs in this folder. `words` are those of the sweep file, with placeholders.
pub(crate) async fn find(words: &[String], folder: &Path) -> Code {
    let git = |words: &'static [&'static str]| {
        let mut git = Command::new("git");
        // No question, no lock that would disturb a user, no program of the repository's settings.
        git.args(["-c", "core.fsmonitor=false"]).args(words).current_dir(folder);
        git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        answer(git)
    };
    let commit = git(&["rev-parse", "--verify", "HEAD"]).await;
    let commit = commit.map(|text| text.trim().to_owned()).filter(|commit| is_commit(commit));
    let clean = match commit {
        Some(_) => git(&["status", "--porcelain", "--untracked-files=no"]).await,
        None => None,
    };
    let program = words.first().and_then(|word| resolved(word, folder));
    let version = match &program {
        Some(program) if is_interpreter(program) => version(program).await,
        _ => None,
    };
    Code {
        commit,
        clean: clean.map(|changes| changes.trim().is_empty()),
        files: files(words, folder),
        program: program.map(|program| shortened(&program.display().to_string())),
        version,
        build: None,
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a program prints, if it succeeds in time.
async fn answer(mut program: Command) -> Option<String> {
    program.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(ANSWER_LIMIT, program.output()).await.ok()?.ok()?;
    let printed = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    output.status.success().then(|| String::from_utf8_lossy(&printed).into_owned())
}

async fn version(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("--version");
    let printed = answer(command).await?;
    let line = printed.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(shortened(line))
}

fn is_interpreter(program: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    INTERPRETERS.iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    })
}

/// The program that a word means: a path, or a name in PATH.
fn resolved(word: &str, folder: &Path) -> Option<PathBuf> {
    if word.contains(['{', '}']) {
        return None;
    }
    if word.contains('/') {
        return Some(folder.join(word)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(word)).find(|path| path.is_file())
}

/// The digests of the ordinary files that the words name, which are the same for all trials: none of them has a placeholder. The program
/// itself counts if it lies below the folder.
fn files(words: &[String], folder: &Path) -> std::collections::BTreeMap<String, String> {
    let own = |index: usize, word: &str| index > 0 || word.contains('/') && Path::new(word).is_relative();
    let named = words.iter().enumerate().filter(|(index, word)| {
        !word.is_empty() && word.len() <= TEXT_BYTES_MAX && !word.contains(['{', '}']) && own(*index, word)
    });
    let digests = named.filter_map(|(_, word)| Some((word.clone(), digest(&folder.join(word))?)));
    digests.filter(|(word, _)| !word.contains(char::is_control)).take(FILES_MAX).collect()
}

fn digest(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return None;
    }
    let mut content = Vec::new();
    fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut content).ok()?;
    Some(blake3::hash(&content).to_hex().to_string())
}

fn shortened(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    plain[..plain.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn git(folder: &Path, words: &[&str]) -> bool {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]).args(words);
        git.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        git.status().is_ok_and(|status| status.success())
    }

    #[tokio::test]
    async fn a_changed_file_is_other_code() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("train.py");
        fs::write(&script, "one").unwrap();
        fs::write(folder.path().join("3"), "a number that a trial has").unwrap();
        let command = words(&["sh", "train.py", "--seed={seed}", "{seed}", "gone", ""]);
        let first = find(&command, folder.path()).await;
        assert_eq!(first.files.keys().collect::<Vec<_>>(), ["train.py"]);
        assert_eq!(first.files["train.py"], blake3::hash(b"one").to_hex().as_str());
        assert!(first.program.as_ref().is_some_and(|program| program.ends_with("/sh")), "{first:?}");
        fs::write(&script, "two").unwrap();
        assert_ne!(find(&command, folder.path()).await.name(), first.name());
        if !git(folder.path(), &["init", "-q"]) {
            println!("skipped: needs git");
            return;
        }
        assert_eq!(find(&command, folder.path()).await.commit, None, "there is no commit yet");
        assert!(git(folder.path(), &["add", "train.py"]) && git(folder.path(), &["commit", "-qm", "x"]));
        let clean = find(&command, folder.path()).await;
        assert_eq!((clean.clean, clean.commit.as_ref().map(String::len)), (Some(true), Some(40)));
        fs::write(&script, "three").unwrap();
        let changed = find(&command, folder.path()).await;
        assert_eq!((&changed.commit, changed.clean), (&clean.commit, Some(false)));
        assert_ne!(changed.name(), clean.name());
    }

    #[tokio::test]
    async fn an_interpreter_says_its_version() {
        for (name, is) in [
            ("python3", true),
            ("python3.12", true),
            ("R", true),
            ("Rscript", true),
            ("julia", true),
            ("Ruby", false),
            ("pythonista", false),
        ] {
            assert_eq!(is_interpreter(&Path::new("/usr/bin").join(name)), is, "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let code = find(&words(&["python3", "-c", "pass"]), folder.path()).await;
        match code.program {
            Some(_) => assert!(code.version.is_some_and(|version| version.starts_with("Python 3"))),
            None => println!("skipped: needs python3"),
        }
    }
}
