//! The values of settings, wherever they come from: switches, paths, and variables that are empty.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::{OsStr as ClapStr, OsStringValueParser, Resettable, TypedValueParser as _, ValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};

use crate::home;

/// The command, whose switches accept the usual words and whose paths may begin with `~`.
pub fn read_alike(command: Command) -> Command {
    let with_parser = |arg: Arg| {
        if is_switch(&arg) {
            arg.value_parser(switch)
        } else if is_path(&arg) {
            arg.value_parser(ValueParser::new(OsStringValueParser::new().try_map(path)))
        } else {
            arg
        }
    };
    command.mut_args(with_parser).mut_subcommands(read_alike)
}

/// The command, for which variables that are empty are not set.
pub fn without_empty_variables(command: Command) -> Command {
    let without = |arg: Arg| {
        let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { arg.env(Resettable::<ClapStr>::Reset) } else { arg }
    };
    command.mut_args(without).mut_subcommands(without_empty_variables)
}

/// A path that only a variable gives; none if it is empty.
///
/// # Errors
/// One line: the path begins with the `~` of another user.
pub fn variable(name: &str) -> anyhow::Result<Option<PathBuf>> {
    let given = std::env::var_os(name).filter(|value| !value.is_empty());
    let expanded = given.map(|value| home::expand(Path::new(&value))).transpose();
    expanded.map_err(|reason| anyhow::anyhow!("{name} is not allowed: {reason}"))
}

/// The error, which names the variable that holds the value.
pub fn name_variable(mut error: clap::Error, command: &Command) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (Some(shown), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) else {
        return error;
    };
    let flag = shown.split(' ').next().unwrap_or_default();
    let typed = |word: OsString| {
        word.to_str().is_some_and(|word| word.split_once('=').map_or(word, |(flag, _)| flag) == flag)
    };
    let variable = variable_of(command, flag.trim_start_matches('-'));
    let holds = |name: &OsString| std::env::var_os(name).is_some_and(|held| held == OsStr::new(&value));
    if let Some(variable) = variable.filter(holds)
        && !std::env::args_os().any(typed)
    {
        let named = format!("{shown}, set by {}", variable.to_string_lossy());
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

fn variable_of(command: &Command, long: &str) -> Option<OsString> {
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(long));
    let own = own.and_then(|arg| arg.get_env().map(OsStr::to_owned));
    own.or_else(|| command.get_subcommands().find_map(|command| variable_of(command, long)))
}

/// Whether a flag is a setting that is on or off.
pub(super) fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue) && arg.get_env().is_some()
}

fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<PathBuf>()
}

/// Whether a setting is on.
pub(super) fn switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("allowed: 1, true, yes, on, 0, false, no, off"),
    }
}

fn path(text: OsString) -> Result<PathBuf, &'static str> {
    if text.is_empty() {
        return Err("a path is missing");
    }
    home::expand(Path::new(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_and_paths_are_read_as_people_spell_them() {
        let command = || {
            let switch = Arg::new("switch").long("switch").env("NOBODY_SETS_IT").action(ArgAction::SetTrue);
            let place = Arg::new("place").long("place").value_parser(clap::value_parser!(PathBuf));
            read_alike(Command::new("sortie").subcommand(Command::new("serve").arg(switch).arg(place)))
        };
        let read = |words: &[&str]| {
            let matches = command().try_get_matches_from([&["sortie", "serve"], words].concat())?;
            let serve = matches.subcommand_matches("serve").unwrap();
            Ok::<_, clap::Error>((serve.get_flag("switch"), serve.get_one::<PathBuf>("place").cloned()))
        };
        let home = directories::BaseDirs::new().unwrap().home_dir().to_owned();
        assert_eq!(read(&["--switch", "--place", "~/a"]).unwrap(), (true, Some(home.join("a"))));
        assert_eq!(read(&["--place", "b"]).unwrap(), (false, Some("b".into())));
        for (place, said) in [("", "a path is missing"), ("~me/a", "write the whole path")] {
            let error = read(&["--place", place]).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        for (on, words) in [(true, "1 true YES On"), (false, "0 False no OFF")] {
            assert!(words.split(' ').all(|word| switch(word) == Ok(on)));
        }
        assert!(["", "2", "yess", " 1"].iter().all(|word| switch(word).is_err()));
    }
}
