//! The metrics that a command prints: JSON objects, one a line, on its standard output (docs/commands.md).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};
use sortie_core::command::CommandSettings;
use sortie_core::job::Outcome;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName, TrainingLoss};

use sortie_core::pipe::Event;
use sortie_core::pipe::Progress;

/// Evaluations of one attempt that are accepted: some 40 MiB of memory, by which repeated ones are found.
const EVALUATIONS_MAX: usize = 1_000_000;
/// Names of domains that one attempt may use.
const DOMAINS_MAX: usize = 10_000;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 200;
/// Integers above this are not exact everywhere that reads JSON.
const INTEGER_MAX: u64 = 1 << 53;
/// Characters of a refused line that its fault quotes.
const QUOTED_MAX: usize = 200;

/// Reads the lines of one attempt, in their order.
#[derive(Debug)]
pub(crate) struct MetricLines {
    /// Those of the sweep, in its order, or those that were named so far.
    domains: Vec<String>,
    domains_are_open: bool,
    last_step: Option<u64>,
    /// Which evaluations were reported: step, method, domain, split.
    reported: BTreeSet<(u64, Method, usize, SplitName)>,
    newest_step: Option<u64>,
    newest_loss: Option<u64>,
    diverged: bool,
}

impl MetricLines {
    /// For a trial of this command.
    pub(crate) fn new(settings: &CommandSettings) -> Self {
        let domains = settings.domains.clone();
        Self {
            domains_are_open: domains.is_empty(),
            domains,
            last_step: settings.steps,
            reported: BTreeSet::new(),
            newest_step: None,
            newest_loss: None,
            diverged: false,
        }
    }

    /// The events of a line; none if it is plain output.
    ///
    /// # Errors
    /// One line that names the fault, when it is a metric that breaks the schema.
    pub(crate) fn read(&mut self, line: &[u8]) -> Result<Option<Vec<Event>>, String> {
        let Some(text) = metric(line).filter(|_| !self.diverged) else {
            return Ok(None);
        };
        let events = serde_json::from_str(&text)
            .map_err(|error| plain_reason(&error))
            .and_then(|line| self.events(line));
        events.map(Some).map_err(|reason| {
            format!("the command printed a metric that breaks the schema: {reason}: {}", quoted(line))
        })
    }

    fn events(&mut self, line: MetricLine) -> Result<Vec<Event>, String> {
        let MetricLine { step, domain, split, n, correct, value, method, loss, diverged } = line;
        let is_evaluation = domain.is_some()
            || split.is_some()
            || n.is_some()
            || correct.is_some()
            || value.is_some()
            || method.is_some();
        if let Some(Diverged { step: at }) = diverged {
            if step.is_some() || is_evaluation || loss.is_some() {
                return Err("\"diverged\" excludes all other keys".to_owned());
            }
            return self.divergence(at);
        }
        let step = step.ok_or("\"step\" must be an integer, at least 0")?;
        if matches!(loss, Some(Number::NotFinite)) {
            return self.divergence(step);
        }
        self.check_step(step)?;
        let loss = loss.and_then(Number::finite);
        let mut events = Vec::new();
        if is_evaluation {
            let domain = domain.ok_or("an evaluation needs \"domain\"")?;
            let split = split.ok_or("an evaluation needs \"split\"")?;
            let score = score(n, correct, value)?;
            let method = method.unwrap_or(Method::Plain);
            self.note_evaluation(step, method, &domain, split)?;
            events.push(Event::Evaluations(vec![Evaluation { method, step, domain, split, score, loss }]));
        } else if let Some(loss) = loss {
            if let Some(newest) = self.newest_loss.filter(|newest| *newest >= step) {
                return Err(format!(
                    "the training loss of step {step} comes after that of step {newest}; steps must ascend"
                ));
            }
            self.newest_loss = Some(step);
            events.push(Event::Losses(vec![TrainingLoss { step, loss }]));
        }
        if self.newest_step.is_none_or(|newest| newest < step) {
            self.newest_step = Some(step);
            events.push(Event::Progress(Progress { step }));
        }
        Ok(events)
    }

    fn divergence(&mut self, step: u64) -> Result<Vec<Event>, String> {
        self.check_step(step)?;
        self.diverged = true;
        Ok(vec![Event::Outcome(Outcome::Diverged { step })])
    }

    fn check_step(&self, step: u64) -> Result<(), String> {
        match self.last_step {
            Some(last) if step > last => Err(format!("step {step} is after the sweep's last step, {last}")),
            None if step > INTEGER_MAX => {
                Err(format!("step {step} is too large; the largest allowed is {INTEGER_MAX}"))
            }
            _ => Ok(()),
        }
    }

