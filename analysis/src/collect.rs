//! Collects from the trials of a sweep, one by one, the few numbers that tables need, so that a million evaluations are never in memory at
//! once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sortie_core::combine::combine_of;
use sortie_core::job::StateName;
use sortie_core::metrics::Method;
use sortie_core::parameters::Parameters;
use sortie_core::record::TrialRecord;
use sortie_core::selection::{CrossValidation, Outline, Selected, Selection, leave_one_out};
use sortie_core::trial::{MissingClasses, Point, SpecHash, Work};

use crate::axis::Axis;
use crate::metric_spec::{MeasuredPair, Measurement, MetricSpec, OodSplit};
use crate::mixed::{Mixed, SweepGroup, SweepSet, row_name};
use crate::question::Question;
use crate::shared::SharedSettings;

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
    /// The sweeps that are read together.
    group: SweepGroup,
    /// Where trials stand in several of them.
    pub(crate) sweep_sets: Interner<SweepSet>,
    /// The trials of several sweeps, by their ids, the numbers of their parameters, and how their sweeps make what is asked for.
    seen: HashMap<(SpecHash, u32, Option<String>), Seen>,
}

/// A trial that may stand in several sweeps.
#[derive(Clone, Copy, Debug)]
struct Seen {
    state: StateName,
    /// The number of its sweeps in [`Collector::sweep_sets`].
    sweeps: u32,
    place: Place,
}

