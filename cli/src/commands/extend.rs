//! `sortie extend`: more seeds.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use sortie_analysis::{Paired, Question};
use sortie_core::combine::{COMBINE, MEMBERS};
use sortie_core::filter::Filter;
use sortie_core::selection::Selection;
use sortie_core::spec::SweepSpec;

use crate::connection::{Client, Connection, RetryingClient};
use crate::measured::MeasuredArguments;
use crate::output;
use crate::watching::{follow_submission, is_over, is_stopped, lacking_line, line, until_over};
use sortie_proto::v1;

/// Add seeds to a sweep: so many, or until a comparison is precise enough.
///
/// With --until-se it waits until the sweep is over, looks at the comparison, and adds as many seeds as it should take, at most as many as
/// there are, again and again. It may be stopped and started again at any time. Combinations over seeds get one more over all
/// of them where the file names no number of `members`, or "all"; the others stay as they are.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sweep's name.
    sweep: String,
    /// +N: so many more; N: until there are so many.
    #[arg(long, value_name = "+N|N", value_parser = Seeds::parse, required_unless_present = "until_se", conflicts_with = "until_se")]
    seeds: Option<Seeds>,
    /// Add seeds until the standard error of the mean o.o.d. difference of --paired is at most this, in the metric's own unit: 0.005 is half a point of accuracy. Needs
    /// --trials-max too.
    #[arg(long, value_name = "SE", requires = "paired", requires = "trials_max")]
    until_se: Option<f64>,
    /// The two settings that are compared, as for `sortie results --paired`.
    #[arg(long, num_args = 2, value_names = ["A", "B"], value_parser = Filter::parse, requires = "until_se")]
    paired: Vec<Filter>,
    /// The most trials that this call adds; those that have succeeded in other sweeps do not count.
    #[arg(long, value_name = "N", requires = "until_se")]
    trials_max: Option<u64>,
    /// Which step of a run counts: iid, loo, oracle or last, as for `sortie results`.
    #[arg(long, default_value_t = Selection::Iid)]
    select: Selection,
    #[command(flatten)]
    measured: MeasuredArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The number of seeds to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seeds {
    More(u64),
    InAll(u64),
}

impl Seeds {
    fn parse(text: &str) -> Result<Self, String> {
        let (more, digits) = text.strip_prefix('+').map_or((false, text), |digits| (true, digits));
        let count = digits.parse().ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| {
            format!("{text:?} is not allowed: write +3 for three more seeds, or 6 for six in all")
        })?;
        Ok(if more { Self::More(count) } else { Self::InAll(count) })
    }
}

/// What was added so far.
#[derive(Default)]
struct Added {
    trials: u64,
    reused: u64,
}

/// Adds seeds and prints what changed.
///
/// # Errors
/// One line: the coordinator refuses, the comparison cannot be made, or the trials that may be added are not enough.
pub async fn run(arguments: &Arguments, connection: &Connection) -> Result<()> {
    let (mut client, mut added) = (Client::connect(connection).await?, Added::default());
    let spec = client.describe(&arguments.sweep).await?;
    if let Some(why) = spec.lacks_trials_for(&[arguments.select]) {
        bail!("{why}");
    }
    let own = spec.grid.seeds.len() as u64;
    let (seeds, compared) = match (arguments.seeds, arguments.until_se) {
        (Some(seeds), _) => {
            let seeds = if let Seeds::More(more) = seeds { own.saturating_add(more) } else { seeds.in_all() };
            add(&mut client, &arguments.sweep, seeds, arguments.json, &mut added).await?;
            (seeds, None)
        }
        (None, target) => {
            let target = target.filter(|target| *target > 0.0 && target.is_finite());
            let target = target.context(
                "--until-se must be above 0, in the metric's own unit, such as 0.005 for half a point of accuracy",
            )?;
            let (seeds, compared) = until(target, arguments, connection, &mut added).await?;
            (seeds, Some(compared))
        }
    };
    let (sweep, Added { trials, reused }) = (&arguments.sweep, &added);
    if arguments.json {
        let difference = compared.map(|compared| compared.ood.difference);
        return output::json(
            &json!({ "sweep": sweep, "seeds": seeds, "added": trials, "reused": reused, "difference": difference }),
        );
    }
    let mut text = format!("sweep {sweep}: {seeds} seeds, {trials} trials added");
    if *reused > 0 {
        text.push_str(&format!("; {reused} of them have succeeded in other sweeps and will not run again"));
    }
    if let Some(compared) = compared {
        text.push_str(&format!("; o.o.d. difference {}", compared.ood_difference()));
    }
    output::text(&text)
}

impl Seeds {
    fn in_all(self) -> u64 {
        match self {
            Self::More(count) | Self::InAll(count) => count,
        }
    }
}

