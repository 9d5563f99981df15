//! The paper's Figure 1: every way to choose one setting per held-out domain is a point (i.i.d., o.o.d.), with one group of points for each
//! method and dropout rate, or setting on other axes. A group shows all possible choices, not only the best one.

use std::collections::BTreeSet;

use sortie_core::metrics::Method;

use super::frame::{Frame, Ticks, draw_heading, left_margin};
use super::legend::Legend;
use super::page::FigurePage;
use super::scatter_points::{Combined, Scatter, ScatterGroup};
use super::scatter_styles::ScatterStyles;
use super::settings::{Setting, named};
use super::svg::{BLACK, Picture, Stroke, Svg};
use crate::render::combined_at;
use crate::results::Results;

/// The largest number of points in a figure. More points would not show more, and some viewers cannot open larger files.
const POINTS_MAX: u128 = 100_000;
/// The number of groups that a note names.
const NAMED_MAX: usize = 4;
/// If there are more combinations than this, some are left out; at most twice as many are drawn.
const COMBINED_MAX: usize = 8;
/// Height of the plot in a single column, unless its legend is higher.
const HEIGHT: f64 = 220.0;

/// The combinations to draw. If there are many, only those with most members of each name and setting; if these are still too many, the
/// first ones.
pub(super) fn with_room(mut models: Vec<Combined>) -> Vec<Combined> {
    if models.len() > COMBINED_MAX {
        let all = models.clone();
        let larger =
            |a: &Combined, b: &Combined| (&a.name, &a.rest) == (&b.name, &b.rest) && a.members > b.members;
        models.retain(|model| !all.iter().any(|other| larger(other, model)));
        models.truncate(2 * COMBINED_MAX);
    }
    models
}

/// Writes the figure.
pub(super) fn draw(page: &FigurePage, scatter: &Scatter<'_>, results: &Results) -> Picture {
    let mut svg = Svg::default();
    let styles = ScatterStyles::of(scatter);
    let top = draw_heading(&mut svg, page, &results.sweep, &notes(scatter, &styles, results));
    let legend = Legend::of(page, scatter, &styles);
    let places = || {
        scatter
            .groups
            .iter()
            .flat_map(|group| &group.hull)
            .chain(scatter.combined.iter().map(|combined| &combined.at))
    };
    let ticks = |value: fn(&(f64, f64)) -> f64| Ticks::around(places().map(value));
    let (x_ticks, y_ticks) = (ticks(|point| point.0), ticks(|point| point.1));
    let left = left_margin(&y_ticks);
    let width = page.units() - left - 22.0 - legend.width();
    let frame = Frame {
        left,
        top,
        width,
        height: page.height(HEIGHT).max(legend.height()),
        x: x_ticks.range(),
        y: y_ticks.range(),
    };
    let scale = results.scale();
    let title = |of: &str| scale.with_unit(&format!("{of} {}", scale.name()));
    frame.draw_y_axis(&mut svg, &y_ticks, &title("o.o.d."));
    let numbers: Vec<(f64, String)> =
        x_ticks.values.iter().map(|&value| (value, x_ticks.label(value))).collect();
    let bottom = frame.draw_x_axis(&mut svg, &numbers, &title("i.i.d."));
    draw_groups(&mut svg, &frame, scatter.groups, &styles);
    legend.draw(&mut svg, &frame);
    draw_centres(&mut svg, &frame, scatter, &styles);
    for combined in scatter.combined {
        styles.combined(combined).draw_centre(&mut svg, "combined", frame.place(combined.at));
    }
    svg.finish(&format!("{}: o.o.d. against i.i.d. {}", results.sweep, scale.name()), page.units(), bottom)
}

