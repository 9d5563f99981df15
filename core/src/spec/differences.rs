//! The settings in which two sweeps differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::error::Change;
use super::sweep::SweepSpec;
use super::varied::following;
use crate::combine::Combine;
use crate::parameters::Parameters;
use crate::trial::Work;

impl SweepSpec {
    /// The differences between two sweeps besides their names.
    pub fn differences(&self, other: &Self) -> Vec<Change> {
        let mut changes = differences(self, other);
        let mut note = |key: &str, old: String, new: String| {
            if old != new {
                changes.push(Change { key: key.to_owned(), old, new });
            }
        };
        fn json(value: &impl Serialize) -> String {
            serde_json::to_string(value).unwrap_or_default()
        }
        note("version of the numbers", self.protocol.to_string(), other.protocol.to_string());
        note("select", json(&self.select), json(&other.select));
        note("require", json(&self.require), json(&other.require));
        note("keep", json(&self.keep), json(&other.keep));
        note("metrics", json(&self.metrics), json(&other.metrics));
        note("limits", json(&self.limits), json(&other.limits));
        note("kill_at", json(&self.kill_at), json(&other.kill_at));
        let missing = || "missing".to_owned();
        let axes: BTreeSet<&String> = self.grid.axes.keys().chain(other.grid.axes.keys()).collect();
        for name in axes {
            let shown = |sweep: &Self| sweep.axis(name).map_or_else(missing, |axis| axis.to_string());
            note(&self.axis_key(name), shown(self), shown(other));
        }
        let drawn = |sweep: &Self| sweep.random.as_ref().map_or_else(missing, ToString::to_string);
        note("random", drawn(self), drawn(other));
        note("grid.held_out", json(&self.grid.held_out), json(&other.grid.held_out));
        note("grid.seeds", json(&self.grid.seeds), json(&other.grid.seeds));
        note("grid.splits", json(&self.grid.splits), json(&other.grid.splits));
        let combines: BTreeSet<&String> =
            self.combine.iter().chain(&other.combine).map(|combine| &combine.name).collect();
        for name in combines {
            let shown = |sweep: &Self| {
                sweep
                    .combine
                    .iter()
                    .find(|combine| combine.name == *name)
                    .map_or_else(missing, Combine::to_string)
            };
            note(&format!("combine.{name}"), shown(self), shown(other));
        }
        changes
    }
}

/// The settings in which two sweeps differ, but for those that are axes of either: these are compared as axes.
pub(super) fn differences(old: &SweepSpec, new: &SweepSpec) -> Vec<Change> {
    let names = old.grid.axes.keys().chain(new.grid.axes.keys());
    let settings = names.filter(|name| old.setting_on(name).is_some());
    let first = |name: &String| Some((name.clone(), old.axis(name)?.values.first()?.clone()));
    let alike: Parameters = settings.filter_map(first).collect();
    let work = new.following_as(old);
    let mut changes = of_work(&old.work.at(&alike), &work.at(&alike));
    if let (Work::Finetune(old), Work::Finetune(new)) = (&old.work, &work) {
        changes.extend(following(old, new));
    }
    changes
}

fn of_work(old: &Work, new: &Work) -> Vec<Change> {
    let flat = |work: &Work| {
        let mut flat = Vec::new();
        let value = match work {
            Work::Finetune(settings) => serde_json::to_value(settings),
            Work::Command(settings) => serde_json::to_value(settings),
        };
        flatten("", &value.unwrap_or_default(), &mut flat);
        flat.into_iter().collect::<BTreeMap<String, String>>()
    };
    if std::mem::discriminant(old) != std::mem::discriminant(new) {
        let kind = |work: &Work| {
            if matches!(work, Work::Command(_)) { "a command" } else { "fine-tuning" }.to_owned()
        };
        return vec![Change { key: "its work".to_owned(), old: kind(old), new: kind(new) }];
    }
    // A setting may be a table on one side and nothing on the other, so each has keys that the other lacks.
    let (old, new) = (flat(old), flat(new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let there = |flat: &BTreeMap<String, String>, key: &String| {
        flat.get(key).cloned().unwrap_or_else(|| "missing".to_owned())
    };
    let changes =
        keys.into_iter().map(|key| Change { key: key.clone(), old: there(&old, key), new: there(&new, key) });
    changes.filter(|change| change.old != change.new).collect()
}

fn flatten(key: &str, value: &serde_json::Value, into: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            for (inner, value) in map {
                let key = if key.is_empty() { inner.clone() } else { format!("{key}.{inner}") };
                flatten(&key, value, into);
            }
        }
        leaf => into.push((key.to_owned(), leaf.to_string())),
    }
}
