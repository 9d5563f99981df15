//! Random search: settings that are drawn once, when their sweep is submitted, and are stored with it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::parameters::{Parameters, Scalar, number};
use crate::random::{Purpose, stream, uniform_below, uniform_f64};

/// How often more is drawn than is asked for, to find settings that differ.
const TRIES: u64 = 100;

/// `[random]` of a sweep file, and what was drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSearch {
    /// The seed of the draws.
    pub seed: u64,
    /// Where the values of each name come from.
    pub ranges: BTreeMap<String, Range>,
    /// What was drawn: each a setting with all its values, all different.
    pub draws: Vec<Parameters>,
}

/// Where a value is drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Range {
    /// All numbers between two are equally likely.
    Uniform(Bounds),
    /// All logarithms of numbers between two are.
    LogUniform(Bounds),
    /// All of these values are.
    Choice(Vec<Scalar>),
}

/// Two numbers, and what is drawn between them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
    /// Whether numbers are rounded down to whole ones.
    pub whole: bool,
}

impl RandomSearch {
    /// The first so many draws that differ. Draw `i` of a name depends on the seed, the name and `i` only, so that more draws of the same
    /// ranges add to the first. There are fewer where no more differ.
    pub fn drawn(seed: u64, ranges: BTreeMap<String, Range>, count: usize) -> Self {
        let (mut draws, mut known) = (Vec::new(), HashSet::new());
        for index in 0..(count as u64).saturating_mul(TRIES) {
            if draws.len() == count {
                break;
            }
            let values = ranges.iter().map(|(name, range)| (name.clone(), range.draw(seed, name, index)));
            let draw: Parameters = values.collect();
            if known.insert(format!("{draw:?}")) {
                draws.push(draw);
            }
        }
        Self { seed, ranges, draws }
    }

    /// These draws, and those of a search with more of them; none where they are drawn from something else.
    pub fn grown_by(&self, new: &Self) -> Option<Self> {
        let alike = (self.seed, &self.ranges) == (new.seed, &new.ranges);
        let more = new.draws.iter().skip(self.draws.len()).cloned();
        let draws = || self.draws.iter().cloned().chain(more).collect();
        alike.then(|| Self { draws: draws(), ..self.clone() })
    }
}

impl Range {
    fn draw(&self, seed: u64, name: &str, index: u64) -> Scalar {
        let hash = blake3::hash(name.as_bytes());
        let [mut domain, mut position] = [[0_u8; 8]; 2];
        domain[..4].copy_from_slice(&hash.as_bytes()[..4]);
        position.copy_from_slice(&hash.as_bytes()[8..16]);
        let domain = u64::from_le_bytes(domain) as u32;
        let mut rng = stream(seed, Purpose::RandomSearch, domain, index, u64::from_le_bytes(position));
        match self {
            Self::Choice(values) => {
                // Smaller than a length of a list in memory.
                let place = uniform_below(&mut rng, values.len() as u64) as usize;
                values.get(place).cloned().unwrap_or(Scalar::Flag(false))
            }
            Self::Uniform(bounds) => bounds.at(uniform_f64(&mut rng), |x| x, |x| x),
            Self::LogUniform(bounds) => bounds.at(uniform_f64(&mut rng), f64::log10, |x| 10_f64.powf(x)),
        }
    }
}

impl Bounds {
    /// The number at this part of the way, on a scale: a whole one, or of six digits, so that every machine comes to the same.
    fn at(self, part: f64, to: impl Fn(f64) -> f64, from: impl Fn(f64) -> f64) -> Scalar {
        let Self { low, high, whole } = self;
        let value = from(to(low) + (to(high) - to(low)) * part).clamp(low, high);
        let value = if whole {
            value.floor()
        } else {
            format!("{value:.5e}").parse().unwrap_or(value).clamp(low, high)
        };
        Scalar::Number(value.into())
    }
}

