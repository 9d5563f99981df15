//! Inputs of trials: datasets and pretrained weights, which sweeps know by name. What a name means is found out from machines: each reports
//! the digest of what it has there. One that two machines report counts; between two single machines a user decides.

use std::fmt;

use crate::machine::WorkKind;
use crate::named;
use crate::trial::Work;

/// Digests that are remembered of one name: machines that disagree even more are no help to whoever decides.
const DIGESTS_MAX: usize = 16;
/// Digits of a digest in a line for people.
const DIGITS_SHOWN: usize = 16;

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InputKind {
    /// The images of a dataset.
    Dataset,
    /// Pretrained weights.
    Weights,
}
named!(InputKind, "kind of input", { Dataset => "dataset", Weights => "weights" });

/// A dataset or pretrained weights, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input {
    /// What it is.
    pub kind: InputKind,
    /// The name that sweeps know it by.
    pub name: String,
}

impl Input {
    /// Those of trials of this work.
    pub fn of(work: &Work) -> Vec<Self> {
        let input = |kind, name: &str| Self { kind, name: name.to_owned() };
        let dataset = work.dataset().map(|name| input(InputKind::Dataset, name));
        let weights = work.weights().map(|name| input(InputKind::Weights, name));
        dataset.into_iter().chain(weights).collect()
    }

    /// The kind of work that a machine with something else under the name cannot do.
    pub fn work_kind(&self) -> WorkKind {
        match self.kind {
            InputKind::Dataset => WorkKind::Dataset(self.name.clone()),
            InputKind::Weights => WorkKind::Weights(self.name.clone()),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A digest that was reported for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its place among those of the name: 0, 1, 2, ... as they came.
    pub place: u64,
    /// The digest.
    pub digest: String,
    /// The machine that reported it first; empty for one that only a user named.
    pub machine: String,
    /// Whether it counts: a second machine reported it, too, or a user said so.
    pub confirmed: bool,
    /// Whether an attempt with it gave a result.
    pub used: bool,
}

/// What a machine's digest is, beside those that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be, as far as is known. These machines have others, which do not count from now on.
    Fits {
        /// Empty but where this report decided between machines.
        odd: Vec<String>,
    },
    /// The machine has another one than the one that counts.
    Odd {
        /// That one.
        pinned: String,
    },
    /// The machine has another one than that with which it gave results itself.
    Changed {
        /// That one.
        earlier: String,
    },
    /// Another machine has another one, and nobody knows which of them is right.
    Disputed,
}

/// The digests of one name, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins(pub Vec<Pin>);

impl Pins {
    /// Takes up what a machine reports.
    pub fn report(&mut self, machine: &str, digest: &str) -> Verdict {
        if let Some(pin) = self.confirmed() {
            let (pinned, fits) = (pin.digest.clone(), pin.digest == digest);
            return if fits { Verdict::Fits { odd: Vec::new() } } else { Verdict::Odd { pinned } };
        }
        if let Some(index) = self.0.iter().position(|pin| pin.digest == digest) {
            if self.0[index].machine != machine {
                self.0[index].confirmed = true;
                let others = self.drop_others(digest).into_iter().map(|pin| pin.machine);
                return Verdict::Fits { odd: others.filter(|other| other != machine).collect() };
            }
        } else if let Some(own) = self.0.iter_mut().find(|pin| pin.machine == machine) {
            if own.used {
                return Verdict::Changed { earlier: own.digest.clone() };
            }
            // It has no result with the other one: its user has changed something.
            own.digest = digest.to_owned();
        } else if self.0.len() < DIGESTS_MAX {
            let place = self.0.last().map_or(0, |last| last.place + 1);
            let (machine, digest) = (machine.to_owned(), digest.to_owned());
            self.0.push(Pin { place, digest, machine, confirmed: false, used: false });
        }
        // What runs on the machine that was first goes on: no result is taken back either.
        let is_first = self.0.first().is_some_and(|first| first.digest == digest);
        if is_first { Verdict::Fits { odd: Vec::new() } } else { Verdict::Disputed }
    }

    /// Notes that an attempt with this digest gave a result.
    pub fn note_result(&mut self, digest: &str) {
        for pin in self.0.iter_mut().filter(|pin| pin.digest == digest) {
            pin.used = true;
        }
    }

    /// A user says that this one counts. Gives the others, which are forgotten.
    pub fn confirm(&mut self, digest: &str) -> Vec<Pin> {
        match self.0.iter_mut().find(|pin| pin.digest == digest) {
            Some(pin) => pin.confirmed = true,
            None => {
                let place = self.0.last().map_or(0, |last| last.place + 1);
                let (digest, machine) = (digest.to_owned(), String::new());
                self.0.push(Pin { place, digest, machine, confirmed: true, used: false });
            }
        }
        self.drop_others(digest)
    }

    fn drop_others(&mut self, digest: &str) -> Vec<Pin> {
        let (kept, others) = std::mem::take(&mut self.0).into_iter().partition(|pin| pin.digest == digest);
        self.0 = kept;
        others
    }

