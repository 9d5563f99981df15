//! How the groups and the combinations of a scatter figure look.

use std::collections::BTreeSet;

use sortie_core::metrics::Method;

use super::scatter_points::{Combined, Scatter, ScatterGroup};
use super::settings::Setting;
use super::svg::{BLACK, DASHES, Fill, Marker, Stroke, Svg, colour};
use crate::axis::{Axis, AxisValue};

/// Width of a sample in a legend.
const SAMPLE: f64 = 24.0;

/// The style of a group's hull and centre.
#[derive(Clone, Copy)]
pub(super) struct ScatterStyle {
    pub colour: &'static str,
    pub marker: Marker,
    pub dash: &'static str,
    pub fill: Fill,
}

impl ScatterStyle {
    /// A style by index; styles differ in colour, marker and dashes.
    pub(super) fn of(index: usize) -> Self {
        Self {
            colour: colour(index),
            marker: Marker::of(index),
            dash: DASHES[index % DASHES.len()],
            fill: Fill::Solid,
        }
    }

    pub(super) fn outline(self) -> Stroke {
        Stroke { colour: self.colour, width: 1.4, dash: self.dash }
    }

    pub(super) fn draw_sample(self, svg: &mut Svg, (x, y): (f64, f64), outlined: bool) {
        if outlined {
            svg.polyline("sample", &[(x, y), (x + SAMPLE, y)], self.outline());
        }
        self.draw_centre(svg, "sample", (x + SAMPLE / 2.0, y));
    }

    pub(super) fn draw_centre(self, svg: &mut Svg, class: &str, at: (f64, f64)) {
        // A white rim separates the marker from the points below it.
        svg.marker("rim", self.marker, at, 5.8, "#ffffff", Fill::Solid);
        svg.marker(class, self.marker, at, 4.4, self.colour, self.fill);
    }
}

/// The styles of groups. With one method they depend on the setting, with one setting on the method. With several of both, colour and shape
/// show the setting, dashes and fill the method.
pub(super) struct ScatterStyles {
    axes: Vec<Axis>,
    pub settings: Vec<Setting>,
    pub methods: Vec<Method>,
    /// Names of combinations with their numbers of members, as bits.
    combined: BTreeSet<(String, u64)>,
}

impl ScatterStyles {
    pub(super) fn of(scatter: &Scatter<'_>) -> Self {
        let settings: BTreeSet<&Setting> = scatter.groups.iter().map(|group| &group.setting).collect();
        let combined = scatter
            .combined
            .iter()
            .map(|combined| (combined.name.clone(), combined.members.to_bits()))
            .collect();
        Self {
            axes: scatter.axes.to_vec(),
            settings: settings.into_iter().cloned().collect(),
            methods: scatter.methods.to_vec(),
            combined,
        }
    }

    /// The style of a combination: a shape that no group has for each name and number of members, in the colour of its rate.
    pub(super) fn combined(&self, combined: &Combined) -> ScatterStyle {
        let shapes = [Marker::Circle, Marker::Plus, Marker::Cross];
        let kind = (combined.name.clone(), combined.members.to_bits());
        let index = self.combined.iter().position(|own| *own == kind).unwrap_or_default();
        let fill = if (index / shapes.len()).is_multiple_of(2) { Fill::Solid } else { Fill::Open };
        let setting: Setting = self.axes.iter().map(|axis| axis.of(&combined.rest, 0, 0)).collect();
        let known = self.settings.iter().position(|own| !own.is_empty() && *own == setting);
        let colour = known.filter(|_| self.methods.len() < 2 || self.both()).map_or(BLACK, colour);
        ScatterStyle { colour, marker: shapes[index % shapes.len()], dash: "", fill }
    }

    /// What distinguishes a group from the others.
    pub(super) fn parts(&self, method: Method, setting: &Setting) -> Vec<String> {
        let values = || setting.iter().map(AxisValue::to_string);
        match self.methods.len() {
            0 | 1 if !setting.is_empty() => values().collect(),
            // The method and the first value are one part: `average 0.9`.
            _ if self.settings.len() > 1 && !setting.is_empty() => {
                let mut parts: Vec<String> = values().collect();
                parts[0] = format!("{method} {}", parts[0]);
                parts
            }
            _ => vec![method.to_string()],
        }
    }

    /// The name of a group among those of so many settings, of which some are not drawn.
    pub(super) fn name_among(&self, settings: usize, method: Method, setting: &Setting) -> String {
        let values =
            setting.iter().filter(|_| settings > 1 || self.methods.len() < 2).map(AxisValue::to_string);
        let method = (self.methods.len() > 1 || setting.is_empty()).then(|| method.to_string());
        method.into_iter().chain(values).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn both(&self) -> bool {
        self.settings.len() > 1 && self.methods.len() > 1
    }

    pub(super) fn style(&self, group: &ScatterGroup) -> ScatterStyle {
        let setting = self.settings.iter().position(|own| *own == group.setting).unwrap_or_default();
        if self.methods.len() < 2 {
            return ScatterStyle::of(setting);
        }
        let method = Self::method(group.method);
        if self.both() {
            ScatterStyle { dash: method.dash, fill: method.fill, ..ScatterStyle::of(setting) }
        } else {
            method
        }
    }

    /// The style of a method, which is the same in every figure.
    pub(super) fn method(method: Method) -> ScatterStyle {
        let (index, fill) = match method {
            Method::Plain => (0, Fill::Solid),
            Method::Average => (1, Fill::Open),
            Method::Ensemble => (2, Fill::Dotted),
        };
        ScatterStyle { fill, ..ScatterStyle::of(index) }
    }
}