/// In the words of a sweep file.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, Bounds { low, high, whole }) = match self {
            Self::Choice(values) => return write!(f, "{{ choice = {values:?} }}"),
            Self::Uniform(bounds) => ("uniform", bounds),
            Self::LogUniform(bounds) => ("log_uniform", bounds),
        };
        let whole = if *whole { ", whole = true" } else { "" };
        write!(f, "{{ {kind} = [{}, {}]{whole} }}", number(*low), number(*high))
    }
}

/// In one line.
impl fmt::Display for RandomSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} draws with seed {}", self.draws.len(), self.seed)?;
        self.ranges.iter().try_for_each(|(name, range)| write!(f, ", {name} = {range}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> BTreeMap<String, Range> {
        let bounds = |low, high, whole| Bounds { low, high, whole };
        let numbers =
            |numbers: &[f64]| numbers.iter().map(|number| Scalar::Number((*number).into())).collect();
        BTreeMap::from([
            ("lr".to_owned(), Range::LogUniform(bounds(1e-5, 1e-3, false))),
            ("batch".to_owned(), Range::LogUniform(bounds(8.0, 45.3, true))),
            ("wide".to_owned(), Range::Uniform(bounds(-1.0, 3.0, false))),
            ("dropout".to_owned(), Range::Choice(numbers(&[0.0, 0.1, 0.5]))),
        ])
    }

    #[test]
    fn values_fill_their_ranges_evenly() {
        let search = RandomSearch::drawn(7, ranges(), 4_000);
        let of = |name: &str| -> Vec<f64> {
            search.draws.iter().map(|draw| draw[name].as_number().unwrap()).collect()
        };
        let share = |name: &str, below: f64| {
            of(name).iter().filter(|value| **value < below).count() as f64 / search.draws.len() as f64
        };
        assert_eq!(search.draws.len(), 4_000);
        for (name, low, high, middle, part) in [
            ("lr", 1e-5, 1e-3, 1e-4, 0.5),
            ("wide", -1.0, 3.0, 0.0, 0.25),
            ("batch", 8.0, 45.0, 16.0, 2_f64.ln() / (45.3_f64 / 8.0).ln()),
            ("dropout", 0.0, 0.5, 0.3, 2.0 / 3.0),
        ] {
            assert!(of(name).iter().all(|value| (low..=high).contains(value)), "{name}");
            assert!((share(name, middle) - part).abs() < 0.03, "{name}: {}", share(name, middle));
        }
        assert!(of("batch").iter().all(|value| value.fract() == 0.0));
    }

    #[test]
    fn a_draw_depends_on_seed_name_and_number_only() {
        let few = RandomSearch::drawn(7, ranges(), 5);
        let more = RandomSearch::drawn(7, ranges(), 50);
        assert_eq!(few.draws, more.draws[..5]);
        assert_ne!(RandomSearch::drawn(8, ranges(), 5).draws, few.draws);
        let mut one = ranges();
        one.retain(|name, _| name == "lr");
        let alone = RandomSearch::drawn(7, one, 5);
        assert!(alone.draws.iter().zip(&few.draws).all(|(alone, all)| alone["lr"] == all["lr"]));
        // What is stored stays, and fewer draws take nothing away.
        assert_eq!(few.grown_by(&more).unwrap(), more);
        assert_eq!(more.grown_by(&few).unwrap(), more);
        assert_eq!(few.grown_by(&alone), None);
    }

    #[test]
    fn settings_that_were_drawn_before_are_passed_over() {
        let mut one = ranges();
        one.retain(|name, _| name == "dropout");
        let search = RandomSearch::drawn(0, one, 10);
        assert_eq!(search.draws.len(), 3);
    }

    #[test]
    fn the_draws_are_pinned() {
        // Sweeps store what was drawn, but a file that is submitted again with more draws goes on from here.
        let search = RandomSearch::drawn(0, ranges(), 1);
        assert_eq!(format!("{:?}", search.draws[0]), PINNED);
    }
    const PINNED: &str = r#"{"batch": 38.0, "dropout": 0.1, "lr": 0.000549552, "wide": -0.268288}"#;
}
