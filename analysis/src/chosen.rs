//! The settings that were chosen as the best, by their names.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use sortie_core::parameters::Parameters;

use crate::axis::{Axis, AxisValue, names_of};

/// A setting that was taken as the best of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its values on the axes over which the best was taken. Axes that it lacks are left out.
    pub setting: Vec<(Axis, AxisValue)>,
    /// The number of pairs of seeds for which it was taken.
    pub seeds: usize,
}

impl Chosen {
    /// The setting for people: `lr 1e-3, weight_decay 0`.
    pub(crate) fn name(&self) -> String {
        let values = self.setting.iter().map(|(axis, value)| format!("{axis} {value}"));
        values.collect::<Vec<_>>().join(", ")
    }
}

// A setting is a map whose keys depend on the sweep.
impl Serialize for Chosen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Setting<'a>(&'a [(Axis, AxisValue)]);
        impl Serialize for Setting<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(self.0.len()))?;
                for (axis, value) in self.0 {
                    map.serialize_entry(axis.as_str(), value)?;
                }
                map.end()
            }
        }
        let mut chosen = serializer.serialize_struct("Chosen", 2)?;
        chosen.serialize_field("setting", &Setting(&self.setting))?;
        chosen.serialize_field("seeds", &self.seeds)?;
        chosen.end()
    }
}

/// The axes over which the best is taken, in the order of tables.
#[derive(Debug, Default)]
pub(crate) struct ChoiceAxes(Vec<Axis>);

impl ChoiceAxes {
    /// The parameters in which these settings differ, without the given axes.
    pub(crate) fn of<'a>(settings: impl Iterator<Item = &'a Parameters> + Clone, without: &[Axis]) -> Self {
        let varies = |name: &String| {
            settings.clone().filter_map(|setting| setting.get(name)).collect::<BTreeSet<_>>().len() > 1
        };
        let names = names_of(settings.clone()).into_iter().filter(varies).map(Axis::Parameter);
        Self(names.filter(|axis| !without.contains(axis)).collect())
    }

    /// How often each setting was chosen, the most frequent first. Nothing if there is no axis to choose on.
    pub(crate) fn chosen<'a>(&self, settings: impl Iterator<Item = &'a Parameters>) -> Vec<Chosen> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut counts: BTreeMap<Vec<AxisValue>, usize> = BTreeMap::new();
        for setting in settings {
            *counts.entry(self.0.iter().map(|axis| axis.of(setting, 0, 0)).collect()).or_default() += 1;
        }
        // Combinations have none of these axes.
        if counts.keys().flatten().all(|value| *value == AxisValue::Absent) {
            return Vec::new();
        }
        let named = |(values, seeds): (Vec<AxisValue>, usize)| {
            let values = self.0.iter().cloned().zip(values);
            Chosen { setting: values.filter(|(_, value)| *value != AxisValue::Absent).collect(), seeds }
        };
        let mut chosen: Vec<Chosen> = counts.into_iter().map(named).collect();
        // The sort is stable: of equals the first in the order of settings.
        chosen.sort_by_key(|chosen| std::cmp::Reverse(chosen.seeds));
        chosen
    }
}

/// A choice for each held-out domain as lines (domain, setting, seeds): one for all domains where they agree on a single setting.
pub(crate) fn lines<'a>(choices: &[(&'a str, &'a [Chosen])]) -> Vec<(String, String, String)> {
    let seeds = |chosen: &Chosen, all: &[Chosen]| {
        format!("{}/{}", chosen.seeds, all.iter().map(|chosen| chosen.seeds).sum::<usize>())
    };
    if let [(_, [first]), others @ ..] = choices
        && !others.is_empty()
        && others.iter().all(|(_, other)| matches!(other, [other] if other.setting == first.setting))
    {
        let total: usize = choices.iter().flat_map(|(_, all)| *all).map(|chosen| chosen.seeds).sum();
        return vec![("all".to_owned(), first.name(), format!("{total}/{total}"))];
    }
    let of_domain = |(domain, all): &(&str, &'a [Chosen])| -> Vec<(String, String, String)> {
        all.iter().map(|chosen| ((*domain).to_owned(), chosen.name(), seeds(chosen, all))).collect()
    };
    choices.iter().flat_map(of_domain).collect()
}
