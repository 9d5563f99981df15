//! All requests and answers, and what must never be: independent of anything that the store itself keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use sortie_core::job::{Outcome, StateName, Timestamp};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{Batch, Lease};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::spec::SweepSpec;
use sortie_core::trial::SpecHash;

use crate::store::{Store, StoreError};

/// What happened to one attempt, as its worker and its line to the coordinator know.
#[derive(Clone, Debug)]
struct Attempt {
    trial: SpecHash,
    /// When its claim was answered, counted in events.
    issued: u64,
    outcome: Outcome,
    /// All batches that it will ever report, with its end.
    batches: u64,
    /// The highest batch that was acknowledged.
    acknowledged: u64,
    /// The first event at which somebody began to report its end.
    ends: Option<u64>,
    /// Whether that was acknowledged.
    ended: bool,
    /// Whether a power cut may have taken its lease: leases and signs of life are not flushed, but reports are, and all before them.
    undone: bool,
    /// Whether its end was refused as stale.
    refused: bool,
    /// When it last left with a report that was then acknowledged.
    flushed: Option<Timestamp>,
    /// When the last sign of life was given that was then acknowledged.
    alive: Timestamp,
}

/// The whole of one schedule.
#[derive(Debug)]
pub(super) struct Journal {
    lease: Duration,
    events: u64,
    attempts: BTreeMap<AttemptToken, Attempt>,
    newest: BTreeMap<SpecHash, AttemptToken>,
    /// A user called some trial off: then a live attempt may lose it.
    pub(super) cancels: bool,
    trace: DefaultHasher,
    pub(super) violations: Vec<String>,
}

/// A request on its way: what was known when it set out.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestStart {
    event: u64,
    at: Timestamp,
}

/// What an attempt reports in a batch: it shows whose batch it is.
pub(super) fn batch(token: AttemptToken, sequence: u64) -> Batch {
    let correct = (token.0.unsigned_abs() * 31 + sequence * 7) % 1_000;
    let row = |domain: &str| Evaluation {
        method: Method::Plain,
        step: sequence,
        domain: domain.to_owned(),
        split: SplitName::Out,
        score: Some(Score::Counts { n: 1_000, correct }),
        metrics: Default::default(),
        loss: Some(1.0 / token.0 as f64),
        seconds: None,
    };
    let log = format!("{token}:{sequence};").into_bytes();
    Batch { sequence, evaluations: vec![row("photo"), row("sketch")], log, ..Batch::default() }
}

impl Journal {
    pub(super) fn new(lease: Duration) -> Self {
        let (attempts, newest, violations) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { lease, events: 0, attempts, newest, cancels: false, trace: DefaultHasher::new(), violations }
    }

    /// A number that differs where anything differs.
    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    fn note(&mut self, at: Timestamp, what: impl Hash) -> u64 {
        self.events += 1;
        (at, what).hash(&mut self.trace);
        self.events
    }

    fn violated(&mut self, at: Timestamp, rule: String) {
        self.violations.push(format!("at {} ms: {rule}", at.0));
    }

    pub(super) fn departs(&mut self, at: Timestamp) -> RequestStart {
        RequestStart { event: self.note(at, "departs"), at }
    }

    /// A claim was answered with this trial; its attempt will end like this, after so many batches.
    pub(super) fn lease(
        &mut self,
        lease: &Lease,
        left: RequestStart,
        at: Timestamp,
        outcome: Outcome,
        batches: u64,
    ) {
        let issued = self.note(at, ("lease", lease.token.0, lease.spec_hash));
        if let Some(&last) = self.newest.get(&lease.spec_hash) {
            let before = self.attempts[&last].clone();
            if last >= lease.token {
                self.violated(at, format!("attempt {} came after {last}", lease.token));
            }
            let robbed = before.ends.is_none() && at < before.alive.plus(self.lease);
            if robbed && !self.cancels {
                self.violated(
                    at,
                    format!(
                        "attempt {last} was alive at {} ms, and {} has its trial",
                        before.alive.0, lease.token
                    ),
                );
            }
            if before.ended && before.outcome == Outcome::Succeeded {
                self.violated(at, format!("attempt {} runs what {last} had finished", lease.token));
            }
        }
        let newest = self.newest.entry(lease.spec_hash).or_insert(lease.token);
        *newest = (*newest).max(lease.token);
        let (trial, acknowledged, ends, ended) = (lease.spec_hash, 0, None, false);
        let (undone, refused, flushed) = (false, false, None);
        let attempt = Attempt {
            trial,
            issued,
            outcome,
            batches,
            acknowledged,
            ends,
            ended,
            undone,
            refused,
            flushed,
            alive: left.at,
        };
        if self.attempts.insert(lease.token, attempt).is_some() {
            self.violated(at, format!("token {} was issued twice", lease.token));
        }
    }

