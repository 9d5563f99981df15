//! The groups of points of several panels, one for each dataset, that have one legend: which trials are in which group.

use std::collections::{BTreeMap, BTreeSet};

use sortie_core::combine::CombinationKind;
use sortie_core::filter::Filter;
use sortie_core::metrics::Method;
use sortie_core::record::TrialRecord;

use super::axes;
use super::merged::Merged;
use super::panels::{Look, Panel, Panels};
use super::presets::Cloud;
use super::scatter_points::{self, Combined};
use super::scatter_styles::ScatterStyle;
use super::settings::{Setting, named, setting};
use super::svg::{BLACK, Fill, Marker, Picture};
use super::{FigureError, FigureQuestion};
use crate::axis::{Axis, AxisValue};
use crate::collect::in_order;
use crate::metric_spec::MetricSpec;
use crate::question::Question;
use crate::results::{Results, ResultsError, one_split, results};

/// The most groups that look different.
const GROUPS_MAX: usize = 36;

/// Draws the groups of a preset, or those by methods and axes, with a panel for each dataset.
pub(super) fn draw(merged: &[Merged], asked: &FigureQuestion) -> Result<Picture, FigureError> {
    let by = match (asked.by.as_slice(), asked.preset) {
        ([], None) => axes::of_scatters(merged.iter().map(|one| one.records.as_slice())),
        (by, _) => by.to_vec(),
    };
    let clouds = match asked.preset {
        Some(preset) => preset.clouds(),
        None => {
            let cloud =
                |method: &Method| Cloud { name: String::new(), method: *method, conditions: String::new() };
            asked.methods.iter().map(cloud).collect()
        }
    };
    let groups = Groups { asked, by: &by, clouds: &clouds };
    let mut parts: Vec<(&Merged, DatasetGroups)> = Vec::new();
    for one in merged {
        parts.push((one, groups.of_dataset(one)?));
    }
    one_split(parts.iter().map(|(merged, part)| (merged.dataset.as_str(), part.results.ood_split)))?;
    groups.panels(parts)?.draw(&asked.page)
}

/// What is drawn.
struct Groups<'a> {
    asked: &'a FigureQuestion,
    by: &'a [Axis],
    clouds: &'a [Cloud],
}

/// The number of a cloud, and the values on the further axes.
type GroupKey = (usize, Setting);
/// What is made of the members, at which dropout rate, on the further axes.
type PointKey = (CombinationKindOrder, String, Setting);
/// Ensembles first.
type CombinationKindOrder = bool;

/// The groups and points of a dataset.
struct DatasetGroups {
    results: Results,
    groups: BTreeMap<GroupKey, scatter_points::ScatterGroup>,
    points: BTreeMap<PointKey, Combined>,
    /// The groups that have trials, complete or not.
    planned: BTreeSet<GroupKey>,
}