    fn note_evaluation(
        &mut self,
        step: u64,
        method: Method,
        domain: &str,
        split: SplitName,
    ) -> Result<(), String> {
        let known = self.domains.iter().position(|known| known == domain);
        let index = match known {
            Some(index) => index,
            None if !self.domains_are_open => {
                return Err(format!(
                    "domain {domain:?} is not allowed; allowed: {}",
                    self.domains.join(", ")
                ));
            }
            None if !is_plain(domain) => {
                return Err(format!(
                    "domain {domain:?} is not allowed: a name has 1 to {NAME_BYTES_MAX} bytes, no '/', '\\', '+' or control character, and no leading '.'"
                ));
            }
            None if self.domains.len() >= DOMAINS_MAX => {
                return Err(format!(
                    "domain {domain:?} is one too many: at most {DOMAINS_MAX} domains are allowed"
                ));
            }
            None => {
                self.domains.push(domain.to_owned());
                self.domains.len() - 1
            }
        };
        if self.reported.len() >= EVALUATIONS_MAX {
            return Err(format!("too many evaluations: at most {EVALUATIONS_MAX} are allowed"));
        }
        if !self.reported.insert((step, method, index, split)) {
            return Err(format!(
                "the {method} evaluation of {domain}/{split} at step {step} was reported before"
            ));
        }
        Ok(())
    }
}

fn score(n: Option<u64>, correct: Option<u64>, value: Option<Number>) -> Result<Score, String> {
    if n.is_some_and(|n| n > INTEGER_MAX) {
        return Err(format!("\"n\" is too large; the largest allowed is {INTEGER_MAX}"));
    }
    let score = match (n, correct, value) {
        (_, Some(_), Some(_)) => return Err("\"correct\" and \"value\" exclude each other".to_owned()),
        (Some(n), Some(correct), None) => Score::Counts { n, correct },
        (None, Some(_), None) => return Err("\"correct\" needs \"n\"".to_owned()),
        (n, None, Some(value)) => {
            let value = value.finite().ok_or("\"value\" must be finite")?;
            Score::Value { value, n: n.unwrap_or(0) }
        }
        (_, None, None) => return Err("an evaluation needs \"n\" and \"correct\", or \"value\"".to_owned()),
    };
    match score.fault() {
        Some(fault) => Err(fault),
        None => Ok(score),
    }
}

/// As names of domains in sweep files.
fn is_plain(name: &str) -> bool {
    let odd = |c: char| c.is_control() || ['/', '\\', '+'].contains(&c);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && !name.contains(odd)
}

/// The line as strict JSON, if it is an object with a `step` or a `diverged`.
fn metric(line: &[u8]) -> Option<Cow<'_, str>> {
    let line = line.trim_ascii();
    if line.first() != Some(&b'{') {
        return None;
    }
    let text = quote_non_numbers(std::str::from_utf8(line).ok()?);
    let keys: BTreeMap<String, IgnoredAny> = serde_json::from_str(&text).ok()?;
    (keys.contains_key("step") || keys.contains_key("diverged")).then_some(text)
}

/// Puts quotes around what Python's json module prints for floats that are not finite, which is no JSON.
fn quote_non_numbers(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 16);
    let (mut rest, mut inside) = (text, false);
    while let Some(first) = rest.chars().next() {
        let word = WORDS.into_iter().find(|word| !inside && rest.starts_with(word));
        let taken = match word {
            Some(word) => word.len(),
            // An escaped quote does not end a string.
            None if inside && first == '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            None => first.len_utf8(),
        };
        inside ^= word.is_none() && first == '"';
        let mark = if word.is_some() { "\"" } else { "" };
        quoted.extend([mark, &rest[..taken], mark]);
        rest = &rest[taken..];
    }
    Cow::Owned(quoted)
}

/// serde_json's reason without the position, because the message quotes the line.
fn plain_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

fn quoted(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.trim_ascii());
    let mut short: String = text.chars().take(QUOTED_MAX).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricLine {
    step: Option<u64>,
    domain: Option<String>,
    split: Option<SplitName>,
    n: Option<u64>,
    correct: Option<u64>,
    value: Option<Number>,
    method: Option<Method>,
    loss: Option<Number>,
    diverged: Option<Diverged>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Diverged {
    step: u64,
}

/// A float, perhaps one that JSON cannot write.
#[derive(Clone, Copy, Debug)]
enum Number {
    Finite(f64),
    NotFinite,
}

impl Number {
    fn finite(self) -> Option<f64> {
        if let Self::Finite(value) = self { Some(value) } else { None }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
        Ok(Number::Finite(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
        Ok(Number::Finite(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
        Ok(if value.is_finite() { Number::Finite(value) } else { Number::NotFinite })
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Number, E> {
        match value {
            "NaN" | "Infinity" | "-Infinity" => Ok(Number::NotFinite),
            _ => Err(E::invalid_type(serde::de::Unexpected::Str(value), &self)),
        }
    }
}

#[cfg(test)]
#[path = "metric_lines_tests.rs"]
mod tests;
