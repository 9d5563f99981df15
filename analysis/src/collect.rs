//! Collects from the trials of a sweep, one by one, the few numbers that tables need, so that a million evaluations are never in memory at
//! once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sortie_core::combine::combine_of;
use sortie_core::job::StateName;
use sortie_core::parameters::Parameters;
use sortie_core::record::TrialRecord;
use sortie_core::selection::{CrossValidation, Outline, Selected, Selection, leave_one_out};
use sortie_core::trial::{MissingClasses, Point, Work};

use crate::metric_spec::{MeasuredPair, Measurement, MetricSpec, OodSplit};
use crate::question::Question;

/// Takes the records of a sweep in any order and computes results. It keeps of each trial its point, its state and its accuracies at the
/// selected step. If leave-one-out selects the step, it keeps the accuracies of every step until all trials are known.
///
/// Results do not depend on the order, with one exception: [`Question::best`] takes the first of settings that are equally good.
#[derive(Debug)]
pub struct Collector {
    pub(crate) sweep: String,
    pub(crate) question: Question,
    pub(crate) spec: MetricSpec,
    /// The domains in the dataset's order.
    known_domains: Vec<String>,
    pub(crate) missing_classes: MissingClasses,
    pub(crate) settings: Interner<Parameters>,
    pub(crate) names: Interner<String>,
    outlines: Interner<Outline>,
    /// The trials that hold out one domain.
    pub(crate) trials: Vec<TrialSummary>,
    undecided: Vec<UndecidedTrial>,
    pairs: Vec<Pair>,
    states: HashMap<StateName, usize>,
    /// The trials that hold out nothing.
    pub(crate) plain: Vec<PlainTrial>,
    /// The steps at which combinations were evaluated.
    pub(crate) combined_steps: BTreeSet<u64>,
}

/// A trial with one held-out domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrialSummary {
    /// The number of its parameters in [`Collector::settings`].
    pub setting: u32,
    /// The number of its held-out domain in [`Collector::names`].
    pub domain: u32,
    pub state: StateName,
    pub seed: u64,
    pub split_seed: u64,
    /// The score by which settings are compared; higher is better. NaN without a selected step.
    pub score: f64,
    pub measured: Option<MeasuredPair>,
}

/// A trial that holds out nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainTrial {
    /// The number of its parameters in [`Collector::settings`].
    pub setting: u32,
    pub state: StateName,
    pub seed: u64,
    pub split_seed: u64,
    /// The score by which settings are compared; higher is better. NaN without a selected step.
    pub score: f64,
    /// The i.i.d. value at the selected step.
    pub value: Option<f64>,
}

/// A trial whose step is not selected yet: see [`Measurement::Undecided`].
#[derive(Debug)]
struct UndecidedTrial {
    trial: usize,
    outline: u32,
    measured: Box<[Option<MeasuredPair>]>,
}

/// The accuracies of a trial with two held-out domains on one of them. They select steps of trials that hold out the other one.
#[derive(Debug)]
struct Pair {
    key: TrialKey,
    validation: CrossValidation,
}

/// Setting, held-out domain and seeds, which together identify a trial.
type TrialKey = (u32, u32, u64, u64);

impl Collector {
    /// A collector of a sweep, by its name and the work of its trials, for a question.
    pub fn new(sweep: &str, work: &Work, question: &Question) -> Self {
        let ood_split = question.ood_split.unwrap_or_else(|| OodSplit::default_for(work));
        let collector = Self::with(sweep, work.domains(), ood_split, question);
        Self { missing_classes: work.missing_classes(), ..collector }
    }

    fn with(sweep: &str, known_domains: &[String], ood_split: OodSplit, question: &Question) -> Self {
        Self {
            sweep: sweep.to_owned(),
            question: question.clone(),
            spec: question.spec(ood_split),
            known_domains: known_domains.to_vec(),
            missing_classes: MissingClasses::default(),
            settings: Interner::default(),
            names: Interner::default(),
            outlines: Interner::default(),
            trials: Vec::new(),
            undecided: Vec::new(),
            pairs: Vec::new(),
            states: HashMap::new(),
            plain: Vec::new(),
            combined_steps: BTreeSet::new(),
        }
    }

    /// A collector with all of these records.
    pub(crate) fn of(sweep: &str, work: &Work, records: &[TrialRecord], question: &Question) -> Self {
        let mut collector = Self::new(sweep, work, question);
        records.iter().for_each(|record| collector.push(record));
        collector
    }

