//! Machines: the kinds of work that one may be unable to do, and what failures say about it.
//!
//! A machine is what workers that were started alike on one host share: see `worker/src/machine/identity.rs`. A machine's fault costs no trial an
//! attempt; the machine gets no more trials of that kind for a while, and then one at a time until one succeeds.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::job::{Blame, Timestamp};
use crate::requirements::{Abilities, Requirements};
use crate::trial::Work;

/// How long a machine that was quarantined gets no trials of that kind.
pub const QUARANTINE: Duration = Duration::from_secs(600);
/// How many attempts in a row may fail on a machine, for reasons that may be its own, before it is quarantined.
pub const FAILURES_IN_ROW_MAX: u32 = 5;

/// A kind of work that a machine may be unable to do while it can do others. Its text is what databases store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkKind {
    /// Programs that sweeps name.
    Commands,
    /// Training on this dataset.
    Dataset(String),
    /// Training from these pretrained weights.
    Weights(String),
    /// Training on its devices.
    Device,
}

impl WorkKind {
    /// The kinds that trials of this work are; the first is the one that a failure without a closer description is about.
    pub fn of(work: &Work) -> Vec<Self> {
        match work {
            Work::Command(_) => vec![Self::Commands],
            Work::Finetune(settings) => {
                let weights = work.weights().map(|name| Self::Weights(name.to_owned()));
                let dataset = Self::Dataset(settings.dataset.name.clone());
                [dataset, Self::Device].into_iter().chain(weights).collect()
            }
        }
    }
}

impl fmt::Display for WorkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commands => f.write_str("commands"),
            Self::Dataset(name) => write!(f, "dataset {name}"),
            Self::Weights(name) => write!(f, "weights {name}"),
            Self::Device => f.write_str("devices"),
        }
    }
}

impl FromStr for WorkKind {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "commands" => Self::Commands,
            "devices" => Self::Device,
            other => match other.strip_prefix("weights ") {
                Some(name) => Self::Weights(name.to_owned()),
                None => Self::Dataset(other.strip_prefix("dataset ").unwrap_or(other).to_owned()),
            },
        })
    }
}

/// What is held against a machine for one kind of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The machine.
    pub machine: String,
    /// The kind of work.
    pub kind: WorkKind,
    /// How many attempts in a row failed there.
    pub failures_in_row: u32,
    /// When its quarantine is over, if it is or was quarantined.
    pub until: Option<Timestamp>,
    /// One line about the last failure.
    pub reason: String,
}

/// Whether a machine gets trials of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Like any other.
    Fit,
    /// One, to see whether it is fit again.
    OnTrial,
    /// None.
    Quarantined,
}

impl Fault {
    /// What is held against a machine of which nothing is known.
    pub fn none(machine: &str, kind: &WorkKind) -> Self {
        Self {
            machine: machine.to_owned(),
            kind: kind.clone(),
            failures_in_row: 0,
            until: None,
            reason: String::new(),
        }
    }

    /// The machine's standing.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match self.until {
            None => Standing::Fit,
            Some(until) if until > now => Standing::Quarantined,
            Some(_) => Standing::OnTrial,
        }
    }

    /// Its quarantine in words, with the time that is left.
    pub fn quarantine(&self, now: Timestamp) -> String {
        let left = self.until.map_or(Duration::ZERO, |until| until.since(now));
        format!("quarantined for {} for {} min: {}", self.kind, left.as_secs().div_ceil(60), self.reason)
    }

    /// What keeps its machine from trials of this kind, or did until it was tried again; none for one that is fit.
    pub fn held_against(&self, now: Timestamp) -> Option<String> {
        let Self { machine, kind, reason, .. } = self;
        match self.standing(now) {
            Standing::Fit => None,
            Standing::OnTrial => Some(format!("machine {machine} was quarantined for {kind}: {reason}")),
            Standing::Quarantined => Some(format!("machine {machine} is {}", self.quarantine(now))),
        }
    }

    /// What another failure makes of it. `others_fit`: another machine may run such trials. The last one that may is quarantined only for
    /// faults that are certainly its own: if all trials fail everywhere, the fault is theirs, and their retry policies end them.
    #[must_use]
    pub fn after_failure(self, blame: Blame, others_fit: bool, now: Timestamp, message: &str) -> Self {
        let failures_in_row = self.failures_in_row.saturating_add(1);
        let (quarantined, reason) = match blame {
            Blame::Machine | Blame::Device => (true, message.to_owned()),
            Blame::Trial | Blame::Unknown | Blame::TrialOnDevice | Blame::Nobody => (
                others_fit && (failures_in_row >= FAILURES_IN_ROW_MAX || self.until.is_some()),
                format!("its last {failures_in_row} attempts failed, the last one with: {message}"),
            ),
        };
        let until = if quarantined { Some(now.plus(QUARANTINE)) } else { self.until };
        Self { failures_in_row, until, reason, ..self }
    }
}

/// A worker that may run trials, as far as its machine's fitness goes.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The worker's id.
    pub worker: &'a str,
    /// Its machine.
    pub machine: &'a str,
    /// What it can do.
    pub abilities: &'a Abilities,
}

/// Whether a worker may run trials with these requirements, of these kinds.
pub fn is_fit(
    candidate: Candidate<'_>,
    require: &Requirements,
    kinds: &[WorkKind],
    faults: &[Fault],
    now: Timestamp,
) -> bool {
    let named = require.worker.as_deref().is_none_or(|worker| worker == candidate.worker);
    let quarantined = faults.iter().any(|fault| {
        fault.machine == candidate.machine
            && kinds.contains(&fault.kind)
            && fault.standing(now) == Standing::Quarantined
    });
    named && !quarantined && candidate.abilities.meet(require)
}