/// Where a trial is kept.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In [`Collector::trials`].
    Trial(usize),
    /// In [`Collector::plain`].
    Plain(usize),
    /// It only selects steps of others.
    Nowhere,
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
    /// The number of its sweeps in [`Collector::sweep_sets`].
    pub sweeps: u32,
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
    /// The number of its sweeps in [`Collector::sweep_sets`].
    pub sweeps: u32,
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
            group: SweepGroup::default(),
            sweep_sets: Interner::default(),
            seen: HashMap::new(),
        }
    }

    /// Adds a sweep on the same dataset, before any trial is known. Returns its number for [`Collector::push_of`].
    pub(crate) fn add_sweep(&mut self, name: &str, work: &Work, shared: SharedSettings) -> usize {
        let group = &mut self.group;
        work.dataset().unwrap_or_default().clone_into(&mut group.dataset);
        group.names.push(name.to_owned());
        group.shared.push(shared);
        group.makes.push(makes(work, self.spec.method));
        self.sweep = group.names.join(", ");
        let new = work.domains().iter().filter(|domain| !self.known_domains.contains(domain));
        let new: Vec<String> = new.cloned().collect();
        self.known_domains.extend(new);
        if !work.missing_classes().is_refuse() {
            self.missing_classes = work.missing_classes();
        }
        group.names.len() - 1
    }

    /// The names of the settings that its sweeps share with their trials.
    pub(crate) fn shared_names(&self) -> impl Iterator<Item = &str> {
        self.group.shared.iter().flat_map(SharedSettings::names)
    }

    /// A collector with all of these records.
    pub(crate) fn of(sweep: &str, work: &Work, records: &[TrialRecord], question: &Question) -> Self {
        let mut collector = Self::new(sweep, work, question);
        records.iter().for_each(|record| collector.push(record));
        collector
    }

    /// Takes a record. The caller can drop it afterwards.
    pub fn push(&mut self, record: &TrialRecord) {
        *self.states.entry(record.state).or_default() += 1;
        let setting = self.settings.number(&record.point.parameters);
        self.place(record, setting, 0, Place::Nowhere);
    }

    /// Takes a record of one of several sweeps, under these parameters. The same trial of several sweeps counts once, with the result that
    /// one of them has. Averages and ensembles are no part of a trial's identity: those that sweeps make in other ways are not the same.
    pub(crate) fn push_of(&mut self, sweep: usize, record: &TrialRecord, parameters: &Parameters) {
        // A combination is evaluated as one model, which every method reads.
        let is_combined = record.point.combine().is_some();
        if !is_combined && self.group.lacks_method(sweep) {
            return;
        }
        let setting = self.settings.number(parameters);
        let alone = SweepSet::from([sweep]);
        let makes = if is_combined { None } else { self.group.makes[sweep].clone() };
        let key = (record.id, setting, makes);
        let Some(mut seen) = self.seen.get(&key).copied() else {
            *self.states.entry(record.state).or_default() += 1;
            let sweeps = self.sweep_sets.number(&alone);
            let place = self.place(record, setting, sweeps, Place::Nowhere);
            // The trials of a single sweep are all different.
            if self.group.names.len() > 1 {
                self.seen.insert(key, Seen { state: record.state, sweeps, place });
            }
            return;
        };
        let all = self.sweep_sets.value(seen.sweeps) | &alone;
        seen.sweeps = self.sweep_sets.number(&all);
        if record.state == StateName::Succeeded && seen.state != StateName::Succeeded {
            self.states.entry(seen.state).and_modify(|count| *count -= 1);
            *self.states.entry(record.state).or_default() += 1;
            seen.state = record.state;
            seen.place = self.place(record, setting, seen.sweeps, seen.place);
        }
        match seen.place {
            Place::Trial(index) => self.trials[index].sweeps = seen.sweeps,
            Place::Plain(index) => self.plain[index].sweeps = seen.sweeps,
            Place::Nowhere => {}
        }
        self.seen.insert(key, seen);
    }

    /// Keeps what a record says, instead of what is kept at a place if there is one.
    fn place(&mut self, record: &TrialRecord, setting: u32, sweeps: u32, instead_of: Place) -> Place {
        let Point { held_out, parameters: _, seed, split_seed } = &record.point;
        let (seed, split_seed, state) = (*seed, *split_seed, record.state);
        if held_out.len() == 2 && self.question.selection == Selection::Loo && state == StateName::Succeeded {
            for test in held_out {
                let key = (setting, self.names.number(test), seed, split_seed);
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
            let measured = self.spec.measure_iid(record);
            let (score, value) = measured.map_or((f64::NAN, None), |(score, value)| (score, Some(value)));
            let trial = PlainTrial { setting, state, seed, split_seed, score, value, sweeps };
            let index = if let Place::Plain(index) = instead_of { index } else { self.plain.len() };
            put(&mut self.plain, index, trial);
            return Place::Plain(index);
        }
        let [domain] = held_out.as_slice() else { return Place::Nowhere };
        let index = if let Place::Trial(index) = instead_of { index } else { self.trials.len() };
        let (score, measured) = match self.spec.measure(record) {
            Measurement::Missing => (f64::NAN, None),
            Measurement::Selected { score, measured } => (score, measured),
            Measurement::Undecided { outline, measured } => {
                let outline = self.outlines.number(&outline);
                self.undecided.push(UndecidedTrial { trial: index, outline, measured });
                (f64::NAN, None)
            }
        };
        let domain = self.names.number(domain);
        let trial = TrialSummary { setting, domain, state, seed, split_seed, score, measured, sweeps };
        put(&mut self.trials, index, trial);
        Place::Trial(index)
    }

    /// Fails if a row by these axes has different trials of several sweeps.
    pub(crate) fn check_sweeps(&self, axes: &[Axis]) -> Result<(), Mixed> {
        let row = |setting, seeds, sweeps| {
            (self.row(axes, setting, seeds), self.settings.value(setting), self.sweep_sets.value(sweeps))
        };
        let single =
            self.trials.iter().map(|trial| row(trial.setting, (trial.seed, trial.split_seed), trial.sweeps));
        let plain =
            self.plain.iter().map(|trial| row(trial.setting, (trial.seed, trial.split_seed), trial.sweeps));
        if self.group.names.len() < 2 {
            return Ok(());
        }
        self.group.check(axes, single.chain(plain), |(_, values)| row_name(axes, values))
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

    /// Whether one sweep has all trials with these sets of sweeps.
    pub(crate) fn is_of_one_sweep(&self, sets: impl Iterator<Item = u32>) -> bool {
        let common = sets.map(|set| self.sweep_sets.value(set).clone()).reduce(|all, one| &all & &one);
        common.is_none_or(|common| !common.is_empty())
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

/// Puts a value at the end, or in the place of another.
fn put<T>(values: &mut Vec<T>, index: usize, value: T) {
    match values.get_mut(index) {
        Some(known) => *known = value,
        None => values.push(value),
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

/// How the trials of a sweep make the weights or logits of a method; none for plain ones, and for programs, of which nobody knows.
pub(crate) fn makes(work: &Work, method: Method) -> Option<String> {
    let Work::Finetune(settings) = work else { return None };
    match method {
        Method::Plain => None,
        Method::Average => Some(settings.average.map_or_else(String::new, |average| average.to_string())),
        Method::Ensemble => {
            Some(settings.ensemble.map_or_else(String::new, |ensemble| ensemble.from.to_string()))
        }
    }
}
