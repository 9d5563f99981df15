//! The values that all trials of a sweep share, by the names by which tables and conditions know them.

use std::collections::BTreeSet;

use serde_json::Value;

use sortie_core::parameters::{Parameters, Scalar};
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{Point, Work};

/// The axis of a sweep's name.
pub(crate) const SWEEP: &str = "sweep";
/// The axis of the dataset.
pub(crate) const DATASET: &str = "dataset";

/// Axes by their names here, and by those of the paper's code.
const THEIRS: [(&str, &str); 2] = [("dropout", "resnet_dropout"), ("head_lr_factor", "lastlrfac")];

/// What all trials of a sweep share: its settings by name, such as `backbone` or `batch_per_domain`, and as `sweep` and `dataset` what its
/// trials are called by and are on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SharedSettings {
    values: Parameters,
    /// Where defaults follow from settings that the sweep varies: the settings, of which each trial has its own.
    varied: Option<Work>,
    /// The axes of the sweep's grid. A trial without a value on one of them has none: a combination's members differ there.
    axes: BTreeSet<String>,
}

impl SharedSettings {
    /// Those of a sweep that is known by this name.
    pub fn of(name: &str, spec: &SweepSpec) -> Self {
        let mut values = settings(&spec.work);
        values.insert(SWEEP.to_owned(), Scalar::Text(name.to_owned()));
        values.extend(
            spec.work.dataset().map(|dataset| (DATASET.to_owned(), Scalar::Text(dataset.to_owned()))),
        );
        let varies = matches!(&spec.work, Work::Finetune(settings) if !settings.following.is_empty());
        let varied = varies.then(|| spec.work.clone());
        Self { values, varied, axes: spec.grid.axes.keys().cloned().collect() }
    }

    /// The value of a trial on an axis: that of its point, or else the setting of that name. Runs of the paper's code that were imported
    /// have it under its own name.
    pub fn value(&self, parameters: &Parameters, axis: &str) -> Option<Scalar> {
        let own = || settings(&self.varied.as_ref()?.at(parameters)).remove(axis);
        let shared =
            || own().or_else(|| self.values.get(axis).cloned()).filter(|_| !self.axes.contains(axis));
        let theirs = || parameters.get(THEIRS.iter().find(|(ours, _)| *ours == axis)?.1).cloned();
        parameters.get(axis).cloned().or_else(shared).or_else(theirs)
    }

    /// Gives parameters the settings of these names that they lack.
    pub fn add<'a>(&self, parameters: &mut Parameters, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            if !parameters.contains_key(name)
                && let Some(value) = self.value(parameters, name)
            {
                parameters.insert(name.to_owned(), value);
            }
        }
    }

    /// The point with the settings of these names.
    pub fn extended<'a>(&self, point: &Point, names: impl IntoIterator<Item = &'a str>) -> Point {
        let mut point = point.clone();
        self.add(&mut point.parameters, names);
        point
    }

    /// The names of all settings that are no axes of the grid.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str).filter(|name| !self.axes.contains(*name))
    }
}

/// The settings that have one value: numbers, texts and flags, and lists of numbers as a text.
fn settings(work: &Work) -> Parameters {
    let all = match work {
        Work::Finetune(settings) => serde_json::to_value(settings),
        Work::Command(settings) => serde_json::to_value(settings),
    };
    // Settings always encode.
    let Ok(Value::Object(all)) = all else { return Parameters::new() };
    let scalar = |value: Value| match value {
        Value::Array(values) if !values.is_empty() && values.iter().all(Value::is_number) => {
            Some(Scalar::Text(values.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")))
        }
        Value::String(text) if text.is_empty() => None,
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        value => serde_json::from_value(value).ok(),
    };
    all.into_iter().filter_map(|(name, value)| Some((name, scalar(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::combine::{COMBINE, MEMBERS};
    use sortie_core::presets;

    #[test]
    fn a_value_is_that_of_the_trial_or_else_that_of_its_sweep() {
        let spec = SweepSpec::parse(&presets::find("figure1").unwrap().text(None), None).unwrap();
        let shared = SharedSettings::of("mine", &spec);
        let point = spec.example().unwrap();
        let value = |axis: &str| shared.value(&point.parameters, axis).map(|value| value.to_string());
        for (axis, expected) in [
            ("sweep", "mine"),
            ("dataset", "PACS"),
            ("backbone", "resnet50-v2"),
            ("weights", "resnet50-v2"),
            ("precision", "reference"),
            ("batch_per_domain", "32"),
            ("steps", "10000"),
            ("optimizer", "sgd"),
            ("augment", "true"),
            ("milestones", "5000 10000"),
            ("dropout", "0"),
        ] {
            assert_eq!(value(axis).as_deref(), Some(expected), "{axis}");
        }
        assert_eq!((value("nonsense"), value("classes"), value("cache_pixels")), (None, None, None));
        // A point's own value counts, and a combination has none on the axes in which its members differ.
        let own = |name: &str, value: &str| (name.to_owned(), Scalar::Text(value.to_owned()));
        let parameters = Parameters::from([own("backbone", "other"), own(COMBINE, "all"), own(MEMBERS, "3")]);
        assert_eq!(shared.value(&parameters, "backbone"), Some(Scalar::Text("other".to_owned())));
        assert_eq!(shared.value(&parameters, "lr"), None);
        // A run of the paper's code, which was imported.
        let theirs = Parameters::from([("resnet_dropout".to_owned(), Scalar::Number(0.9.into()))]);
        let imported = SharedSettings::default();
        assert_eq!(imported.value(&theirs, "dropout"), Some(Scalar::Number(0.9.into())));
        assert_eq!(imported.value(&theirs, "head_lr_factor"), None);
        // What follows from a setting that the sweep varies is each trial's own.
        let text = presets::find("figure1")
            .unwrap()
            .text(None)
            .replace("\"resnet50-v2\"", "[\"resnet50-v2\", \"efficientnet-lite1\"]");
        let varied = SharedSettings::of("varied", &SweepSpec::parse(&text, None).unwrap());
        let other = Parameters::from([own("backbone", "efficientnet-lite1")]);
        assert_eq!(varied.value(&other, "pixels"), Some(Scalar::Number(240.0.into())));
        assert_eq!(varied.value(&other, "weights"), Some(Scalar::Text("efficientnet-lite1".to_owned())));
        let extended = shared.extended(&point, ["precision", "nonsense", "dropout"]);
        assert_eq!(extended.parameters.len(), point.parameters.len() + 1);
    }
}
