//! Settings files: `sortie.toml` in the working directory, then the one in the user's configuration folder.
//!
//! What the files say becomes the flag's default, so that flags and variables win over it and `--help` shows it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, Command};
use sortie_core::secret;
use toml::Value;

use super::values::{is_switch, switch};
use crate::{hidden, output};

/// The command that runs as a trial: it depends on nothing of the place where it was started.
pub const TRIAL_PROGRAM: &str = "synthetic";

/// What decides whom a program talks to, and with which rights: only the user's own file may say it. A folder's file may have come with a
/// repository that someone else wrote.
const USERS_OWN: [&str; 3] = ["access", "coordinator", "insecure"];

/// A worker depends on nothing of the folder that it was started in: it reads the user's file only.
const WORKER: &str = "worker";

/// Reads the files that are there and gives the command their values as defaults.
///
/// # Errors
/// One line that names the file and the key.
pub fn with_files(command: Command) -> Result<Command> {
    let folders_file = (!is_worker(&command)).then(|| PathBuf::from("sortie.toml"));
    let mut files = Vec::new();
    let places = [(folders_file, Origin::Folder), (user_file(), Origin::User)];
    for (path, origin) in places.into_iter().filter_map(|(path, origin)| Some((path?, origin))) {
        match std::fs::read_to_string(&path) {
            Ok(text) => files.push(SettingsFile { path: path.display().to_string(), text, origin }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read the settings file {}", path.display()));
            }
        }
    }
    let (command, ignored) = with_defaults(command, &files)?;
    ignored.iter().for_each(|line| output::note(line));
    Ok(command)
}

/// A settings file.
struct SettingsFile {
    path: String,
    text: String,
    origin: Origin,
}

/// Whose file it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It lies in the working directory.
    Folder,
    /// It lies in the user's configuration folder.
    User,
}

fn user_file() -> Option<PathBuf> {
    Some(directories::BaseDirs::new()?.config_dir().join("sortie/sortie.toml"))
}

/// Whether the words of the command line name the worker's command.
fn is_worker(command: &Command) -> bool {
    // A request for help is an error to clap, which names no command.
    let command = command.clone().disable_help_flag(true);
    let command = command.mut_subcommands(|command| command.disable_help_flag(true));
    let matches = command.ignore_errors(true).try_get_matches();
    matches.is_ok_and(|matches| matches.subcommand_name() == Some(WORKER))
}

/// The first file that has a key decides. An empty value decides nothing. Also says in a line each what is ignored.
fn with_defaults(command: Command, files: &[SettingsFile]) -> Result<(Command, Vec<String>)> {
    let known = settings(&command);
    let mut defaults: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut ignored = Vec::new();
    for SettingsFile { path, text, origin } in files {
        let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line =
                text[..error.span().map_or(0, |span| span.start.min(text.len()))].lines().count().max(1);
            anyhow!("{path}, line {line}: {}", error.message())
        })?;
        for (key, value) in table {
            let Some(arg) = known.get(&key) else {
                bail!(
                    "{path}: {} is no setting; allowed: {}",
                    secret::shown(&key),
                    known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                );
            };
            let text = read(arg, &key, &value).with_context(|| {
                format!("{path}: {key} = {} is not allowed", hidden::value(arg, &value.to_string()))
            })?;
            if text.is_some() && *origin == Origin::Folder && USERS_OWN.contains(&key.as_str()) {
                ignored.push(format!(
                    "note: {path}: {key} is ignored: only the settings file of the user may have {}",
                    USERS_OWN.join(", ")
                ));
                continue;
            }
            if let Some(text) = text {
                // Defaults live as long as the program does.
                defaults.entry(key).or_insert_with(|| text.leak());
            }
        }
    }
    Ok((with_default_values(command, &defaults), ignored))
}

/// Also for commands below commands, such as `data cache`.
fn with_default_values(command: Command, defaults: &BTreeMap<String, &'static str>) -> Command {
    let default = |arg: Arg| match arg.get_long().and_then(|long| defaults.get(long)) {
        Some(default) if arg.get_env().is_some() => hidden::with_default(arg, default),
        _ => arg,
    };
    command.mut_args(default).mut_subcommands(|command| with_default_values(command, defaults))
}

/// Flags that have a variable, by their long names. A trial's program has variables of its own, which are no settings.
fn settings(command: &Command) -> BTreeMap<String, Arg> {
    let commands = command.get_subcommands().filter(|command| command.get_name() != TRIAL_PROGRAM);
    let args = commands.flat_map(Command::get_arguments).chain(command.get_arguments());
    let settings = args.filter(|arg| arg.get_env().is_some() && !arg.is_hide_set() && !is_permission(arg));
    settings.filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.clone()))).collect()
}

/// Permission to run programs, and to use keys at some place, is given by whoever starts a worker, never by a file in the folder that it
/// happens to start in.
fn is_permission(arg: &Arg) -> bool {
    matches!(arg.get_long(), Some("allow-commands" | "store-allow"))
}

