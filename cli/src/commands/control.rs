//! `sortie pause`, `resume`, `cancel`, `retry`, `priority`, `rename` and `archive`: actions on a stored sweep.

use anyhow::Result;
use serde_json::json;
use sortie_core::filter::Filter;
use sortie_core::job::StateName;
use sortie_core::status::UserAction;
use sortie_core::trial::Point;
use sortie_proto::TRIALS_NAMED_MAX;
use sortie_proto::v1::{ControlAction, ControlRequest, TrialState};

use crate::conditions::{TrialFilter, warn_of_unmet};
use crate::connection::{Client, ClientError, Connection};
use crate::output;

/// A sweep.
#[derive(Debug, clap::Args)]
pub struct SweepArguments {
    /// The sweep's name.
    sweep: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A sweep and which of its trials.
#[derive(Debug, clap::Args)]
pub struct CancelArguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// Only trials that meet these conditions, such as 'dropout=0.9 and held_out=sketch'. Without any, the sweep itself is cancelled.
    #[arg(long = "where", value_name = "CONDITIONS", value_parser = Filter::parse)]
    filter: Option<Filter>,
    /// Only trials in this state: blocked, queued or running.
    #[arg(long, value_parser = |text: &str| one_of(text, &[StateName::Blocked, StateName::Queued, StateName::Running]))]
    state: Option<StateName>,
}

/// A sweep and which of its trials.
#[derive(Debug, clap::Args)]
pub struct RetryArguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// Only trials that meet these conditions, such as 'dropout=0.9 and held_out=sketch'.
    #[arg(long = "where", value_name = "CONDITIONS", value_parser = Filter::parse)]
    filter: Option<Filter>,
    /// Only trials in this state: failed, diverged or cancelled.
    #[arg(long, value_parser = |text: &str| one_of(text, &[StateName::Failed, StateName::Diverged, StateName::Cancelled]))]
    state: Option<StateName>,
}

/// A sweep and its new priority.
#[derive(Debug, clap::Args)]
pub struct PriorityArguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// Sweeps with higher numbers are served first; new ones have 0.
    #[arg(allow_negative_numbers = true)]
    priority: i64,
}

/// A sweep and its new name.
#[derive(Debug, clap::Args)]
pub struct RenameArguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// The new name: letters, digits, '.', '_' and '-'.
    name: String,
}

/// A sweep that is put away, or taken back.
#[derive(Debug, clap::Args)]
pub struct ArchiveArguments {
    #[command(flatten)]
    sweep: SweepArguments,
    /// Take it back: it is listed again, and its trials start again unless it is paused or cancelled.
    #[arg(long)]
    undo: bool,
}

/// Starts no more trials of a sweep.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn pause(arguments: &SweepArguments, connection: &Connection) -> Result<()> {
    control(arguments, UserAction::Pause, TrialChoice::default(), connection, |sweep, _| {
        format!("sweep {sweep} is paused; trials that run go on")
    })
    .await
}

/// Starts trials of a paused or cancelled sweep again.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn resume(arguments: &SweepArguments, connection: &Connection) -> Result<()> {
    control(arguments, UserAction::Resume, TrialChoice::default(), connection, |sweep, trials| match trials {
        0 => format!("sweep {sweep} is open again"),
        _ => format!("sweep {sweep} is open again, and so are its {trials} trials that were cancelled"),
    })
    .await
}

/// Cancels trials.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn cancel(arguments: &CancelArguments, connection: &Connection) -> Result<()> {
    let which =
        TrialChoice { filter: arguments.filter.as_ref(), state: arguments.state, ..TrialChoice::default() };
    control(&arguments.sweep, UserAction::Cancel, which, connection, |sweep, trials| {
        format!("sweep {sweep}: {trials} trials cancelled")
    })
    .await
}

/// Lets trials that ended without a result run again.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn retry(arguments: &RetryArguments, connection: &Connection) -> Result<()> {
    let which =
        TrialChoice { filter: arguments.filter.as_ref(), state: arguments.state, ..TrialChoice::default() };
    control(&arguments.sweep, UserAction::Retry, which, connection, |sweep, trials| {
        format!("sweep {sweep}: {trials} trials will run again")
    })
    .await
}