    /// Takes a record. The caller can drop it afterwards.
    pub fn push(&mut self, record: &TrialRecord) {
        let Point { held_out, parameters, seed, split_seed } = &record.point;
        *self.states.entry(record.state).or_default() += 1;
        let setting = self.settings.number(parameters);
        if held_out.len() == 2
            && self.question.selection == Selection::Loo
            && record.state == StateName::Succeeded
        {
            for test in held_out {
                let key = (setting, self.names.number(test), *seed, *split_seed);
                self.pairs.extend(
                    CrossValidation::of(record, test, self.spec.method, &self.spec.metrics.selected_by)
                        .map(|validation| Pair { key, validation }),
                );
            }
        }
        if record.point.combine().is_some() {
            self.combined_steps.extend(record.validation.iter().map(|row| row.step));
        }
        if held_out.is_empty() {
            let (state, measured) = (record.state, self.spec.measure_iid(record));
            let (score, value) = measured.map_or((f64::NAN, None), |(score, value)| (score, Some(value)));
            let (seed, split_seed) = (*seed, *split_seed);
            self.plain.push(PlainTrial { setting, state, seed, split_seed, score, value });
        }
        let [domain] = held_out.as_slice() else { return };
        let (score, measured) = match self.spec.measure(record) {
            Measurement::Missing => (f64::NAN, None),
            Measurement::Selected { score, measured } => (score, measured),
            Measurement::Undecided { outline, measured } => {
                self.undecided.push(UndecidedTrial {
                    trial: self.trials.len(),
                    outline: self.outlines.number(&outline),
                    measured,
                });
                (f64::NAN, None)
            }
        };
        let (domain, state) = (self.names.number(domain), record.state);
        self.trials.push(TrialSummary {
            setting,
            domain,
            state,
            seed: *seed,
            split_seed: *split_seed,
            score,
            measured,
        });
    }

    /// Selects the steps that depend on other trials. All trials must be known.
    pub(crate) fn settle(&mut self) {
        self.pairs.sort_unstable_by_key(|pair| pair.key);
        for UndecidedTrial { trial, outline, measured } in std::mem::take(&mut self.undecided) {
            let trial = &mut self.trials[trial];
            let key = (trial.setting, trial.domain, trial.seed, trial.split_seed);
            let first = self.pairs.partition_point(|pair| pair.key < key);
            let around: Vec<&CrossValidation> = self.pairs[first..]
                .iter()
                .take_while(|pair| pair.key == key)
                .map(|pair| &pair.validation)
                .collect();
            let outline = self.outlines.value(outline);
            if let Some(Selected { step, score }) = leave_one_out(outline, &around)
                && let Ok(at) = outline.steps().binary_search(&step)
            {
                (trial.score, trial.measured) = (score, measured[at]);
            }
        }
    }

    /// The number of trials.
    pub(crate) fn total(&self) -> usize {
        self.states.values().sum()
    }

    /// The number of trials in a state.
    pub(crate) fn count(&self, state: StateName) -> usize {
        self.states.get(&state).copied().unwrap_or_default()
    }

    /// Whether there are trials and none of them holds out a domain.
    pub(crate) fn holds_out_nothing(&self) -> bool {
        self.total() > 0 && self.plain.len() == self.total()
    }

    /// Whether some trials combine others.
    pub(crate) fn has_combined(&self) -> bool {
        self.settings.values().any(|parameters| combine_of(parameters).is_some())
    }

    /// The domains that some trial holds out alone, in the dataset's order. Unknown domains follow by name.
    pub(crate) fn domains(&self) -> Vec<String> {
        let numbers: BTreeSet<u32> = self.trials.iter().map(|trial| trial.domain).collect();
        in_order(&self.known_domains, numbers.into_iter().map(|number| self.names.value(number).clone()))
    }
}

/// Domains without duplicates, in the order of the known ones. Unknown domains follow by name.
pub(crate) fn in_order(known: &[String], domains: impl Iterator<Item = String>) -> Vec<String> {
    let mut domains: Vec<String> = domains.collect();
    let key = |domain: &String| known.iter().position(|known| known == domain).unwrap_or(usize::MAX);
    domains.sort_by_cached_key(|domain| (key(domain), domain.clone()));
    domains.dedup();
    domains
}

/// The records with one held-out domain and accuracies, with their accuracies.
pub(crate) fn measured(spec: MetricSpec, records: &[TrialRecord]) -> Vec<(&TrialRecord, MeasuredPair)> {
    let question = Question { selection: spec.selection, method: spec.method, ..Question::default() };
    let mut collector = Collector::with("", &[], spec.ood_split, &question);
    collector.spec = spec;
    records.iter().for_each(|record| collector.push(record));
    collector.settle();
    let single = records.iter().filter(|record| record.point.held_out.len() == 1);
    single.zip(&collector.trials).filter_map(|(record, trial)| Some((record, trial.measured?))).collect()
}

/// Values that many trials share. Each is kept once and has a number.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    numbers: BTreeMap<Arc<T>, u32>,
    values: Vec<Arc<T>>,
    /// The number of the last value: neighbours often have the same one.
    newest: u32,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), values: Vec::new(), newest: 0 }
    }
}

impl<T: Clone + Ord> Interner<T> {
    /// The number of a value. A new value is kept.
    pub(crate) fn number(&mut self, value: &T) -> u32 {
        if self.values.get(self.newest as usize).is_none_or(|newest| **newest != *value) {
            self.newest = self.numbers.get(value).copied().unwrap_or_else(|| {
                let (kept, number) = (Arc::new(value.clone()), self.values.len() as u32);
                self.values.push(Arc::clone(&kept));
                self.numbers.insert(kept, number);
                number
            });
        }
        self.newest
    }

    /// The value of a number.
    pub(crate) fn value(&self, number: u32) -> &T {
        &self.values[number as usize]
    }

    /// All values, by number.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> + Clone {
        self.values.iter().map(|value| &**value)
    }

    /// The rank of each number's value among all values in sorted order. Ranks do not depend on the order of arrival.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        let mut ranks = vec![0; self.values.len()];
        for (rank, &number) in (0..).zip(self.numbers.values()) {
            ranks[number as usize] = rank;
        }
        ranks
    }
}