impl Groups<'_> {
    fn of_dataset(&self, merged: &Merged) -> Result<DatasetGroups, FigureError> {
        let (combined, single): (Vec<&TrialRecord>, Vec<&TrialRecord>) =
            merged.records.iter().partition(|record| record.point.combine().is_some());
        let single: Vec<TrialRecord> = single.into_iter().cloned().collect();
        let results = self.results(merged, &single)?;
        let (spec, scale) = (results.spec(), results.scale());
        let alone = merged.records.iter().filter(|record| record.point.held_out.len() == 1);
        let domains = in_order(merged.work.domains(), alone.map(|record| record.point.held_out_label()));
        let (mut groups, mut planned) = (BTreeMap::new(), BTreeSet::new());
        for (index, cloud) in self.clouds.iter().enumerate() {
            let filter = filter(&cloud.conditions);
            let is_meant =
                |record: &TrialRecord| filter.as_ref().is_none_or(|filter| filter.matches(&record.point));
            merged.check(self.by, |record| record.point.combine().is_none() && is_meant(record))?;
            let own: Vec<TrialRecord> = single.iter().filter(|record| is_meant(record)).cloned().collect();
            let alone = own.iter().filter(|record| record.point.held_out.len() == 1);
            planned.extend(alone.map(|record| (index, setting(self.by, &record.point))));
            let spec = MetricSpec { method: cloud.method, ..spec.clone() };
            for group in scatter_points::groups(self.by, &own, &[cloud.method], &spec, (&domains, &scale)) {
                groups.insert((index, group.setting.clone()), group);
            }
        }
        let mut points = BTreeMap::new();
        for rate in self.asked.preset.map(|preset| preset.combined_rates()).unwrap_or_default() {
            let filter = filter(&format!("dropout={rate}"));
            let is_meant =
                |record: &TrialRecord| filter.as_ref().is_none_or(|filter| filter.matches(&record.point));
            merged.check(self.by, |record| record.point.combine().is_some() && is_meant(record))?;
            let own: Vec<TrialRecord> =
                combined.iter().filter(|record| is_meant(record)).map(|record| (*record).clone()).collect();
            let (models, _) = scatter_points::combined(&own, &spec, (&domains, &scale));
            for model in models {
                let Some(kind) = merged.kinds.get(&model.name) else { continue };
                let values = self.by.iter().map(|axis| axis.of(&model.rest, 0, 0)).collect();
                let key = (*kind == CombinationKind::Average, (*rate).to_owned(), values);
                // Of several numbers of members, the largest.
                let larger = points.get(&key).is_none_or(|known: &Combined| known.members < model.members);
                if larger {
                    points.insert(key, model);
                }
            }
        }
        Ok(DatasetGroups { results, groups, points, planned })
    }

    /// What the notes and the scale of a panel are made of.
    fn results(&self, merged: &Merged, single: &[TrialRecord]) -> Result<Results, FigureError> {
        let FigureQuestion { ood_split, ref metrics, .. } = *self.asked;
        let preset = self.asked.preset.and_then(|preset| preset.selection());
        let selection = preset.unwrap_or(self.asked.selection);
        let method = if let [only] = self.clouds { only.method } else { Method::Plain };
        let question =
            Question { selection, method, ood_split, metrics: metrics.clone(), ..Question::default() };
        let all = if single.is_empty() { &merged.records } else { single };
        let results = results(&merged.name, &merged.work, all, &question)?;
        if results.is_plain {
            return Err(ResultsError::NoDomain { sweep: merged.name.clone() }.into());
        }
        Ok(results)
    }

    /// Panels of all datasets that have something complete.
    fn panels(&self, parts: Vec<(&Merged, DatasetGroups)>) -> Result<Panels, FigureError> {
        let names = parts.iter().map(|(merged, _)| merged.name.as_str()).collect::<Vec<_>>().join(", ");
        let is_empty = |part: &DatasetGroups| part.groups.is_empty() && part.points.is_empty();
        if parts.iter().all(|(_, part)| is_empty(part)) {
            return Err(FigureError::NoCompleteSetting { sweep: names });
        }
        let keys: BTreeSet<&GroupKey> = parts.iter().flat_map(|(_, part)| part.groups.keys()).collect();
        let keys: Vec<GroupKey> = keys.into_iter().cloned().collect();
        if keys.len() > GROUPS_MAX {
            return Err(FigureError::TooManySettings {
                sweep: names,
                by: self.by.iter().map(Axis::as_str).collect::<Vec<_>>().join(","),
                settings: keys.len(),
                max: GROUPS_MAX,
                kind: self.asked.kind,
            });
        }
        let point_keys: BTreeSet<&PointKey> = parts.iter().flat_map(|(_, part)| part.points.keys()).collect();
        let point_keys: Vec<PointKey> = point_keys.into_iter().cloned().collect();
        let mut looks: Vec<Look> =
            keys.iter().enumerate().map(|(index, key)| self.look(index, key, &keys)).collect();
        looks.extend(point_keys.iter().enumerate().map(|(index, key)| self.point_look(index, key)));
        let (mut panels, mut missing, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for (merged, part) in parts {
            let title = if merged.dataset.is_empty() { &merged.name } else { &merged.dataset };
            missing.extend(self.missing(title, &part, &keys));
            let combined = merged.records.iter().filter(|record| record.point.combine().is_some()).count();
            if combined > 0 && self.asked.preset.is_none() {
                missing.push(format!("{title}: {combined} combinations of trials are not drawn"));
            }
            let place = |key: &GroupKey| keys.iter().position(|known| known == key);
            let at = |key: &PointKey| {
                point_keys.iter().position(|known| known == key).map(|index| keys.len() + index)
            };
            if !is_empty(&part) {
                panels.push(Panel {
                    title: title.clone(),
                    groups: part
                        .groups
                        .into_iter()
                        .filter_map(|(key, group)| Some((place(&key)?, group)))
                        .collect(),
                    points: part
                        .points
                        .into_iter()
                        .filter_map(|(key, model)| Some((at(&key)?, model.at)))
                        .collect(),
                });
            }
            all.push(part.results);
        }
        let Some(results) = all.into_iter().reduce(plus) else {
            return Err(FigureError::NoCompleteSetting { sweep: names });
        };
        Ok(Panels {
            looks,
            panels,
            joins_centres: self.asked.preset.is_some_and(|preset| preset.joins_centres()),
            missing,
            results: Results { sweep: names, ..results },
        })
    }

    /// What a group is called and looks like.
    fn look(&self, index: usize, (cloud, values): &GroupKey, keys: &[GroupKey]) -> Look {
        let Cloud { name, method, .. } = &self.clouds[*cloud];
        let mut parts = vec![name.clone()];
        if name.is_empty() {
            let methods = keys.iter().map(|(cloud, _)| cloud).collect::<BTreeSet<_>>().len();
            let only = if methods > 1 || values.is_empty() { method.as_str() } else { "" };
            only.clone_into(&mut parts[0]);
        }
        let shown = values.iter().zip(self.by).filter(|(value, _)| **value != AxisValue::Absent);
        parts.extend(shown.map(|(value, axis)| format!("{axis} {value}")));
        parts.retain(|part| !part.is_empty());
        Look { label: parts.join(", "), style: ScatterStyle::of(index), is_group: true }
    }

    fn point_look(&self, index: usize, (is_average, rate, values): &PointKey) -> Look {
        let what = if *is_average { "average across runs" } else { "ensemble across runs" };
        let several = self.asked.preset.is_some_and(|preset| preset.combined_rates().len() > 1);
        let mut parts = vec![what.to_owned()];
        parts.extend(several.then(|| format!("dropout {rate}")));
        parts.extend(named(self.by, values));
        let shapes = [Marker::Circle, Marker::Plus, Marker::Cross];
        let fill = if (index / shapes.len()).is_multiple_of(2) { Fill::Solid } else { Fill::Open };
        let style = ScatterStyle { colour: BLACK, marker: shapes[index % shapes.len()], dash: "", fill };
        Look { label: parts.join(", "), style, is_group: false }
    }

    /// A line on the groups that a dataset lacks.
    fn missing(&self, title: &str, part: &DatasetGroups, keys: &[GroupKey]) -> Option<String> {
        let mut names: Vec<String> = Vec::new();
        for (index, cloud) in self.clouds.iter().enumerate() {
            let own = || keys.iter().chain(&part.planned).filter(|(cloud, _)| *cloud == index);
            let is_missing = match own().next() {
                None => !cloud.name.is_empty(),
                Some(_) => own().any(|key| !part.groups.contains_key(key)),
            };
            if is_missing {
                let of = if cloud.name.is_empty() { cloud.method.as_str() } else { &cloud.name };
                names.push(of.to_owned());
            }
        }
        (!names.is_empty())
            .then(|| format!("{title}: nothing yet for some held-out domain of {}", names.join("; ")))
    }
}

/// Conditions of a preset; none for no conditions. A preset's can be read: a test says so.
fn filter(conditions: &str) -> Option<Filter> {
    if conditions.is_empty() { None } else { Filter::parse(conditions).ok() }
}

/// The results with the counts of both.
fn plus(mut total: Results, one: Results) -> Results {
    total.planned += one.planned;
    total.done += one.done;
    total.failed += one.failed;
    total.diverged += one.diverged;
    total.cancelled += one.cancelled;
    if !one.missing_classes.is_refuse() {
        total.missing_classes = one.missing_classes;
    }
    total.cells.extend(one.cells);
    total
}
