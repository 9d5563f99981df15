//! `sortie`: the command that users type. It calls a coordinator over gRPC, or is one (`sortie serve`).

mod attempts;
mod commands;
mod conditions;
mod connection;
mod deadline;
mod folders;
mod fonts;
mod hidden;
mod home;
mod identity;
mod logging;
mod losses;
mod machine;
mod measured;
mod output;
#[cfg(test)]
mod reference;
mod rows;
mod settings;
mod storage;
mod sweep_source;
mod sweeps;
mod trainer;
mod watching;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use sortie_coordinator::store::{QUERY_WORD, run_query};

use connection::Connection;

/// A coordinator handles many small messages: glibc's allocation and copying of memory showed high in its profile.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sweeps of fine-tuning trials that survive lost machines, and their tables of out-of-domain results.
///
/// Start a coordinator with `sortie serve` and one `sortie worker` per machine; submit a sweep file; ask for results.
///
/// Settings come from flags, then from SORTIE_* environment variables, then from `sortie.toml` in the working directory (but for
/// `sortie worker`), then from `sortie/sortie.toml` in the XDG configuration folder (~/.config). Flags that have a variable can stand in
/// the files, such as `coordinator = "https://head:7070"`, except --allow-commands and --store-allow; access, coordinator and insecure only
/// in the latter, for a folder's file may have come with a repository. Switches are 1, true, yes, on or 0, false, no, off; an empty value
/// is not set; `~` is the home folder. Exit codes: 0 done, 1 refused or failed with one line on stderr, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "sortie", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

/// The commands. They are described beside their flags.
#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<commands::run::Arguments>),
    Serve(commands::serve::Arguments),
    Worker(Box<commands::worker::Arguments>),
    Plan(commands::plan::Arguments),
    Presets(commands::presets::Arguments),
    Submit(commands::submit::Arguments),
    Status(commands::status::Arguments),
    Wait(commands::wait::Arguments),
    /// Start no more trials of a sweep; those that run go on.
    Pause(commands::control::SweepArguments),
    /// Go on with a paused sweep, or with a cancelled one and all its cancelled trials.
    Resume(commands::control::SweepArguments),
    /// Cancel a sweep, or some of its trials. Trials that succeeded keep their results. `resume` undoes it for a whole sweep; `retry` runs
    /// cancelled trials after all.
    Cancel(commands::control::CancelArguments),
    /// Run trials again that failed, diverged or were cancelled. Their earlier attempts stay on record.
    Retry(commands::control::RetryArguments),
    /// Set which sweeps are served first.
    Priority(commands::control::PriorityArguments),
    /// Give a sweep another name. A file with the old name is a new sweep then.
    Rename(commands::control::RenameArguments),
    /// Put a sweep away: lists leave it out and no trial starts any more. Its results stay, under its name.
    Archive(commands::control::ArchiveArguments),
    Delete(commands::delete::Arguments),
    Trials(commands::trials::Arguments),
    Explain(commands::explain::Arguments),
    Logs(commands::logs::Arguments),
    Artifacts(commands::artifacts::Arguments),
    Verify(commands::verify::Arguments),
    Workers(commands::workers::Arguments),
    Pin(commands::pin::PinArguments),
    Unpin(commands::pin::UnpinArguments),
    Results(commands::results::Arguments),
    Figure(commands::figure::Arguments),
    Curves(commands::curves::Arguments),
    Diff(commands::diff::Arguments),
    Report(commands::report::Arguments),
    Extend(commands::extend::Arguments),
    Sql(commands::sql::Arguments),
    Export(commands::export::Arguments),
    Import(commands::import::Arguments),
    Backup(commands::backup::Arguments),
    Restore(commands::restore::Arguments),
    #[command(subcommand)]
    Access(commands::access::Command),
    #[command(subcommand)]
    Token(commands::token::Command),
    Audit(commands::audit::Arguments),
    #[command(subcommand)]
    Data(commands::data::Command),
    Weights(commands::weights::Arguments),
    Evaluate(Box<commands::evaluate::Arguments>),
    #[command(subcommand)]
    Bench(commands::bench::Command),
    Synthetic(commands::synthetic::Arguments),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The hidden command that runs a trial's command below this process (docs/commands.md).
const GUARD: &str = "guard";

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == GUARD => return sortie_worker::guard::run(words),
        Some(word) if word == QUERY_WORD => return run_query(words),
        _ => {}
    }
    let Arguments { connection, command } = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error),
    };
    if let Some(ended) = run_alone(&command) {
        return ended.unwrap_or_else(|error| fail(&error));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::anyhow!("cannot start: {error}")),
    };
    let ended = runtime.block_on(execute(command, &connection));
    // A database that is slow to close must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ended.unwrap_or_else(|error| fail(&error))
}