    /// What the attempt would report as its end.
    pub(super) fn plan(&self, token: AttemptToken) -> (Outcome, u64) {
        let attempt = &self.attempts[&token];
        (attempt.outcome.clone(), attempt.batches)
    }

    /// Whether somebody else had the trial before this request set out.
    fn was_stale(&self, token: AttemptToken, left: RequestStart) -> bool {
        let newest = self.newest.get(&self.attempts[&token].trial);
        newest.is_some_and(|newest| *newest > token && self.attempts[newest].issued < left.event)
    }

    /// The coordinator accepted the attempt as the holder of its trial.
    pub(super) fn alive(&mut self, token: AttemptToken, left: RequestStart, at: Timestamp) {
        self.note(at, ("alive", token.0));
        if self.was_stale(token, left) {
            self.violated(
                at,
                format!("attempt {token} is stale and was accepted as the holder of its trial"),
            );
        }
        self.heard(token, None);
        if let Some(attempt) = self.attempts.get_mut(&token) {
            attempt.alive = attempt.alive.max(left.at);
        }
    }

    pub(super) fn reported(&mut self, token: AttemptToken, sequence: u64, left: RequestStart, at: Timestamp) {
        self.note(at, ("reported", token.0, sequence));
        if self.was_stale(token, left) {
            self.violated(at, format!("attempt {token} is stale and reported batch {sequence}"));
        }
        self.heard(token, Some(left.at));
        if let Some(attempt) = self.attempts.get_mut(&token) {
            attempt.acknowledged = attempt.acknowledged.max(sequence);
            attempt.alive = attempt.alive.max(left.at);
        }
    }

    pub(super) fn says_its_end(&mut self, token: AttemptToken, left: RequestStart) {
        if let Some(attempt) = self.attempts.get_mut(&token) {
            attempt.ends.get_or_insert(left.event);
        }
    }

    /// Attempts of which no report was acknowledged may be gone: then whoever had their trials before has them again. The others are as
    /// they were at their last report.
    pub(super) fn power_was_cut(&mut self) {
        for attempt in self.attempts.values_mut() {
            match attempt.flushed {
                Some(at) => attempt.alive = at,
                None => attempt.undone = true,
            }
        }
        self.newest.clear();
        for (token, attempt) in self.attempts.iter().filter(|(_, attempt)| !attempt.undone) {
            self.newest.insert(attempt.trial, *token);
        }
    }

    /// The attempt was heard: no power cut so far has taken its lease. A report that left at `flushed` sees to it that none will.
    fn heard(&mut self, token: AttemptToken, flushed: Option<Timestamp>) {
        let Some(attempt) = self.attempts.get_mut(&token) else { return };
        attempt.undone = false;
        attempt.flushed = attempt.flushed.max(flushed);
        let newest = self.newest.entry(attempt.trial).or_insert(token);
        *newest = (*newest).max(token);
    }

    pub(super) fn unknown(&mut self, token: AttemptToken, at: Timestamp) {
        if self.attempts.get(&token).is_none_or(|attempt| !attempt.undone) {
            self.violated(at, format!("attempt {token} is not known any more"));
        }
    }

    pub(super) fn refused(&mut self, token: AttemptToken) {
        self.attempts.entry(token).and_modify(|attempt| attempt.refused = true);
    }

    /// A batch came, and the one before it is not there. An attempt that was told that it is stale may send one without the one before;
    /// after a power cut it may hold its trial again.
    pub(super) fn missed(&mut self, token: AttemptToken, sequence: u64, at: Timestamp) {
        let acknowledged =
            self.attempts.get(&token).is_none_or(|attempt| attempt.acknowledged + 1 >= sequence);
        if acknowledged {
            let rule =
                format!("the batch before {sequence} of attempt {token} was acknowledged, and is missed");
            self.violated(at, rule);
        }
    }

    pub(super) fn ended(&mut self, token: AttemptToken, left: RequestStart, at: Timestamp) {
        self.note(at, ("ended", token.0));
        let attempt = self.attempts[&token].clone();
        let newest = self.newest.get(&attempt.trial).copied().unwrap_or(token);
        // It may have ended when it reported its end for the first time, before anybody else had the trial.
        let first = attempt.ends.unwrap_or(left.event);
        if newest > token && self.attempts[&newest].issued < first {
            self.violated(at, format!("attempt {token} is stale and ended"));
        }
        self.heard(token, Some(left.at));
        let same_trial = |(_, other): &(&AttemptToken, &Attempt)| other.trial == attempt.trial && other.ended;
        let twice = self.attempts.iter().filter(same_trial).find(|(other, _)| **other != token);
        if let Some((other, _)) = twice
            .filter(|(_, other)| other.outcome == Outcome::Succeeded && attempt.outcome == Outcome::Succeeded)
        {
            let rule = format!("attempts {other} and {token} both have the result of one trial");
            self.violated(at, rule);
        }
        if let Some(attempt) = self.attempts.get_mut(&token) {
            attempt.ended = true;
            attempt.acknowledged = attempt.batches;
        }
    }