/// The value as the flag would be given it; refused where the flag would refuse it; none where it is empty.
fn read(arg: &Arg, key: &str, value: &Value) -> Result<Option<String>> {
    let text = match value {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(on) if is_switch(arg) => on.to_string(),
        _ if is_switch(arg) => bail!("allowed: true or false"),
        _ => bail!("allowed: a text or a number"),
    };
    if is_switch(arg) {
        switch(&text).map_err(anyhow::Error::msg)?;
        return Ok(Some(text));
    }
    let alone = Command::new("sortie").no_binary_name(true).arg(arg.clone());
    alone.try_get_matches_from([format!("--{key}={text}")]).map_err(|error| {
        let said = hidden::error(error).to_string();
        let first = said.lines().next().unwrap_or_default();
        anyhow!("{}", first.trim_start_matches("error: "))
    })?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let free = |name: &'static str| Arg::new(name).long(name).env("SORTIE_A_TEST_THAT_NOBODY_SETS");
        let lease = free("lease").value_parser(clap::value_parser!(u64).range(1..)).default_value("10");
        let insecure = Arg::new("insecure")
            .long("insecure")
            .env("SORTIE_A_TEST_THAT_NOBODY_SETS")
            .action(clap::ArgAction::SetTrue);
        let root = Command::new("sortie")
            .arg(free("coordinator").global(true).default_value("built in"))
            .arg(insecure.global(true));
        let root = root.subcommand(Command::new(TRIAL_PROGRAM).arg(free("seconds")));
        crate::settings::read_alike(
            root.subcommand(Command::new("serve").arg(lease).arg(Arg::new("json").long("json"))),
        )
    }

    fn with(files: &[&str]) -> Result<Command> {
        with_defaults(command(), &of(files, Origin::User)).map(|(command, _)| command)
    }

    fn of(files: &[&str], origin: Origin) -> Vec<SettingsFile> {
        let file = |(index, text): (usize, &&str)| SettingsFile {
            path: format!("{index}.toml"),
            text: (*text).to_owned(),
            origin,
        };
        files.iter().enumerate().map(file).collect()
    }

    #[test]
    fn a_folders_file_does_not_say_where_to_connect() {
        let mut files = of(&["lease = 7\ninsecure = true\ncoordinator = \"http://evil\""], Origin::Folder);
        files.extend(of(&["coordinator = \"http://mine\""], Origin::User));
        let (command, ignored) = with_defaults(command(), &files).unwrap();
        let matches = command.clone().try_get_matches_from(["sortie", "serve"]).unwrap();
        let serve = matches.subcommand_matches("serve").unwrap();
        assert_eq!(serve.get_one::<String>("coordinator").unwrap(), "http://mine");
        assert_eq!((serve.get_flag("insecure"), *serve.get_one::<u64>("lease").unwrap()), (false, 7));
        let line = |key: &str| {
            format!(
                "note: 0.toml: {key} is ignored: only the settings file of the user may have access, coordinator, insecure"
            )
        };
        assert_eq!(ignored, [line("coordinator"), line("insecure")]);
        let (_, ignored) = with_defaults(command, &of(&["coordinator = \"\""], Origin::Folder)).unwrap();
        assert!(ignored.is_empty());
    }

    #[test]
    fn flags_win_over_files_and_the_first_file_wins() {
        let command =
            with(&["lease = 7\ninsecure = true", "lease = 8\ncoordinator = \"http://far\""]).unwrap();
        let given = |words: &[&str]| {
            let matches = command.clone().try_get_matches_from([&["sortie"], words].concat()).unwrap();
            let serve = matches.subcommand_matches("serve").unwrap();
            let text = |key: &str| serve.get_one::<String>(key).cloned().unwrap();
            (text("coordinator"), serve.get_flag("insecure"), *serve.get_one::<u64>("lease").unwrap())
        };
        assert_eq!(given(&["serve"]), ("http://far".to_owned(), true, 7));
        assert_eq!(given(&["--coordinator", "x", "serve", "--lease", "9"]), ("x".to_owned(), true, 9));
    }

    #[test]
    fn switches_are_spelled_as_people_do_and_an_empty_value_decides_nothing() {
        let insecure = |text: &str| {
            let matches =
                with(&[text, "insecure = \"no\""]).unwrap().try_get_matches_from(["sortie", "serve"]);
            matches.unwrap().subcommand_matches("serve").unwrap().get_flag("insecure")
        };
        for text in ["insecure = true", "insecure = 1", "insecure = \"yes\"", "insecure = \"On\""] {
            assert!(insecure(text), "{text}");
        }
        for text in ["", "insecure = false", "insecure = 0", "insecure = \"off\"", "insecure = \"\""] {
            assert!(!insecure(text), "{text}");
        }
        let command = with(&["coordinator = \"\"", "coordinator = \"http://far\""]).unwrap();
        let matches = command.try_get_matches_from(["sortie", "serve"]).unwrap();
        assert_eq!(matches.get_one::<String>("coordinator").unwrap(), "http://far");
    }

    #[test]
    fn what_is_wrong_is_one_line_that_names_it() {
        for (text, parts) in [
            ("lease = \"x\"", &["0.toml: lease = \"x\" is not allowed", "invalid"][..]),
            ("lease = 0", &["lease = 0", "1.."]),
            ("lease = [1]", &["lease = [1]", "a text or a number"]),
            ("insecure = 2", &["insecure = 2", "1, true, yes, on"]),
            ("insecure = [1]", &["insecure = [1]", "true or false"]),
            ("seconds = 3", &["seconds is no setting; allowed: coordinator, insecure, lease"]),
            ("json = \"x\"", &["json is no setting; allowed: coordinator, insecure, lease"]),
            ("\n\nlease = ", &["0.toml, line 3"]),
        ] {
            let error = format!("{:#}", with(&[text]).unwrap_err());
            assert!(
                !error.contains('\n') && parts.iter().all(|part| error.contains(part)),
                "{text}: {error}"
            );
        }
    }
}
