//! What a comparison of two settings is, and why there may be none.

use serde::Serialize;
use sortie_core::filter::UnknownAxis;
use sortie_core::metrics::{Method, Metric};
use sortie_core::selection::Selection;
use sortie_core::trial::MissingClasses;

use crate::chosen::Chosen;
use crate::metric_spec::OodSplit;
use crate::scale::Scale;
use crate::statistics::{Estimate, bootstrap_interval, stratified_interval};

/// The comparison of setting B with setting A. Accuracies are fractions, and a positive difference of a metric whose goal is `min` means
/// that B is worse.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// The sweep's name.
    pub sweep: String,
    /// How the step within a run was selected.
    pub selection: Selection,
    /// The weights used.
    pub method: Method,
    /// Whether each side takes its best setting, for each held-out domain and pair of seeds.
    pub best: bool,
    /// The images on which o.o.d. accuracy was measured.
    pub ood_split: OodSplit,
    /// Whether domains may lack classes; left out of JSON where they may not.
    #[serde(skip_serializing_if = "MissingClasses::is_refuse")]
    pub missing_classes: MissingClasses,
    /// The metric; left out of JSON if it is the accuracy.
    #[serde(skip_serializing_if = "Metric::is_accuracy")]
    pub metric: Metric,
    /// The first setting.
    pub a: String,
    /// The second setting.
    pub b: String,
    /// The number of compared units. A unit is a held-out domain with its seeds in which both settings are complete.
    pub units: usize,
    /// The number of planned units.
    pub planned: usize,
    /// The o.o.d. value.
    pub ood: Comparison,
    /// The i.i.d. value.
    pub iid: Comparison,
    /// By held-out domain, in the dataset's order.
    pub domains: Vec<DomainDifference>,
    /// The settings that were taken as the best, by side and held-out domain; left out of JSON where there was nothing to choose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<SideChoice>,
    /// Notes on the steps at which averages, ensembles and combinations were evaluated.
    #[serde(skip)]
    pub(super) steps: Vec<String>,
    /// How differences are written.
    #[serde(skip)]
    pub(crate) scale: Scale,
    /// What the selection method reads.
    #[serde(skip)]
    pub(super) selected_by: String,
}

/// B minus A.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The mean difference over units.
    pub difference: Estimate,
    /// The 95% interval by held-out domain: what other seeds could give on these domains. It is made of the spread within each domain; none
    /// unless every domain has two units.
    pub interval_by_domain: Option<[f64; 2]>,
    /// The 95% interval over all units, by resampling them; none for fewer than three. Differences between domains widen it.
    pub interval: Option<[f64; 2]>,
    /// Units in which B is better.
    pub better: usize,
    /// Units without a difference.
    pub equal: usize,
    /// Units in which B is worse.
    pub worse: usize,
    /// The pooled standard deviation of trials that differ only in the seed; none without two such trials.
    pub between_seeds: Option<f64>,
}

impl Comparison {
    /// Of the differences of units, by held-out domain.
    pub(super) fn of(by_domain: &[Vec<f64>], between_seeds: Option<f64>, metric: &Metric) -> Self {
        let differences = by_domain.concat();
        let count = |wanted: fn(f64) -> bool| {
            differences.iter().filter(|difference| wanted(metric.score(**difference))).count()
        };
        Self {
            difference: Estimate::of(&differences),
            interval_by_domain: stratified_interval(by_domain),
            interval: bootstrap_interval(&differences),
            better: count(|difference| difference > 0.0),
            equal: count(|difference| difference == 0.0),
            worse: count(|difference| difference < 0.0),
            between_seeds,
        }
    }
}

/// B minus A on one held-out domain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DomainDifference {
    /// The domain.
    pub held_out: String,
    /// The o.o.d. value.
    pub ood: Estimate,
    /// The i.i.d. value.
    pub iid: Estimate,
}

/// The settings that one side of a comparison took as its best on a held-out domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SideChoice {
    /// The conditions of the side.
    pub side: String,
    /// The domain.
    pub held_out: String,
    /// The settings, the most frequent first.
    pub chosen: Vec<Chosen>,
}

/// Why two settings cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairedError {
    /// The sweep holds out no domain.
    #[error(
        "sweep {sweep} holds out no domain, and pairs are compared on held-out domains; `sortie results {sweep}` has its table"
    )]
    NoDomain {
        /// The sweep.
        sweep: String,
    },
    /// The sweeps are on several datasets.
    #[error(
        "--paired compares trials on one dataset, and these sweeps are on {datasets}: name those on one of them"
    )]
    Datasets {
        /// The datasets.
        datasets: String,
    },
    /// One side has trials of several sweeps.
    #[error(
        "different trials of {sweeps} meet {setting:?}: add sweep=NAME to the condition, or a setting in which they differ"
    )]
    Mixed {
        /// The sweeps.
        sweeps: String,
        /// The conditions.
        setting: String,
    },
    /// A condition names an unknown axis.
    #[error(transparent)]
    Axis(#[from] UnknownAxis),
    /// No trial meets the conditions.
    #[error("no trial of sweep {sweep} with one held-out domain meets {setting:?}")]
    NoTrial {
        /// The sweep.
        sweep: String,
        /// The conditions.
        setting: String,
    },
    /// Several trials of one setting correspond to one trial of the other.
    #[error("{setting:?} gives no value of {axes}, and the other setting does: give one on both sides")]
    Open {
        /// The conditions.
        setting: String,
        /// The axes.
        axes: String,
    },
    /// The same, where trials of the other setting lack the axes.
    #[error("{setting:?} gives no value of {axes}, which trials of the other setting do not have: give one")]
    Lacks {
        /// The conditions.
        setting: String,
        /// The axes.
        axes: String,
    },
    /// No trial of one setting corresponds to a trial of the other.
    #[error(
        "no trial of sweep {sweep} that meets {a:?} has a counterpart that meets {b:?} and is equal in everything else"
    )]
    NoPair {
        /// The sweep.
        sweep: String,
        /// The first setting.
        a: String,
        /// The second.
        b: String,
    },
}
