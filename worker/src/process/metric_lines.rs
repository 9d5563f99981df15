//! The metrics that a command prints: JSON objects on its standard output, between whatever else it prints (docs/commands.md).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::de::IgnoredAny;
use serde_json::Value;
use sortie_core::artifact::Resumed;
use sortie_core::command::CommandSettings;
use sortie_core::job::Outcome;
use sortie_core::keys::AttemptToken;
use sortie_core::metrics::{Evaluation, Method, SplitName, TrainingLoss};
use sortie_core::pipe::{Event, Progress};
use tokio::time::Instant;

use super::escapes::without_escapes;
use super::json_objects::{Piece, pieces, quote_non_numbers};
use super::metric_line::{Diverged, INTEGER_MAX, KEYS, Measurements, MetricLine, Number, Whole};
use super::unused_output::UnusedOutput;
use crate::attempt::ending;

/// Evaluations of one attempt that are accepted: some 50 MiB of memory, by which repeated ones are found.
const EVALUATIONS_MAX: usize = 1_000_000;
/// Names of domains that one attempt may use.
const DOMAINS_MAX: usize = 10_000;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 200;
/// Characters of a line that a message quotes.
const QUOTED_MAX: usize = 200;

/// Reads the lines of one attempt, in their order.
#[derive(Debug)]
pub(crate) struct MetricLines {
    /// Those of the sweep, in its order, or those that were named so far.
    domains: Vec<String>,
    domains_are_open: bool,
    last_step: Option<u64>,
    complete_at: Option<u64>,
    /// What was reported, by step, method, domain and split.
    reported: BTreeMap<(u64, Method, usize, SplitName), Reported>,
    newest_step: Option<u64>,
    newest_loss: Option<u64>,
    diverged: bool,
    /// The first object with a number that is no metric, for it has no step.
    without_step: Option<String>,
    unused: UnusedOutput,
    /// What earlier attempts printed, until this one prints a step.
    earlier: Option<Earlier>,
    /// When the command was started; none where its lines are read later.
    begun: Option<Instant>,
    /// The time of the attempts that this one goes on from, in seconds.
    seconds_before: f64,
}

/// The metrics of the attempts whose checkpoints a command goes on from.
#[derive(Debug)]
pub(crate) struct Earlier {
    /// The last of those attempts.
    pub(crate) attempt: AttemptToken,
    /// Losses and evaluations.
    pub(crate) events: Vec<Event>,
}

/// An evaluation that was reported, in so few bytes that a million of them fit into memory.
#[derive(Clone, Copy, Debug)]
struct Reported {
    accuracy: Option<f64>,
    hash_of_numbers: u64,
}

/// What a line means.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reading {
    /// The events of its metrics.
    pub(crate) events: Vec<Event>,
    /// What of it is output like any other; none if nothing is.
    pub(crate) output: Option<Vec<u8>>,
}

/// Why a metric is not used.
#[derive(Debug)]
enum Fault {
    /// It cannot be read: it is counted.
    Unreadable(String),
    /// It contradicts the sweep file or what was reported: to pass over it could lose a result.
    Refused(String),
}

fn unreadable<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Unreadable(why.into()))
}

impl MetricLines {
    /// For a trial of this command.
    pub(crate) fn new(settings: &CommandSettings) -> Self {
        let domains = settings.domains.clone();
        Self {
            domains_are_open: domains.is_empty(),
            domains,
            last_step: settings.steps,
            complete_at: settings.complete_at,
            reported: BTreeMap::new(),
            newest_step: None,
            newest_loss: None,
            diverged: false,
            without_step: None,
            unused: UnusedOutput::default(),
            earlier: None,
            begun: None,
            seconds_before: 0.0,
        }
    }

    /// For a command that starts now: its metrics say when they were printed.
    pub(crate) fn timed(self) -> Self {
        Self { begun: Some(Instant::now()), ..self }
    }

    /// Seconds since the command was started, without the time between attempts.
    fn seconds(&self) -> Option<f64> {
        Some(self.seconds_before + self.begun?.elapsed().as_secs_f64())
    }

    /// For an attempt that goes on from the checkpoints of others.
    pub(crate) fn after(self, earlier: Option<Earlier>) -> Self {
        Self { earlier, ..self }
    }

