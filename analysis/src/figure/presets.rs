//! The paper's figures by name: which trials make which group of points.

use sortie_core::metrics::Method;
use sortie_core::named;
use sortie_core::selection::Selection;

/// A figure of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FigurePreset {
    /// Figure 1: plain fine-tuning, averages and ensembles along the trajectory, dropout 0.9, and combinations across trajectories.
    Figure1,
    /// Figure 2: the dropout rates, with a line through their centres.
    Figure2,
    /// The last layer learns ten times as fast.
    LastLayerLr,
    /// Averages along the trajectory with and without dropout 0.9, and across trajectories.
    WeightAverage,
    /// The same of ensembles.
    Ensemble,
    /// The first and the second pretraining of ResNet50, plain and with all that helps.
    Pretraining,
    /// The dropout rates at the last step.
    NoSelection,
}
named!(FigurePreset, "preset of figures", {
    Figure1 => "figure1",
    Figure2 => "figure2",
    LastLayerLr => "last-layer-lr",
    WeightAverage => "weight-average",
    Ensemble => "ensemble",
    Pretraining => "pretraining",
    NoSelection => "no-selection",
});

/// The trials of a group of points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cloud {
    /// What the legend calls it; empty if the values of axes are enough.
    pub name: String,
    /// The weights used.
    pub method: Method,
    /// The conditions that its trials meet, as `--where` reads them; empty for all.
    pub conditions: String,
}

impl Cloud {
    fn new(name: &str, method: Method, conditions: &str) -> Self {
        Self { name: name.to_owned(), method, conditions: conditions.to_owned() }
    }
}

/// The rates of the paper.
const RATES: [&str; 4] = ["0", "0.5", "0.9", "0.95"];

impl FigurePreset {
    /// Its groups of points.
    pub(super) fn clouds(self) -> Vec<Cloud> {
        use Method::{Average, Ensemble, Plain};
        let rate = |rate: &&str| Cloud::new(&format!("dropout {rate}"), Plain, &format!("dropout={rate}"));
        let with = |model: &str, method| {
            vec![
                Cloud::new("ERM", Plain, "dropout=0"),
                Cloud::new(model, method, "dropout=0"),
                Cloud::new("dropout 0.9", Plain, "dropout=0.9"),
                Cloud::new(&format!("dropout 0.9, {model}"), method, "dropout=0.9"),
            ]
        };
        match self {
            Self::Figure1 => vec![
                Cloud::new("ERM", Plain, "dropout=0"),
                Cloud::new("weight averaging", Average, "dropout=0"),
                Cloud::new("ensemble", Ensemble, "dropout=0"),
                Cloud::new("dropout 0.9", Plain, "dropout=0.9"),
            ],
            Self::Figure2 | Self::NoSelection => RATES.iter().map(rate).collect(),
            Self::LastLayerLr => vec![
                Cloud::new("ERM", Plain, "dropout=0 and head_lr_factor=1"),
                Cloud::new("ERM, last layer 10x", Plain, "dropout=0 and head_lr_factor=10"),
                Cloud::new("dropout 0.9", Plain, "dropout=0.9 and head_lr_factor=1"),
                Cloud::new("dropout 0.9, last layer 10x", Plain, "dropout=0.9 and head_lr_factor=10"),
            ],
            Self::WeightAverage => with("weight averaging", Average),
            Self::Ensemble => with("ensemble", Ensemble),
            Self::Pretraining => ["V1", "V2"]
                .iter()
                .flat_map(|version| {
                    let of = format!("backbone=resnet50-{}", version.to_ascii_lowercase());
                    let cloud = |name: &str, method, conditions: &str| {
                        Cloud::new(&format!("{version}, {name}"), method, &format!("{of} and {conditions}"))
                    };
                    [
                        cloud("ERM", Plain, "dropout=0 and head_lr_factor=1"),
                        cloud("dropout 0.9", Plain, "dropout=0.9 and head_lr_factor=1"),
                        cloud("all tricks", Ensemble, "dropout=0.9 and head_lr_factor=10"),
                    ]
                })
                .collect(),
        }
    }

    /// The dropout rates whose combinations across trajectories are points.
    pub(super) fn combined_rates(self) -> &'static [&'static str] {
        match self {
            Self::Figure1 => &["0"],
            Self::WeightAverage | Self::Ensemble => &["0", "0.9"],
            _ => &[],
        }
    }

    /// Whether a line joins the centres.
    pub(super) fn joins_centres(self) -> bool {
        matches!(self, Self::Figure2 | Self::NoSelection)
    }

    /// How steps are selected, whatever else is asked for.
    pub(super) fn selection(self) -> Option<Selection> {
        (self == Self::NoSelection).then_some(Selection::Last)
    }

    /// The axes that its conditions name. Those that a trial lacks are looked up in its sweep's settings.
    pub(super) fn axes(self) -> &'static [&'static str] {
        match self {
            Self::Pretraining => &["dropout", "head_lr_factor", "backbone"],
            Self::LastLayerLr => &["dropout", "head_lr_factor"],
            _ => &["dropout"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::filter::Filter;

    #[test]
    fn every_condition_can_be_read_and_no_group_has_the_trials_of_another() {
        for preset in FigurePreset::ALL {
            let clouds = preset.clouds();
            assert!((4..=6).contains(&clouds.len()), "{preset}");
            for (index, cloud) in clouds.iter().enumerate() {
                let conditions = Filter::parse(&cloud.conditions).unwrap();
                assert!(conditions.axes().all(|axis| preset.axes().contains(&axis)), "{conditions}");
                let same = |other: &Cloud| {
                    other.name == cloud.name
                        || (other.method, &other.conditions) == (cloud.method, &cloud.conditions)
                };
                assert!(!clouds[..index].iter().any(same), "{preset}: {}", cloud.name);
            }
        }
    }
}