fn notes(scatter: &Scatter<'_>, styles: &ScatterStyles, results: &Results) -> Vec<String> {
    let Scatter { groups, combined, combined_steps, missing, combined_missing, combined_hidden, .. } =
        scatter;
    let mut notes = super::notes::notes(results, &[], true);
    if let [only] = styles.settings.as_slice()
        && styles.methods.len() > 1
        && !only.is_empty()
    {
        notes.push(named(scatter.axes, only).join(", "));
    }
    let each = match (styles.methods.as_slice(), styles.settings.as_slice()) {
        ([_], [only]) if only.is_empty() => "",
        _ => " per group",
    };
    let all: Vec<&ScatterGroup> = groups.iter().collect();
    notes.extend(dots_note(&all, drawn_max(all.len()), each));
    if !missing.is_empty() {
        let all = missing.len() + groups.len();
        let named = missing.iter().take(NAMED_MAX);
        let settings: BTreeSet<_> = missing
            .iter()
            .map(|(_, setting)| setting)
            .chain(groups.iter().map(|group| &group.setting))
            .collect();
        let name =
            |(method, setting): &(Method, Setting)| styles.name_among(settings.len(), *method, setting);
        let names: Vec<String> = named.map(name).collect();
        let more = if missing.len() > NAMED_MAX { ", …" } else { "" };
        let names = format!("{}{more}", names.join(", "));
        notes.push(format!(
            "{} of {all} groups left out ({names}): nothing yet for some held-out domain",
            missing.len()
        ));
    }
    if !combined.is_empty() {
        let at =
            combined_at(combined_steps).map(|at| format!(", evaluated once, at {at}")).unwrap_or_default();
        notes.push(format!(
            "circles, pluses, crosses: models made of several trials, mean over held-out domains{at}"
        ));
    }
    if *combined_hidden > 0 {
        notes.push(format!("{combined_hidden} more of them are left out: there is room for few, and those with most members come first"));
    }
    if *combined_missing > 0 {
        let all = combined_missing + combined.len() + combined_hidden;
        notes.push(format!(
            "{combined_missing} of {all} combined models left out: not done for every held-out domain"
        ));
    }
    notes
}

/// What the dots of groups are, of which at most so many are drawn of each; none without groups.
pub(super) fn dots_note(groups: &[&ScatterGroup], most: u128, each: &str) -> Option<String> {
    let range = |counts: &mut dyn Iterator<Item = u128>| {
        let (fewest, most) =
            counts.fold((u128::MAX, 0), |(fewest, most), count| (fewest.min(count), most.max(count)));
        if fewest == most { most.to_string() } else { format!("{fewest} to {most}") }
    };
    if groups.is_empty() {
        return None;
    }
    let all = range(&mut groups.iter().map(|group| group.choices));
    Some(if groups.iter().any(|group| group.choices > most) {
        let drawn = range(&mut groups.iter().map(|group| group.choices.min(most)));
        format!(
            "dots: {drawn}{each}, evenly taken from every choice of one setting per held-out domain ({all}), seeds averaged; hulls and \
             centres (large) are those of all choices"
        )
    } else {
        format!(
            "dots: every choice of one setting per held-out domain ({all}{each}), seeds averaged; large: their centre"
        )
    })
}

/// The largest number of points that are drawn of each of so many groups.
pub(super) fn drawn_max(groups: usize) -> u128 {
    POINTS_MAX / groups.max(1) as u128
}

fn draw_groups(svg: &mut Svg, frame: &Frame, groups: &[ScatterGroup], styles: &ScatterStyles) {
    let most = drawn_max(groups.len());
    for group in groups {
        let points = group.points(most).map(|point| frame.place(point));
        svg.dots("points", points, styles.style(group).colour, if group.choices > 200 { 0.9 } else { 1.6 });
    }
    for group in groups {
        let corners: Vec<(f64, f64)> = group.hull.iter().map(|corner| frame.place(*corner)).collect();
        svg.polygon("hull", &corners, styles.style(group).outline());
    }
}

fn draw_centres(svg: &mut Svg, frame: &Frame, scatter: &Scatter<'_>, styles: &ScatterStyles) {
    let groups = scatter.groups;
    // Only the values of a single axis have an order.
    if styles.settings.len() > 1 && scatter.axes.len() == 1 {
        for &method in &styles.methods {
            let centres =
                groups.iter().filter(|group| group.method == method).map(|group| frame.place(group.centre));
            let dash = if styles.both() { ScatterStyles::method(method).dash } else { "" };
            svg.polyline("centres", &centres.collect::<Vec<_>>(), Stroke { colour: BLACK, width: 1.0, dash });
        }
    }
    for group in groups {
        styles.style(group).draw_centre(svg, "centre", frame.place(group.centre));
    }
}