    /// The metrics of earlier attempts that this one does not print itself: those before the first step that it prints, or all of them if
    /// it prints none. Gives them once.
    pub(crate) fn take_up(&mut self, first: Option<u64>) -> Vec<Event> {
        let Some(Earlier { attempt, events }) = self.earlier.take().filter(|_| first != Some(0)) else {
            return Vec::new();
        };
        let is_before = |step: u64| first.is_none_or(|first| step < first);
        let (mut losses, mut evaluations) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Losses(more) => losses.extend(more.into_iter().filter(|loss| is_before(loss.step))),
                Event::Evaluations(more) => {
                    evaluations.extend(more.into_iter().filter(|evaluation| is_before(evaluation.step)));
                }
                _ => {}
            }
        }
        losses.retain(|TrainingLoss { step, loss, .. }| self.loss(*step, *loss).is_some());
        evaluations.retain(|evaluation| self.is_new(evaluation).unwrap_or(false));
        let steps = losses.iter().map(|loss| loss.step).chain(evaluations.iter().map(|row| row.step));
        self.newest_step = steps.max().max(self.newest_step);
        let step = first.map(|first| first - 1).or(self.newest_step).unwrap_or(0);
        let times = losses.iter().map(|loss| loss.seconds).chain(evaluations.iter().map(|row| row.seconds));
        self.seconds_before = times.flatten().fold(0.0, f64::max);
        vec![
            Event::Resumed(Resumed { token: attempt, step, exact: true }),
            Event::Losses(losses),
            Event::Evaluations(evaluations),
        ]
    }

    /// What a line means.
    ///
    /// # Errors
    /// One line that names the fault, when a metric contradicts the sweep file or what was reported.
    pub(crate) fn read(&mut self, line: &[u8]) -> Result<Reading, String> {
        let plain = without_escapes(line);
        let text = String::from_utf8_lossy(&plain);
        let (mut events, mut others, mut metrics) = (Vec::new(), String::new(), 0);
        for piece in pieces(&text) {
            let read = match piece {
                Piece::Object(object) if !self.diverged => self.read_object(object)?,
                Piece::Object(_) => None,
                Piece::Other(other) => {
                    if !self.diverged && looks_like_a_metric(other) {
                        let from = other.find('{').unwrap_or(0);
                        self.unused.unreadable(format!("it is no JSON object: {}", quoted(&other[from..])));
                    }
                    None
                }
            };
            match (read, piece) {
                (Some(read), _) => {
                    metrics += 1;
                    events.extend(read);
                }
                (None, Piece::Object(text) | Piece::Other(text)) => others.push_str(text),
            }
        }
        let output = match metrics {
            0 => Some(line.to_vec()),
            // Spaces between two objects are no output.
            _ => Some(others.trim_end())
                .filter(|others| !others.is_empty())
                .map(|others| others.as_bytes().to_vec()),
        };
        Ok(Reading { events, output })
    }

    /// What a process that ended with exit status 0 lacks for success, if anything.
    pub(crate) fn lacks(&self) -> Option<Outcome> {
        let unreadable = self.unused.first_unreadable.as_ref().filter(|_| self.reported.is_empty());
        if let Some(first) = unreadable {
            return Some(ending::bad_config(format!(
                "the command ended with exit status 0, but no evaluation could be read; the first line that looks like a metric: {first}"
            )));
        }
        if let Some(at) = self.complete_at
            && self.newest_step.is_none_or(|newest| newest < at)
        {
            let newest = self.newest_step.map_or("no step".to_owned(), |newest| format!("step {newest}"));
            return Some(ending::transient(format!(
                "incomplete: the command ended with exit status 0, but {newest} is the last that it reported, and run.complete_at is {at}"
            )));
        }
        self.reported.is_empty().then(|| {
            let nearly = self.without_step.as_ref().map(|line| format!("; this line has no \"step\": {line}"));
            let nearly = nearly.unwrap_or_default();
            ending::bad_config(format!(
                "the command ended with exit status 0 but printed no metrics{nearly}; docs/commands.md says how"
            ))
        })
    }

    /// What of the output is not used, a line for each kind.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.unused.notes()
    }

    /// The events of an object; none if it is output.
    fn read_object(&mut self, object: &str) -> Result<Option<Vec<Event>>, String> {
        let text = quote_non_numbers(object);
        // It is an object, for it was found as one.
        let keys: BTreeMap<String, IgnoredAny> = serde_json::from_str(&text).unwrap_or_default();
        let [diverges, has_step] = ["diverged", "step"].map(|key| keys.contains_key(key));
        let values: Result<BTreeMap<String, Value>, serde_json::Error> = serde_json::from_str(&text);
        let parsed: Result<MetricLine, serde_json::Error> = serde_json::from_str(&text);
        if !diverges && !has_step {
            if parsed.as_ref().is_ok_and(MetricLine::measures) {
                self.unused.unreadable(format!("\"step\" is missing: {}", quoted(object)));
            } else if values.is_ok_and(|values| values.values().any(Value::is_number)) {
                self.without_step.get_or_insert_with(|| quoted(object));
            }
            return Ok(None);
        }
        let read = if object.contains(char::REPLACEMENT_CHARACTER) {
            unreadable("it is no UTF-8")
        } else {
            let read = parsed.and_then(|line| Ok((line, values?)));
            let read = read.map_err(|error| Fault::Unreadable(plain_reason(&error)));
            read.and_then(|(line, mut others)| {
                others.retain(|key, _| !KEYS.contains(&key.as_str()));
                self.events(line, others)
            })
        };
        match read {
            Ok(events) => Ok(Some(events)),
            Err(Fault::Unreadable(reason)) if !diverges => {
                self.unused.unreadable(format!("{reason}: {}", quoted(object)));
                Ok(None)
            }
            Err(Fault::Unreadable(reason) | Fault::Refused(reason)) => {
                Err(format!("the command printed a metric that is not allowed: {reason}: {}", quoted(object)))
            }
        }
    }

    /// The events of a line with these other keys.
    fn events(&mut self, line: MetricLine, others: BTreeMap<String, Value>) -> Result<Vec<Event>, Fault> {
        let is_evaluation = line.is_evaluation();
        if let Some(Diverged { step: Whole(at) }) = line.diverged {
            if line.step.is_some() || is_evaluation || line.loss.is_some() {
                return unreadable("\"diverged\" excludes all other keys");
            }
            self.check_step(at)?;
            self.pass_over(others.keys());
            let mut events = self.take_up(Some(at));
            events.extend(self.divergence(at)?);
            return Ok(events);
        }
        let Some(Whole(step)) = line.step else {
            return unreadable("\"step\" must be a whole number, at least 0");
        };
        self.check_step(step)?;
        if matches!(line.loss, Some(Number::NotFinite)) {
            let mut events = self.take_up(Some(step));
            events.extend(self.divergence(step)?);
            return Ok(events);
        }
        // A line that cannot be read takes nothing up: what is taken up is given once.
        let measured = if is_evaluation {
            Ok(evaluation(step, &line, others)?)
        } else {
            Err((line.loss.and_then(Number::finite), others))
        };
        let mut events = self.take_up(Some(step));
        match measured {
            Ok((evaluation, unused)) => {
                self.pass_over(&unused);
                if self.is_new(&evaluation)? {
                    events
                        .push(Event::Evaluations(vec![Evaluation { seconds: self.seconds(), ..evaluation }]));
                }
            }
            Err((loss, others)) => {
                self.pass_over(others.keys());
                events.extend(loss.and_then(|loss| self.loss(step, loss)));
            }
        }
        if self.newest_step.is_none_or(|newest| newest < step) {
            self.newest_step = Some(step);
            events.push(Event::Progress(Progress { step }));
        }
        Ok(events)
    }

    fn pass_over<'a>(&mut self, keys: impl IntoIterator<Item = &'a String>) {
        keys.into_iter().for_each(|key| self.unused.passed_over(key));
    }

    /// The event of a training loss; none if it does not count.
    fn loss(&mut self, step: u64, loss: f64) -> Option<Event> {
        match self.newest_loss {
            Some(newest) if newest == step => {
                self.unused.repeated_loss(format!("step {step} has one already, which counts"));
                None
            }
            Some(newest) if newest > step => {
                self.unused.repeated_loss(format!(
                    "that of step {step} comes after that of step {newest}, and steps must ascend"
                ));
                None
            }
            _ => {
                self.newest_loss = Some(step);
                Some(Event::Losses(vec![TrainingLoss { step, loss, seconds: self.seconds() }]))
            }
        }
    }

    fn divergence(&mut self, step: u64) -> Result<Vec<Event>, Fault> {
        self.check_step(step)?;
        self.diverged = true;
        Ok(vec![Event::Outcome(Outcome::Diverged { step })])
    }

    fn check_step(&self, step: u64) -> Result<(), Fault> {
        match self.last_step {
            Some(last) if step > last => {
                Err(Fault::Refused(format!("step {step} is after the sweep's last step, {last}")))
            }
            None if step > INTEGER_MAX => {
                unreadable(format!("step {step} is too large; the largest allowed is {INTEGER_MAX}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether an evaluation was not reported before; one that was must have the same numbers.
    fn is_new(&mut self, evaluation: &Evaluation) -> Result<bool, Fault> {
        let Evaluation { method, step, domain, split, .. } = evaluation;
        let index = self.index_of(domain)?;
        let at = (*step, *method, index, *split);
        let numbers = hash_of_numbers(evaluation);
        if let Some(first) = self.reported.get(&at) {
            // A program that goes on from its own checkpoint prints the same accuracy again, perhaps beside another time. Without one of the
            // two, the accuracies are not different.
            let accuracy = evaluation.accuracy();
            if first.accuracy.is_some() && (accuracy.is_none() || first.accuracy == accuracy) {
                if first.hash_of_numbers != numbers {
                    self.pass_over(evaluation.metrics.keys());
                }
                return Ok(false);
            }
            if first.hash_of_numbers == numbers {
                return Ok(false);
            }
            let first = match first.accuracy {
                Some(accuracy) => format!("as {accuracy}"),
                None => "with other numbers".to_owned(),
            };
            return Err(Fault::Refused(format!(
                "the {method} evaluation of {domain}/{split} at step {step} was reported before, {first}"
            )));
        }
        if self.reported.len() >= EVALUATIONS_MAX {
            return Err(Fault::Refused(format!(
                "too many evaluations: at most {EVALUATIONS_MAX} are allowed"
            )));
        }
        self.reported.insert(at, Reported { accuracy: evaluation.accuracy(), hash_of_numbers: numbers });
        Ok(true)
    }

    fn index_of(&mut self, domain: &str) -> Result<usize, Fault> {
        if let Some(index) = self.domains.iter().position(|known| known == domain) {
            return Ok(index);
        }
        if !self.domains_are_open {
            let allowed = self.domains.join(", ");
            return Err(Fault::Refused(format!("domain {domain:?} is not allowed; allowed: {allowed}")));
        }
        if !is_plain(domain) {
            return unreadable(format!(
                "domain {domain:?} is not allowed: a name has 1 to {NAME_BYTES_MAX} bytes, no '/', '\\' or control character, and no leading '.'"
            ));
        }
        if self.domains.len() >= DOMAINS_MAX {
            return Err(Fault::Refused(format!(
                "domain {domain:?} is one too many: at most {DOMAINS_MAX} domains are allowed"
            )));
        }
        self.domains.push(domain.to_owned());
        Ok(self.domains.len() - 1)
    }
}

/// The evaluation of a line, and the keys that it does not use.
fn evaluation(
    step: u64,
    line: &MetricLine,
    others: BTreeMap<String, Value>,
) -> Result<(Evaluation, Vec<String>), Fault> {
    let Some(domain) = line.domain.clone() else { return unreadable("an evaluation needs \"domain\"") };
    let Some(split) = line.split else { return unreadable("an evaluation needs \"split\"") };
    let measured = Measurements::of(line, others).map_err(Fault::Unreadable)?;
    let Measurements { score, loss, metrics, unused } = measured;
    let method = line.method.unwrap_or(Method::Plain);
    Ok((Evaluation { method, step, domain, split, score, loss, metrics, seconds: None }, unused))
}

fn hash_of_numbers(evaluation: &Evaluation) -> u64 {
    let mut hasher = DefaultHasher::new();
    evaluation.accuracy().map(f64::to_bits).hash(&mut hasher);
    for (name, number) in &evaluation.metrics {
        (name, number.to_bits()).hash(&mut hasher);
    }
    hasher.finish()
}

/// As names of domains in sweep files, but for the plus sign, which joins those that are held out.
fn is_plain(name: &str) -> bool {
    let odd = |c: char| c.is_control() || ['/', '\\'].contains(&c);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && !name.contains(odd)
}

/// Whether a text that holds no object has a key that only metrics have: a Python dict, an object that is not whole, or one that goes
/// over several lines.
fn looks_like_a_metric(text: &str) -> bool {
    let start = text.trim_start();
    ["step", "diverged"].iter().any(|key| {
        ['"', '\''].iter().any(|quote| {
            let key = format!("{quote}{key}{quote}");
            text.match_indices(&key).any(|(at, _)| {
                let is_key = text[at + key.len()..].trim_start().starts_with(':');
                is_key && (start.starts_with(&key) || text[..at].contains('{'))
            })
        })
    })
}

/// serde_json's reason without the position, because the message quotes the line.
fn plain_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

fn quoted(text: &str) -> String {
    let text = text.trim();
    let mut short: String = text.chars().take(QUOTED_MAX).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
#[path = "metric_lines_tests.rs"]
mod tests;
