//! Settings that may hold a password. Their type decides that no help text, no message and no log shows them.

use std::any::TypeId;
use std::fmt;
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use sortie_core::secret::{self, NOT_SHOWN, may_hold_password};

use crate::home;

/// What a user gave for a setting that may hold a password, such as the URL of a database. Whoever reads it keeps it in a type that does not
/// show it either.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// A text that the program has made.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, which must not be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hidden {
    type Err = &'static str;

    /// The text; the path of a file may begin with `~`.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        home::expand_text(text).map(Self)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(NOT_SHOWN)
    }
}

/// Whether a flag is such a setting.
fn is_hidden(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<Hidden>()
}

/// The command, whose help shows no variable that may hold a password.
pub fn protect(command: Command) -> Command {
    let protect_arg = |arg: Arg| {
        let variable = arg.get_env().and_then(std::env::var_os);
        let holds_one = variable.is_some_and(|value| may_hold_password(&value.to_string_lossy()));
        let hide = is_hidden(&arg) || holds_one;
        if hide { arg.hide_env_values(true) } else { arg }
    };
    command.mut_args(protect_arg).mut_subcommands(protect)
}

/// The flag with a default that a settings file gives it. The help shows it, unless it may hold a password.
pub fn with_default(arg: Arg, default: &'static str) -> Arg {
    let hide = may_hold_password(default);
    arg.default_value(default).hide_default_value(hide)
}

/// A value of a flag as a message may show it.
pub fn value<'a>(arg: &Arg, value: &'a str) -> &'a str {
    if is_hidden(arg) { NOT_SHOWN } else { secret::shown(value) }
}

/// The same error, without what may hold a password: a flag's value may stand where none is expected.
pub fn error(mut error: clap::Error) -> clap::Error {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) || !may_hold(&error) {
        return error;
    }
    let parts: Vec<ContextKind> = error
        .context()
        .filter(|(_, value)| may_hold_password(&value.to_string()))
        .map(|(part, _)| part)
        .collect();
    for part in parts {
        error.insert(part, ContextValue::String(NOT_SHOWN.to_owned()));
    }
    // Advice repeats what it is about.
    error.remove(ContextKind::Suggested);
    if may_hold(&error) {
        clap::Error::raw(kind, format!("wrong usage; what is wrong is {NOT_SHOWN}\n"))
    } else {
        error
    }
}

/// Whether the error's text may hold a password, apart from what this file writes in place of one.
fn may_hold(error: &clap::Error) -> bool {
    may_hold_password(&error.to_string().replace(NOT_SHOWN, ""))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    const SECRET: &str = "postgres://me:visible@host/db";

    /// The flags of a command and of those below it.
    fn flags(command: &Command) -> Vec<Arg> {
        let below = command.get_subcommands().flat_map(flags);
        command.get_arguments().cloned().chain(below).collect()
    }

    #[test]
    fn whatever_is_a_url_has_the_type_that_hides_it() {
        let is_url = |arg: &Arg| {
            let names = arg.get_value_names().unwrap_or_default();
            names.iter().any(|name| name.contains("URL") || name.contains("://"))
        };
        let mut urls: Vec<Arg> = flags(&crate::Arguments::command()).into_iter().filter(is_url).collect();
        urls.sort_by_key(|arg| arg.get_long().map(str::to_owned));
        urls.dedup_by_key(|arg| arg.get_long().map(str::to_owned));
        let names: Vec<_> = urls.iter().filter_map(Arg::get_long).collect();
        assert_eq!(names, ["coordinator", "db", "from", "store"]);
        assert!(urls.iter().all(is_hidden));
        assert!(!format!("{:?}", Hidden::new(SECRET.to_owned())).contains("visible"));
    }

    #[test]
    fn errors_do_not_show_what_stands_in_a_wrong_place() {
        for words in [
            &["sortie", "serve", SECRET][..],
            &["sortie", SECRET],
            &["sortie", "serve", "--database=postgres://me:visible@host/db"],
            &["sortie", "serve", "--lease", SECRET],
            &["sortie", "serve", "--lease=host=h password=visible"],
            &["sortie", "serve", "--log-format", SECRET],
            &["sortie", "trials", "s", "--where", SECRET],
            &["sortie", "serve", "--insecure=postgres://me:visible@host/db"],
            &["sortie", "serve", "--db", "a", "--db", SECRET],
        ] {
            let shown =
                error(crate::Arguments::command().try_get_matches_from(words).unwrap_err()).to_string();
            assert!(!shown.contains("visible") && shown.starts_with("error: "), "{words:?}: {shown}");
        }
        let plain = crate::Arguments::command().try_get_matches_from(["sortie", "serve", "--lease", "x"]);
        assert!(error(plain.unwrap_err()).to_string().contains("invalid value 'x' for '--lease <SECONDS>'"));
    }

    #[test]
    fn help_does_not_show_a_default_with_a_password() {
        let arg = || Arg::new("db").long("db").value_parser(clap::value_parser!(Hidden));
        let help = |default| Command::new("x").arg(with_default(arg(), default)).render_help().to_string();
        assert!(help("sortie.db").contains("[default: sortie.db]"));
        assert!(!help(SECRET).contains("visible"));
        assert_eq!(value(&arg(), "plain"), NOT_SHOWN);
        assert_eq!(value(&Arg::new("lease"), "plain"), "plain");
    }
}
