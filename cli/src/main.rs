//! `sortie`: the command that users type. It speaks to a coordinator over gRPC, or is one (`sortie serve`).

mod client;
mod commands;
mod discover;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use sortie_proto::endpoint::DEFAULT_COORDINATOR;

/// Sweeps of fine-tuning trials that survive lost machines, and the out-of-domain results tables that come of them.
///
/// Start a coordinator with `sortie serve` and one `sortie-worker run` per machine; submit a sweep file; ask for results.
///
/// Settings come from flags, then from SORTIE_* environment variables. Exit codes: 0 done, 1 refused or failed with one line on
/// stderr, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "sortie", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

/// Where the coordinator is.
#[derive(Debug, clap::Args)]
struct Connection {
    /// The coordinator to talk to.
    #[arg(long, global = true, env = "SORTIE_COORDINATOR", default_value = DEFAULT_COORDINATOR, value_name = "URL")]
    coordinator: String,
    /// Allow connections to and from other machines, although they are neither encrypted nor authenticated yet.
    #[arg(long, global = true)]
    insecure: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the coordinator: the one process that opens the database, hands out trials and answers questions.
    Serve(commands::serve::Arguments),
    /// Say what a sweep file would run, without a coordinator and without storing anything.
    Plan(commands::plan::Arguments),
    /// Store a sweep. Submitting again is resuming; a larger grid adds only the difference.
    Submit(commands::submit::Arguments),
    /// Say how far sweeps are, and how long they will take.
    Status(commands::status::Arguments),
    /// List the trials of a sweep: where each stands, what it runs on, why it failed.
    Trials(commands::trials::Arguments),
    /// Print the results table of a sweep.
    Results(commands::results::Arguments),
    /// Draw the results of a sweep, as SVG or PNG.
    Figure(commands::figure::Arguments),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::anyhow!("cannot start: {error}")),
    };
    let ended = runtime.block_on(run(arguments));
    // A database that is slow to close must not keep the terminal.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ended.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { connection, command } = arguments;
    match command {
        Command::Serve(arguments) => commands::serve::run(&arguments, connection.insecure).await,
        Command::Plan(arguments) => commands::plan::run(&arguments),
        Command::Submit(arguments) => commands::submit::run(&arguments, &connection).await,
        Command::Status(arguments) => commands::status::run(&arguments, &connection).await,
        Command::Trials(arguments) => commands::trials::run(&arguments, &connection).await,
        Command::Results(arguments) => commands::results::run(&arguments, &connection).await,
        Command::Figure(arguments) => commands::figure::run(&arguments, &connection).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "sortie", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// One line on stderr. A reader that closed our output early (`sortie trials x | head`) is no failure.
fn fail(error: &anyhow::Error) -> ExitCode {
    let closed = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<std::io::Error>().is_some_and(closed) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", format!("{error:#}").replace('\n', " "));
    ExitCode::FAILURE
}
