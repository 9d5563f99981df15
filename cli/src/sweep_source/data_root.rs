//! The flag `--data` of commands that read a sweep file.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, value_parser};

const NAME: &str = "data";

/// The folder that holds the datasets' folders, and whether the user typed it for this command.
///
/// A variable or a settings file says where data are on this machine, for whichever sweep; a flag says that this sweep's are there.
#[derive(Clone, Debug, Default)]
pub struct DataRoot {
    /// The folder, if there is one.
    pub folder: Option<PathBuf>,
    /// Whether it comes from the command line.
    pub typed: bool,
}

fn with_flag(command: Command) -> Command {
    let flag =
        Arg::new(NAME).long(NAME).env("SORTIE_DATA").value_name("ROOT").value_parser(value_parser!(PathBuf));
    command.arg(flag.help(
        "Check the folder ROOT/DATASET, and read from it what neither the file nor the built-in catalogue says",
    ))
}

impl clap::Args for DataRoot {
    fn augment_args(command: Command) -> Command {
        with_flag(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        with_flag(command)
    }
}

impl clap::FromArgMatches for DataRoot {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = matches.value_source(NAME) == Some(ValueSource::CommandLine);
        Ok(Self { folder: matches.get_one::<PathBuf>(NAME).cloned(), typed })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
