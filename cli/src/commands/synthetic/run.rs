//! The program: its options, its output, and its failures.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use sortie_core::command::variable;
use sortie_core::metrics::SplitName;

use super::curve::{Curve, unit};

/// Print the metrics of a made-up training run: for demonstrations and for tests of what handles real ones.
///
/// Run it as a trial: `[run] command = ["sortie", "synthetic"]` in a sweep file. It prints one JSON object a line: {"step", "loss"}
/// after every step, and {"step", "domain", "split", "n", "correct", "loss"} at evaluations: the `out` split of every training domain,
/// `in` and `out` of every held-out one.
///
/// The numbers depend on nothing but the trial (SORTIE_PARAM_TRIAL, SORTIE_PARAM_HELD_OUT, SORTIE_PARAM_DROPOUT) and these options, so
/// that every attempt at a trial reports the same. Accuracies rise with the steps, o.o.d. ones stay below i.i.d. ones, and dropout helps
/// a little.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Index of the last step. By default what SORTIE_PARAM_STEPS says, or else 20.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Evaluate at the steps 0, K, 2K, ... and at the last one.
    #[arg(long, value_name = "K", default_value = "5", value_parser = clap::value_parser!(u64).range(1..))]
    evaluate_every: u64,
    /// How long the run takes in all. Set by the variable, it can differ between workers that run the same trials.
    #[arg(long, env = "SORTIE_SYNTHETIC_SECONDS", value_name = "SECONDS", default_value = "0", value_parser = |text: &str| within(text, SECONDS_MAX))]
    seconds: f64,
    /// The domains, comma separated; the held-out ones are not trained on.
    #[arg(long, value_name = "NAMES", default_value = "a,b,c,d", value_delimiter = ',')]
    domains: Vec<String>,
    /// Fail at this step.
    #[arg(long, value_name = "STEP")]
    fail_at: Option<u64>,
    /// The exit code of a failure.
    #[arg(long, value_name = "CODE", default_value = "1")]
    exit_code: u8,
    /// Report losses that are no numbers from this step on, and evaluate no more.
    #[arg(long, value_name = "STEP")]
    diverge_at: Option<u64>,
    /// End by SIGKILL at this step.
    #[arg(long, value_name = "STEP")]
    crash_at: Option<u64>,
    /// Fail with this probability, at some step. Each attempt at a trial draws anew.
    #[arg(long, value_name = "PROBABILITY", default_value = "0", value_parser = |text: &str| within(text, 1.0))]
    flaky: f64,
    /// Write so many bytes of output to stderr, spread over the steps.
    #[arg(long, value_name = "N", default_value = "0")]
    output_bytes: u64,
}

const STEPS: u64 = 20;
const SECONDS_MAX: f64 = 1e7;

/// Runs to the end, or to the failure that was asked for.
///
/// # Errors
/// One line: the environment cannot be read, or standard output is closed.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let trial = Trial::read(arguments, |name| std::env::var(variable(name)).ok())?;
    let attempt = std::process::id().to_string();
    let flaw = [trial.id.as_str(), &attempt, "flaky"];
    let flaky_at = (unit(&flaw) < arguments.flaky)
        .then(|| step_of(unit(&[trial.id.as_str(), &attempt, "step"]), trial.steps));
    // Locked throughout, because nothing else writes here.
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    let pause = Duration::from_secs_f64(arguments.seconds / (trial.steps + 1) as f64);
    for step in 0..=trial.steps {
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        make_noise(arguments.output_bytes, step, trial.steps);
        if arguments.crash_at == Some(step) {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .context("cannot end by SIGKILL")?;
        }
        if arguments.fail_at == Some(step) || flaky_at == Some(step) {
            crate::output::note(&format!("synthetic failure at step {step}"));
            return Ok(ExitCode::from(arguments.exit_code));
        }
        trial.report(step, arguments, &mut stdout)?;
        stdout.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn within(text: &str, max: f64) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value| (0.0..=max).contains(value))
        .ok_or_else(|| format!("allowed: a number from 0 to {max}"))
}

/// The step at this fraction of the run.
fn step_of(fraction: f64, steps: u64) -> u64 {
    ((fraction * (steps + 1) as f64) as u64).min(steps)
}

/// This step's share of the output. A closed stderr is no failure.
fn make_noise(bytes: u64, step: u64, steps: u64) {
    let until = |step: u64| (u128::from(bytes) * u128::from(step) / u128::from(steps + 1)) as u64;
    let mut left = until(step + 1) - until(step);
    let line = [[b'.'; 79].as_slice(), b"\n"].concat();
    let mut stderr = std::io::stderr().lock();
    while left > 0 {
        let part = &line[line.len() - (left.min(line.len() as u64) as usize)..];
        let _ = stderr.write_all(part);
        left -= part.len() as u64;
    }
}

/// What the metrics are made from.
struct Trial {
    id: String,
    steps: u64,
    training: Vec<String>,
    held_out: Vec<String>,
    curve: Curve,
}

#[derive(Serialize)]
struct LossLine {
    step: u64,
    loss: f64,
}