/// Sets the priority of a sweep.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn priority(arguments: &PriorityArguments, connection: &Connection) -> Result<()> {
    let priority = arguments.priority;
    let which = TrialChoice { priority, ..TrialChoice::default() };
    control(&arguments.sweep, UserAction::Priority, which, connection, |sweep, _| {
        format!("sweep {sweep} has priority {priority}")
    })
    .await
}

/// Gives a sweep another name.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn rename(arguments: &RenameArguments, connection: &Connection) -> Result<()> {
    let name = arguments.name.as_str();
    let which = TrialChoice { name, ..TrialChoice::default() };
    control(&arguments.sweep, UserAction::Rename, which, connection, |sweep, _| {
        format!("sweep {sweep} is called {name} from now on; write that into its file, too")
    })
    .await
}

/// Puts a sweep away, or takes it back.
///
/// # Errors
/// One line: the coordinator refuses.
pub async fn archive(arguments: &ArchiveArguments, connection: &Connection) -> Result<()> {
    let action = if arguments.undo { UserAction::Unarchive } else { UserAction::Archive };
    control(&arguments.sweep, action, TrialChoice::default(), connection, |sweep, _| match action {
        UserAction::Unarchive => {
            format!("sweep {sweep} is listed again; its trials start again unless it is paused or cancelled")
        }
        _ => format!(
            "sweep {sweep} is archived; its results stay, and `sortie archive --undo {sweep}` takes it back"
        ),
    })
    .await
}

/// The trials of the sweep that an action is about.
#[derive(Clone, Copy, Default)]
struct TrialChoice<'a> {
    filter: Option<&'a Filter>,
    state: Option<StateName>,
    priority: i64,
    /// The sweep's new name.
    name: &'a str,
}

async fn control(
    arguments: &SweepArguments,
    action: UserAction,
    which: TrialChoice<'_>,
    connection: &Connection,
    say: impl Fn(&str, u64) -> String,
) -> Result<()> {
    let SweepArguments { sweep, json } = arguments;
    let mut client = Client::connect(connection).await?;
    let filter = TrialFilter::read(&mut client, sweep, which.filter).await?;
    let request = ControlRequest {
        sweep: sweep.clone(),
        action: ControlAction::number(action),
        r#where: filter.filter.to_string(),
        state: which.state.map_or(0, TrialState::number),
        priority: which.priority,
        name: which.name.to_owned(),
        ..ControlRequest::default()
    };
    let trials = match filter.is_about_code() {
        true => by_code(&mut client, request, &filter, which.state).await?,
        false => client.control(request).await?,
    };
    if which.filter.is_some() && trials == 0 {
        warn_of_unmet(&mut client, sweep, &filter).await?;
        filter.warn_of_code(sweep);
    }
    if *json {
        return output::json(&json!({ "sweep": sweep, "action": action.as_str(), "trials": trials }));
    }
    output::text(&say(sweep, trials))
}

/// The same, where conditions are on what trials ran: the trials are named one by one.
async fn by_code(
    client: &mut Client,
    request: ControlRequest,
    filter: &TrialFilter,
    state: Option<StateName>,
) -> Result<u64> {
    let mut stream = client.trials(&request.sweep, state).await?;
    let mut meant = Vec::new();
    let mut example: Option<Point> = None;
    while let Some(trial) = stream.message().await.map_err(ClientError::from)? {
        let point: Point = trial.point.unwrap_or_default().try_into()?;
        if filter.matches(trial.trial_id.parse()?, &point) {
            meant.push(trial.trial_id);
        }
        example.get_or_insert(point);
    }
    if let Some(example) = &example {
        filter.check(example)?;
    }
    let mut changed = 0;
    // No ids at all would mean all trials.
    for trials in meant.chunks(TRIALS_NAMED_MAX) {
        changed += client.control(ControlRequest { trials: trials.to_vec(), ..request.clone() }).await?;
    }
    Ok(changed)
}

fn one_of(text: &str, allowed: &[StateName]) -> Result<StateName, String> {
    let names = || allowed.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
    allowed
        .iter()
        .copied()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| format!("allowed: {}", names()))
}