/// Commands that need no runtime: a trial's program, which starts often, and those that another program replaces.
fn run_alone(command: &Command) -> Option<anyhow::Result<ExitCode>> {
    let done = |ended: anyhow::Result<()>| Some(ended.map(|()| ExitCode::SUCCESS));
    match command {
        Command::Synthetic(arguments) => Some(commands::synthetic::run(arguments)),
        Command::Data(command) => Some(commands::data::run(command)),
        Command::Access(command) => done(commands::access::run(command)),
        Command::Weights(arguments) => done(commands::weights::run(arguments)),
        Command::Evaluate(arguments) => done(commands::evaluate::run(arguments)),
        Command::Bench(command) => done(commands::bench::run(command)),
        _ => None,
    }
}

/// The arguments from flags, variables and settings files. An invalid settings file stops neither help nor a trial's program, which may
/// start in any folder.
fn arguments() -> anyhow::Result<Arguments> {
    let mut command = settings::read_alike(hidden::protect(Arguments::command()));
    if std::env::args_os().nth(1).is_none_or(|word| word != settings::TRIAL_PROGRAM) {
        command = settings::with_files(command.clone()).inspect_err(|_| drop(parse(command)))?;
    }
    Ok(parse(command))
}

/// The arguments; help and wrong usage end the process.
fn parse(command: clap::Command) -> Arguments {
    let command = settings::without_empty_variables(command);
    let read = command.clone().try_get_matches();
    let read = read.and_then(|matches| Arguments::from_arg_matches(&matches));
    read.unwrap_or_else(|error| settings::name_variable(hidden::error(error), &command).exit())
}

async fn execute(command: Command, connection: &Connection) -> anyhow::Result<ExitCode> {
    use commands::{
        artifacts, audit, backup, control, curves, delete, diff, explain, export, extend, figure, import,
        logs, pin, plan, presets, report, restore, results, run, serve, sql, status, submit, token, trials,
        verify, wait, worker, workers,
    };
    match command {
        Command::Run(arguments) => return run::run(&arguments, connection).await,
        Command::Serve(arguments) => serve::run(&arguments, connection.insecure).await,
        Command::Worker(arguments) => return worker::run(&arguments, connection).await,
        Command::Plan(arguments) => plan::run(&arguments, connection).await,
        Command::Presets(arguments) => presets::run(&arguments),
        Command::Submit(arguments) => submit::run(&arguments, connection).await,
        Command::Status(arguments) => status::run(&arguments, connection).await,
        Command::Wait(arguments) => wait::run(&arguments, connection).await,
        Command::Pause(arguments) => control::pause(&arguments, connection).await,
        Command::Resume(arguments) => control::resume(&arguments, connection).await,
        Command::Cancel(arguments) => control::cancel(&arguments, connection).await,
        Command::Retry(arguments) => control::retry(&arguments, connection).await,
        Command::Priority(arguments) => control::priority(&arguments, connection).await,
        Command::Rename(arguments) => control::rename(&arguments, connection).await,
        Command::Archive(arguments) => control::archive(&arguments, connection).await,
        Command::Delete(arguments) => delete::run(&arguments, connection).await,
        Command::Trials(arguments) => trials::run(&arguments, connection).await,
        Command::Explain(arguments) => explain::run(&arguments, connection).await,
        Command::Logs(arguments) => logs::run(&arguments, connection).await,
        Command::Artifacts(arguments) => artifacts::run(&arguments, connection).await,
        Command::Verify(arguments) => return verify::run(&arguments, connection).await,
        Command::Workers(arguments) => workers::run(&arguments, connection).await,
        Command::Pin(arguments) => pin::pin(&arguments, connection).await,
        Command::Unpin(arguments) => pin::unpin(&arguments, connection).await,
        Command::Results(arguments) => results::run(&arguments, connection).await,
        Command::Figure(arguments) => figure::run(&arguments, connection).await,
        Command::Curves(arguments) => curves::run(&arguments, connection).await,
        Command::Diff(arguments) => diff::run(&arguments, connection).await,
        Command::Report(arguments) => report::run(&arguments, connection).await,
        Command::Extend(arguments) => extend::run(&arguments, connection).await,
        Command::Sql(arguments) => sql::run(&arguments, connection).await,
        Command::Export(arguments) => export::run(&arguments, connection).await,
        Command::Import(arguments) => import::run(&arguments, connection).await,
        Command::Backup(arguments) => backup::run(&arguments, connection).await,
        Command::Restore(arguments) => restore::run(&arguments).await,
        Command::Token(command) => token::run(&command, connection).await,
        Command::Audit(arguments) => audit::run(&arguments, connection).await,
        Command::Synthetic(_)
        | Command::Data(_)
        | Command::Access(_)
        | Command::Weights(_)
        | Command::Evaluate(_)
        | Command::Bench(_) => {
            unreachable!("run without a runtime by `run_alone`")
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "sortie", &mut std::io::stdout());
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// One line on stderr. A reader that closed our output early (`sortie trials x | head`) is no failure.
fn fail(error: &anyhow::Error) -> ExitCode {
    let closed = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<std::io::Error>().is_some_and(closed) {
        return ExitCode::SUCCESS;
    }
    output::note(&format!("error: {}", format!("{error:#}").replace('\n', " ")));
    ExitCode::FAILURE
}