    /// The one that counts.
    pub fn confirmed(&self) -> Option<&Pin> {
        self.0.iter().find(|pin| pin.confirmed)
    }

    /// Why trials that need this input are held; none if they are not.
    pub fn dispute(&self, input: &Input) -> Option<String> {
        if self.confirmed().is_some() || self.0.len() < 2 {
            return None;
        }
        let has = |pin: &Pin| format!("machine {} has digest {}", pin.machine, shown(&pin.digest));
        let machines: Vec<String> = self.0.iter().map(has).collect();
        let name = &input.name;
        Some(format!(
            "machines disagree about {input}: {}; `sortie pin {name} DIGEST` says which one counts, `sortie unpin {name}` forgets them",
            machines.join(", ")
        ))
    }
}

/// Why trials that read these inputs are held; none if they are not.
pub fn dispute(inputs: &[Input], pins: &[(Input, Pins)]) -> Option<String> {
    let mut theirs = pins.iter().filter(|(input, _)| inputs.contains(input));
    theirs.find_map(|(input, pins)| pins.dispute(input))
}

/// The first digits of a digest, for people.
pub fn shown(digest: &str) -> &str {
    &digest[..digest.floor_char_boundary(DIGITS_SHOWN)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FITS: Verdict = Verdict::Fits { odd: Vec::new() };

    fn odd(pinned: &str) -> Verdict {
        Verdict::Odd { pinned: pinned.to_owned() }
    }

    fn input() -> Input {
        Input { kind: InputKind::Dataset, name: "PACS".to_owned() }
    }

    #[test]
    fn a_second_machine_confirms_and_a_third_is_odd() {
        let mut pins = Pins::default();
        assert_eq!(pins.report("m1", "a"), FITS);
        assert!(pins.confirmed().is_none() && pins.dispute(&input()).is_none());
        assert_eq!(pins.report("m2", "a"), FITS);
        assert_eq!(pins.confirmed().map(|pin| pin.digest.as_str()), Some("a"));
        assert_eq!(pins.report("m3", "b"), odd("a"));
        // Also one of the two that confirmed it.
        assert_eq!((pins.report("m1", "b"), pins.0.len()), (odd("a"), 1));
    }

    #[test]
    fn two_single_machines_disagree_until_a_third_or_a_user_decides() {
        let mut pins = Pins::default();
        assert_eq!((pins.report("m1", "a"), pins.report("m2", "b")), (FITS, Verdict::Disputed));
        assert_eq!((pins.report("m2", "b"), pins.report("m1", "a")), (Verdict::Disputed, FITS));
        assert_eq!(
            pins.dispute(&input()).unwrap(),
            "machines disagree about dataset PACS: machine m1 has digest a, machine m2 has digest b; `sortie pin PACS DIGEST` says which one counts, `sortie unpin PACS` forgets them"
        );
        let mut by_a_third = pins.clone();
        assert_eq!(by_a_third.report("m3", "b"), Verdict::Fits { odd: vec!["m1".to_owned()] });
        assert_eq!((by_a_third.report("m1", "a"), by_a_third.dispute(&input())), (odd("b"), None));
        // One of them has changed its mind: two have the same.
        let mut agreed = pins.clone();
        assert_eq!((agreed.report("m1", "b"), agreed.0.len()), (FITS, 1));
        let losers = pins.confirm("b");
        assert_eq!((losers.len(), losers[0].machine.as_str()), (1, "m1"));
        assert_eq!((pins.report("m2", "b"), pins.report("m1", "a")), (FITS, odd("b")));
    }

    #[test]
    fn one_machine_alone_may_change_what_it_has_until_it_gave_a_result() {
        let mut pins = Pins::default();
        for digest in ["a", "b", "a", "a"] {
            assert_eq!(pins.report("m1", digest), FITS);
        }
        pins.note_result("a");
        assert_eq!(pins.report("m1", "b"), Verdict::Changed { earlier: "a".to_owned() });
        assert_eq!((pins.report("m1", "a"), pins.0.len()), (FITS, 1));
        // A user says that the new one is right.
        assert_eq!(pins.confirm("b").len(), 1);
        assert_eq!((pins.report("m1", "b"), pins.report("m1", "a")), (FITS, odd("b")));
    }

    #[test]
    fn however_many_disagree_some_are_remembered() {
        let mut pins = Pins::default();
        for machine in 0..100 {
            let verdict = pins.report(&format!("m{machine}"), &format!("{machine}"));
            assert_eq!(verdict, if machine == 0 { FITS } else { Verdict::Disputed });
        }
        assert_eq!(pins.0.len(), DIGESTS_MAX);
        let places: Vec<u64> = pins.0.iter().map(|pin| pin.place).collect();
        assert_eq!(places, (0..DIGESTS_MAX as u64).collect::<Vec<_>>());
    }
}