async fn add(client: &mut Client, sweep: &str, seeds: u64, json: bool, added: &mut Added) -> Result<()> {
    let again = || {
        format!(
            "the seeds may not be stored completely; `sortie extend {sweep} --seeds {seeds}` completes them"
        )
    };
    let last = follow_submission(client.extend(sweep, seeds).await?, json).await.with_context(again)?;
    if !json {
        lacking_line(last.lacking, "run again").iter().for_each(|line| output::note(line));
    }
    (added.trials, added.reused) = (added.trials + last.added, added.reused + last.reused);
    Ok(())
}

/// Adds seeds until the comparison is precise enough. Returns the number of seeds and the difference.
async fn until(
    target: f64,
    arguments: &Arguments,
    connection: &Connection,
    added: &mut Added,
) -> Result<(u64, Paired)> {
    let Arguments { sweep, paired, .. } = arguments;
    let [a, b] = paired.as_slice() else { bail!("--paired needs two settings") };
    let combined = paired.iter().flat_map(Filter::axes).find(|axis| [COMBINE, MEMBERS].contains(axis));
    ensure!(
        combined.is_none(),
        "--paired names {}: more seeds give no more combinations of the same members",
        combined.unwrap_or_default()
    );
    let budget = arguments.trials_max.unwrap_or(0);
    let mut waits = false;
    loop {
        refuse_stopped(connection, sweep).await?;
        if !std::mem::replace(&mut waits, true) {
            output::note(&format!("waiting until the trials of sweep {sweep} have ended"));
        }
        let mut asking = RetryingClient::connect(connection).await?;
        let status = until_over(&mut asking, sweep, &mut String::new()).await?;
        ensure!(is_over(&status), "sweep {sweep} has {}", line(&status, None));
        let mut client = Client::connect(connection).await?;
        let spec = client.describe(sweep).await?;
        let own = spec.grid.seeds.len() as u64;
        let compared = compare(&mut client, arguments, [a, b]).await?;
        // One pair has no standard error; two have one.
        let error = compared.ood.difference.se.unwrap_or(f64::INFINITY);
        if error <= target {
            return Ok((own, compared));
        }
        let wanted = sortie_analysis::seeds_for(own, error, target);
        let left = budget.saturating_sub(added.trials.saturating_sub(added.reused));
        let seeds = affordable(&spec, wanted, left)?;
        ensure!(
            seeds > own,
            "the o.o.d. difference of {b} against {a} is {} with {own} seeds, and another seed needs {} trials where {} of --trials-max {budget} are left",
            compared.ood_difference(),
            trials_of(&spec, own + 1)? - trials_of(&spec, own)?,
            left,
        );
        output::note(&format!(
            "o.o.d. difference {} with {own} seeds: going on to {seeds}",
            compared.ood_difference()
        ));
        add(&mut client, sweep, seeds, true, added).await?;
    }
}

/// Refuses a sweep whose trials would never end.
async fn refuse_stopped(connection: &Connection, sweep: &str) -> Result<()> {
    for status in Client::connect(connection).await?.status(Some(sweep)).await? {
        ensure!(
            !is_stopped(&status),
            "sweep {sweep} is {}; `sortie resume {sweep}` first",
            v1::SweepState::read("sweep.state", status.state)?
        );
    }
    Ok(())
}

/// The comparison of two settings.
async fn compare(client: &mut Client, arguments: &Arguments, settings: [&Filter; 2]) -> Result<Paired> {
    let Arguments { sweep, select, measured, .. } = arguments;
    let metrics = measured.metric.choice(client, sweep, measured.ood_split).await?;
    let question = Question {
        selection: *select,
        method: measured.method,
        ood_split: measured.ood_split,
        metrics,
        ..Question::default()
    };
    Ok(client.collect(sweep, &question).await?.paired(settings)?)
}

fn trials_of(spec: &SweepSpec, seeds: u64) -> Result<u64> {
    Ok(spec.with_seeds(seeds)?.trials_planned().unwrap_or(u64::MAX))
}

/// How many seeds, at most `wanted`, so many further trials allow.
fn affordable(spec: &SweepSpec, wanted: u64, trials: u64) -> Result<u64> {
    let own = spec.grid.seeds.len() as u64;
    let each = trials_of(spec, own + 1)? - trials_of(spec, own)?;
    Ok(wanted.min(own + trials / each.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_counted_on_or_in_all() {
        assert_eq!((Seeds::parse("+3"), Seeds::parse("6")), (Ok(Seeds::More(3)), Ok(Seeds::InAll(6))));
        for bad in ["", "+", "0", "+0", "-1", "x", "+1.5"] {
            assert!(Seeds::parse(bad).unwrap_err().contains("+3"), "{bad}");
        }
    }

    #[test]
    fn no_more_seeds_than_the_budget_allows() {
        // Eight trials for each seed.
        let spec = SweepSpec::parse(
            "name = 's'\n[run]\ncommand = ['true']\n[grid]\na = [1, 2]\nb = [1, 2, 3, 4]\nseeds = 2\n",
            None,
        )
        .unwrap();
        for (wanted, trials, seeds) in [(5, 100, 5), (5, 23, 4), (5, 7, 2), (3, 8, 3)] {
            assert_eq!(affordable(&spec, wanted, trials).unwrap(), seeds);
        }
    }
}