    /// When everything is over: a combination began when its members had a result, and has one only if they have.
    pub(super) async fn check_combinations(
        &mut self,
        spec: &SweepSpec,
        store: &Store,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        for trial in spec.trials() {
            let Some(combination) = &trial.combination else { continue };
            let own = match store.history(&trial.hash().to_string()).await {
                // The sweep was called off before it was stored.
                Err(StoreError::Trial { .. }) => continue,
                own => own?,
            };
            let began =
                own.events.iter().filter(|event| event.what == "started").map(|event| event.at_ms).min();
            for member in &combination.members {
                let history = store.history(&member.to_string()).await?;
                let ended = history
                    .events
                    .iter()
                    .filter(|event| event.what == "succeeded")
                    .map(|event| event.at_ms)
                    .max();
                if own.line.state == StateName::Succeeded && history.line.state != StateName::Succeeded {
                    self.violated(
                        at,
                        format!(
                            "a combination has a result and its member {member} is {}",
                            history.line.state
                        ),
                    );
                }
                if began.is_some_and(|began| ended.is_none_or(|ended| ended > began)) {
                    self.violated(
                        at,
                        format!("a combination began at {began:?}, its member {member} ended at {ended:?}"),
                    );
                }
            }
        }
        Ok(())
    }

    /// When everything is over: what was acknowledged is there, once, and nothing else.
    pub(super) async fn check(&mut self, store: &Store, at: Timestamp) -> Result<(), StoreError> {
        let records = store.records("simulated", 0).await?.rows;
        for record in records {
            let name = record.id.to_string();
            let token = store.history(&name).await?.token;
            let accepted = token.filter(|_| record.state == StateName::Succeeded);
            let batches =
                accepted.map_or(0, |token| self.attempts.get(&token).map_or(0, |attempt| attempt.batches));
            let rows = (1..=batches)
                .flat_map(|sequence| accepted.map(|token| batch(token, sequence).evaluations))
                .flatten();
            let (held_out, validation): (Vec<_>, Vec<_>) =
                rows.partition(|row| record.point.is_held_out(&row.domain));
            if record.validation != validation || record.held_out != held_out {
                self.violated(
                    at,
                    format!("the rows of {name} are not those of {token:?}: {:?}", record.validation),
                );
            }
            if !matches!(
                record.state,
                StateName::Succeeded | StateName::Diverged | StateName::Failed | StateName::Cancelled
            ) {
                self.violated(at, format!("{name} is {} for ever", record.state));
            }
            let attempts: Vec<(AttemptToken, Attempt)> = self
                .attempts
                .iter()
                .filter(|(_, attempt)| attempt.trial == record.id)
                .map(|(token, a)| (*token, a.clone()))
                .collect();
            let tokens: BTreeSet<AttemptToken> = attempts.iter().map(|(token, _)| *token).collect();
            if accepted.is_some_and(|token| !tokens.contains(&token)) {
                self.violated(at, format!("{name} has the result of {accepted:?}, which never had it"));
            }
            for (token, attempt) in attempts {
                if attempt.ended && attempt.outcome == Outcome::Succeeded && accepted != Some(token) {
                    self.violated(at, format!("the acknowledged result of attempt {token} is not that of its trial: {accepted:?}"));
                }
                if attempt.refused && accepted == Some(token) {
                    self.violated(
                        at,
                        format!("the result of attempt {token} counts, and its end was refused as stale"),
                    );
                }
                let log = match store.log_text(&name, Some(token)).await {
                    Err(StoreError::UnknownToken(_)) if attempt.undone => continue,
                    log => String::from_utf8_lossy(&log?).into_owned(),
                };
                let reported = (1..=attempt.batches).map(|sequence| format!("{token}:{sequence};"));
                let prefix: Vec<String> = reported.take(log.matches(';').count()).collect();
                if log != prefix.concat() || (prefix.len() as u64) < attempt.acknowledged {
                    self.violated(
                        at,
                        format!(
                            "attempt {token} had {} batches acknowledged; stored is {log:?}",
                            attempt.acknowledged
                        ),
                    );
                }
            }
        }
        Ok(())
    }
}