#[derive(Serialize)]
struct EvaluationLine<'a> {
    step: u64,
    domain: &'a str,
    split: SplitName,
    n: u64,
    correct: u64,
    loss: f64,
}

impl Trial {
    fn read(arguments: &Arguments, value: impl Fn(&str) -> Option<String>) -> Result<Self> {
        // A value that a sweep does not set is an empty text.
        let given = |name: &str| value(name).filter(|text| !text.is_empty());
        let number = |name: &str| {
            given(name)
                .map(|text| text.parse::<u64>().with_context(|| format!("{} = {text:?}", variable(name))))
        };
        let steps = arguments.steps.map(Ok).or_else(|| number("steps")).transpose()?.unwrap_or(STEPS);
        let id = given("trial").unwrap_or_default();
        let held_out: Vec<String> =
            given("held_out").iter().flat_map(|label| label.split('+')).map(str::to_owned).collect();
        let training =
            arguments.domains.iter().filter(|domain| !held_out.contains(domain)).cloned().collect();
        let dropout = given("dropout").and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let curve = Curve::new(id.clone(), steps, dropout);
        Ok(Self { id, steps, training, held_out, curve })
    }

    fn report(&self, step: u64, arguments: &Arguments, to: &mut impl Write) -> Result<()> {
        if arguments.diverge_at.is_some_and(|from| step >= from) {
            // JSON has no such number; this is how Python's writer puts it.
            return Ok(writeln!(to, r#"{{"step":{step},"loss":NaN}}"#)?);
        }
        line(to, &LossLine { step, loss: self.curve.training_loss(step) })?;
        if step != self.steps && !step.is_multiple_of(arguments.evaluate_every) {
            return Ok(());
        }
        let of_training = self.training.iter().map(|domain| (domain, SplitName::Out, false));
        let of_held_out = self
            .held_out
            .iter()
            .flat_map(|domain| [(domain, SplitName::In, true), (domain, SplitName::Out, true)]);
        for (domain, split, held_out) in of_training.chain(of_held_out) {
            let (n, correct, loss) = self.curve.evaluation(step, domain, split, held_out);
            line(to, &EvaluationLine { step, domain, split, n, correct, loss })?;
        }
        Ok(())
    }
}

fn line(to: &mut impl Write, value: &impl Serialize) -> Result<()> {
    Ok(writeln!(to, "{}", serde_json::to_string(value)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn printed(words: &[&str], environment: &[(&str, &str)]) -> String {
        let arguments = Program::try_parse_from([&["synthetic"], words].concat()).unwrap().arguments;
        let value = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let trial = Trial::read(&arguments, value).unwrap();
        let mut text = Vec::new();
        (0..=trial.steps).for_each(|step| trial.report(step, &arguments, &mut text).unwrap());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn it_prints_a_loss_each_step_and_at_evaluations_every_domain() {
        let environment = [("trial", "94f9"), ("held_out", "b"), ("steps", "7"), ("dropout", "0.5")];
        let text = printed(&["--domains", "a,b,c", "--evaluate-every", "4"], &environment);
        assert_eq!(text, printed(&["--domains", "a,b,c", "--evaluate-every", "4"], &environment));
        // Eight losses; at the steps 0, 4 and 7 two training domains and both splits of the held-out one.
        assert_eq!(text.lines().count(), 8 + 3 * 4);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["step"], lines[0].get("domain")), (&0.into(), None));
        let places: Vec<_> =
            lines[1..5].iter().map(|line| format!("{} {}", line["domain"], line["split"])).collect();
        assert_eq!(places, [r#""a" "out""#, r#""c" "out""#, r#""b" "in""#, r#""b" "out""#]);
        assert!(lines[1..5].iter().all(|line| line["correct"].as_u64() <= line["n"].as_u64()));
        assert_ne!(
            text,
            printed(
                &["--domains", "a,b,c", "--evaluate-every", "4"],
                &[("trial", "94fa"), ("held_out", "b"), ("steps", "7")]
            )
        );
    }

    #[test]
    fn flags_win_over_the_environment_and_what_is_open_has_a_default() {
        assert_eq!(
            printed(&["--steps", "1"], &[("steps", "3")])
                .lines()
                .filter(|line| !line.contains("domain"))
                .count(),
            2
        );
        assert_eq!(
            printed(&[], &[("steps", "")]).lines().filter(|line| !line.contains("domain")).count(),
            21
        );
    }

    #[test]
    fn a_diverged_run_reports_no_numbers() {
        let text = printed(&["--steps", "2", "--diverge-at", "1"], &[]);
        assert!(text.ends_with("{\"step\":1,\"loss\":NaN}\n{\"step\":2,\"loss\":NaN}\n"), "{text}");
    }

    #[test]
    fn wrong_options_are_refused() {
        for words in [
            ["--evaluate-every", "0"],
            ["--seconds", "-1"],
            ["--seconds", "nan"],
            ["--flaky", "1.5"],
            ["--exit-code", "256"],
        ] {
            assert!(Program::try_parse_from(["synthetic", words[0], words[1]]).is_err(), "{words:?}");
        }
    }
}