/// Why trials wait that no machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldUp {
    /// One line.
    pub reason: String,
    /// Whether only a user's action, or the end of a quarantine, can change that: a machine that could run them is quarantined, and no
    /// other is there.
    pub stuck: bool,
}

/// Why trials with these requirements, of these kinds, do not run; none if one of these workers may run them.
pub fn held_up(
    workers: &[Candidate<'_>],
    require: &Requirements,
    kinds: &[WorkKind],
    faults: &[Fault],
    now: Timestamp,
) -> Option<HeldUp> {
    if workers.iter().any(|worker| is_fit(*worker, require, kinds, faults, now)) {
        return None;
    }
    let mut reasons: Vec<String> = Vec::new();
    let quarantines = faults
        .iter()
        .filter(|fault| kinds.contains(&fault.kind) && fault.standing(now) == Standing::Quarantined);
    reasons.extend(quarantines.filter_map(|fault| fault.held_against(now)));
    let stuck = !reasons.is_empty();
    for lack in workers.iter().filter_map(|worker| worker.abilities.lack(require)) {
        let lack = lack.of_all();
        if !reasons.contains(&lack) {
            reasons.push(lack);
        }
    }
    if reasons.is_empty() {
        reasons.push("no worker is there".to_owned());
    }
    Some(HeldUp { reason: reasons.join("; "), stuck })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn clean() -> Fault {
        Fault::none("a", &WorkKind::Commands)
    }

    #[test]
    fn a_machines_own_fault_quarantines_it_at_once_even_if_it_is_the_last() {
        let fault = clean().after_failure(Blame::Machine, false, NOW, "python3 was not found");
        assert_eq!(
            (fault.standing(NOW), fault.reason.as_str()),
            (Standing::Quarantined, "python3 was not found")
        );
        let later = NOW.plus(QUARANTINE);
        assert_eq!(fault.standing(later), Standing::OnTrial);
        assert_eq!(
            [NOW, later].map(|now| fault.held_against(now).unwrap()),
            [
                "machine a is quarantined for commands for 10 min: python3 was not found",
                "machine a was quarantined for commands: python3 was not found"
            ]
        );
        assert_eq!(clean().held_against(NOW), None);
        // It failed again when it was tried.
        assert_eq!(
            fault.after_failure(Blame::Machine, true, later, "x").standing(later),
            Standing::Quarantined
        );
    }

    #[test]
    fn unknown_faults_count_and_never_quarantine_the_last_one() {
        let mut fault = clean();
        for _ in 1..FAILURES_IN_ROW_MAX {
            fault = fault.after_failure(Blame::Unknown, true, NOW, "exit 1");
            assert_eq!(fault.standing(NOW), Standing::Fit);
        }
        let alone = fault.clone().after_failure(Blame::Unknown, false, NOW, "exit 1");
        assert_eq!(alone.standing(NOW), Standing::Fit);
        let beside = fault.after_failure(Blame::Unknown, true, NOW, "exit 1");
        assert_eq!(beside.standing(NOW), Standing::Quarantined);
        let later = NOW.plus(QUARANTINE);
        // One trial was tried, and failed.
        assert_eq!(
            beside.after_failure(Blame::Unknown, true, later, "exit 1").standing(later),
            Standing::Quarantined
        );
    }

    #[test]
    fn kinds_of_work_survive_storage() {
        let names = ["commands", "weights x"];
        let named =
            names.map(|name| [WorkKind::Dataset(name.into()), WorkKind::Weights(name.into())]).concat();
        for kind in [WorkKind::Commands, WorkKind::Device].into_iter().chain(named) {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
    }

    #[test]
    fn what_holds_trials_up_is_named() {
        let (able, unable) = (Abilities { commands: true, ..Abilities::default() }, Abilities::default());
        let require = Requirements { commands: true, ..Requirements::default() };
        let bad = [clean().after_failure(Blame::Machine, true, NOW, "python3 was not found")];
        let worker = |machine, abilities| Candidate { worker: "w", machine, abilities };
        let held = |workers: &[Candidate<'_>], faults: &[Fault]| {
            held_up(workers, &require, &[WorkKind::Commands], faults, NOW)
                .map(|held| (held.reason, held.stuck))
        };
        assert_eq!(held(&[worker("b", &able)], &bad), None);
        assert_eq!(held(&[], &[]), Some(("no worker is there".to_owned(), false)));
        assert_eq!(
            held(&[worker("c", &unable), worker("d", &unable)], &[]),
            Some(("no worker allows commands".to_owned(), false))
        );
        let quarantined = "machine a is quarantined for commands for 10 min: python3 was not found";
        for workers in [&[worker("a", &able)][..], &[]] {
            assert_eq!(held(workers, &bad), Some((quarantined.to_owned(), true)));
        }
        assert_eq!(
            held(&[worker("a", &able), worker("c", &unable)], &bad),
            Some((format!("{quarantined}; no worker allows commands"), true))
        );
    }

    #[test]
    fn fit_is_who_may_run_it_and_is_not_quarantined_for_it() {
        let able = Abilities { commands: true, ..Abilities::default() };
        let require = Requirements { commands: true, ..Requirements::default() };
        let bad = clean().after_failure(Blame::Machine, true, NOW, "x");
        let fit = |machine, abilities: &Abilities, kinds: &[WorkKind]| {
            is_fit(
                Candidate { worker: "w", machine, abilities },
                &require,
                kinds,
                std::slice::from_ref(&bad),
                NOW,
            )
        };
        assert!(fit("b", &able, &[WorkKind::Commands]));
        assert!(!fit("a", &able, &[WorkKind::Commands]));
        assert!(fit("a", &able, &[WorkKind::Device]));
        assert!(!fit("b", &Abilities::default(), &[WorkKind::Commands]));
    }
}
