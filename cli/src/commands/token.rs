//! `sortie token`: who may use a coordinator.

use std::time::Duration;

use anyhow::Result;
use jiff::{Span, SpanRelativeTo};
use sortie_access::{AccessFile, Token};
use sortie_analysis::TokenList;
use sortie_core::access::Role;

use crate::connection::{AccessClient, Connection};
use crate::{folders, output, rows};

/// How long an old token stays valid at least where programs take up its successor from a file.
const TAKEN_UP: Duration = Duration::from_secs(10);

/// Tokens of a coordinator: each has a name and a role, and lets its holder in until it expires or is revoked.
///
/// A coordinator stores the SHA-256 of tokens only. Those that `sortie serve` makes are called operator, worker and reader.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a token, and print it. Over HTTP it is the header `Authorization: Bearer TOKEN`.
    Create(CreateArguments),
    /// List the tokens, those that ended too.
    List(ListArguments),
    /// End the tokens of a name: within a second no coordinator of the database takes them.
    Revoke(RevokeArguments),
    /// Replace the tokens of a name by a new one; they end after a while. Where this user's own coordinators use it, it is stored in their
    /// identity and access file, and workers that read that file go on; else it is printed.
    Rotate(RotateArguments),
}

/// How to print a token.
#[derive(Debug, clap::Args)]
pub struct Form {
    /// Print an access file with it.
    #[arg(long)]
    file: bool,
    /// Print an access file with it in one line, as SORTIE_ACCESS takes it.
    #[arg(long, conflicts_with = "file")]
    one_line: bool,
}

/// Which token to make.
#[derive(Debug, clap::Args)]
pub struct CreateArguments {
    /// What it allows: operator (everything), worker (to run trials), reader (to look).
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// By which people know it.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// How long it is valid, such as 30d or 12h [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    form: Form,
}

/// How to list them.
#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Which tokens to end.
#[derive(Debug, clap::Args)]
pub struct RevokeArguments {
    /// Their name.
    name: String,
}

/// Which tokens to replace.
#[derive(Debug, clap::Args)]
pub struct RotateArguments {
    /// Their name.
    name: String,
    /// How long the old ones stay valid, such as 7d; ten seconds at least where the new one is stored.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    overlap: Duration,
    #[command(flatten)]
    form: Form,
}

/// Makes, lists or ends tokens.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn run(command: &Command, connection: &Connection) -> Result<()> {
    match command {
        Command::Create(CreateArguments { role, name, expires, form }) => {
            let token = Token::new()?;
            let printed = form.print(&token, *role, connection)?;
            let mut client = AccessClient::connect(connection).await?;
            client.create(token.digest(), name, *role, *expires).await?;
            output::text(&printed)
        }
        Command::List(ListArguments { json }) => {
            let tokens = AccessClient::connect(connection).await?.tokens().await?;
            let list = TokenList { tokens: tokens.into_iter().map(rows::token).collect() };
            if *json { output::json(&list) } else { output::text(&list.text()) }
        }
        Command::Revoke(RevokeArguments { name }) => {
            let count = AccessClient::connect(connection).await?.revoke(name).await?;
            let them = if count == 1 { "token".to_owned() } else { format!("{count} tokens") };
            output::text(&format!("revoked the {them} {name}"))
        }
        Command::Rotate(arguments) => rotate(arguments, connection).await,
    }
}

async fn rotate(arguments: &RotateArguments, connection: &Connection) -> Result<()> {
    let RotateArguments { name, overlap, form } = arguments;
    let token = Token::new()?;
    let mut client = AccessClient::connect(connection).await?;
    // A coordinator's own tokens have the names of their roles. Where this user's coordinators use it, the new one is stored before the old one
    // ends: whatever happens in between, the next start of a coordinator knows it.
    let own: Option<Role> = name.parse().ok();
    let replaced = match own {
        Some(role) => {
            folders::access().replace_token(&connection.access_file(Role::Operator)?.ca, role, &token)?
        }
        None => None,
    };
    // Programs that run take up the new one when the old one is refused.
    let overlap = if replaced.is_some() { (*overlap).max(TAKEN_UP) } else { *overlap };
    let rotated = client.rotate(name, token.digest(), overlap).await;
    let role: Role = match (rotated, own, &replaced) {
        // Where no answer came, it may be stored: then only the new one goes on.
        (Err(error), Some(role), Some(old)) if !error.is_transient() => {
            folders::access().replace_token(&connection.access_file(Role::Operator)?.ca, role, old)?;
            return Err(error.into());
        }
        (rotated, ..) => rotated?.parse()?,
    };
    if replaced.is_some() {
        let file = folders::access().access(role);
        output::note(&format!(
            "stored in this user's identity and in {}; coordinators of other databases know it when they start again",
            file.display()
        ));
        if !form.file && !form.one_line {
            return Ok(());
        }
    }
    output::text(&form.print(&token, role, connection)?)
}

impl Form {
    fn print(&self, token: &Token, role: Role, connection: &Connection) -> Result<String> {
        if !self.file && !self.one_line {
            return Ok(token.reveal().to_owned());
        }
        let used = connection.access_file(Role::Operator)?;
        let file = AccessFile { role, token: token.clone(), ..used };
        Ok(if self.one_line { file.line() } else { file.text() }.trim_end().to_owned())
    }
}

/// A duration as users write it. Days have 24 hours.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 7d, 12h or 30m");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(days).ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in
            [("7d", 604_800), ("12h", 43_200), ("1d 12h", 129_600), ("0s", 0), ("2w", 1_209_600)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "7", "-7d", "soon", "1 month", "1y"] {
            assert_eq!(duration(bad), Err(format!("{bad:?} is no duration such as 7d, 12h or 30m")), "{bad}");
        }
    }
}
