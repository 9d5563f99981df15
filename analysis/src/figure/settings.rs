//! The settings that a figure tells apart: values on some axes.

use sortie_core::trial::Point;

use super::svg::{fitted, text_width};
use crate::axis::{Axis, AxisValue};

/// Values on the axes of a figure, in the order of the axes.
pub(super) type Setting = Vec<AxisValue>;

/// The setting of a trial.
pub(super) fn setting(axes: &[Axis], point: &Point) -> Setting {
    axes.iter().map(|axis| axis.of(&point.parameters, point.seed, point.split_seed)).collect()
}

/// The values alone, for a list below the names of the axes: `0.9, 1e-4`.
pub(super) fn name(setting: &[AxisValue]) -> String {
    setting.iter().map(AxisValue::to_string).collect::<Vec<_>>().join(", ")
}

/// The values with their axes: `dropout 0.9`, `weight_decay 1e-4`.
pub(super) fn named(axes: &[Axis], setting: &[AxisValue]) -> Vec<String> {
    axes.iter().zip(setting).map(|(axis, value)| format!("{axis} {value}")).collect()
}

/// The names of axes, separated by commas.
pub(super) fn names(axes: &[Axis]) -> String {
    axes.iter().map(Axis::as_str).collect::<Vec<_>>().join(", ")
}

/// Parts of a label, separated by commas, in lines that fit. A part that is longer than a line is cut.
pub(super) fn label(parts: &[String], size: f64, width_max: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let comma = if index + 1 < parts.len() { "," } else { "" };
        let part = fitted(part, size, width_max - text_width(comma, size)) + comma;
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {part}"), size) <= width_max => {
                line.push(' ');
                line.push_str(&part);
            }
            _ => lines.push(part),
        }
    }
    lines
}

/// The values alone as a label, in lines that fit.
pub(super) fn value_label(setting: &[AxisValue], size: f64, width_max: f64) -> Vec<String> {
    label(&setting.iter().map(AxisValue::to_string).collect::<Vec<_>>(), size, width_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_broken_between_axes_and_hides_none() {
        let parts = ["dropout 0.9", "weight_decay 1e-4", "lr 5e-4"].map(str::to_owned);
        let lines = label(&parts, 11.0, 124.0);
        assert_eq!(lines, ["dropout 0.9,", "weight_decay 1e-4,", "lr 5e-4"]);
        assert_eq!(label(&parts, 11.0, 500.0), ["dropout 0.9, weight_decay 1e-4, lr 5e-4"]);
        assert!(label(&parts, 11.0, 60.0).iter().all(|line| text_width(line, 11.0) <= 60.0));
    }
}
