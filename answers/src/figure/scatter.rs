//! The paper's Figure 1: every way to choose one setting per held-out domain is a point (i.i.d., o.o.d.), one cloud per dropout rate.
//! A cloud is all that a user could get, not the one lucky choice.

use std::collections::BTreeMap;

use sortie_core::parameters::{Parameters, Scalar, number};
use sortie_core::record::TrialRecord;

use super::FigureError;
use super::frame::{Frame, Ticks, WIDTH, draw_heading, left_margin};
use super::svg::{Anchor, BLACK, DASHES, Marker, Stroke, Svg, TEXT, colour, text_width};
use crate::axis::Axis;
use crate::measure::{Measured, Meter, Pairs};
use crate::results::{Results, over_domains};

/// The most points that a figure draws, over all dropout rates: more show nothing more and make a file that viewers choke on.
const POINTS_MAX: u128 = 100_000;

/// The points of one dropout rate, as (i.i.d., o.o.d.) in percent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cloud {
    pub rate: f64,
    pub points: Vec<(f64, f64)>,
    /// Corners of the convex hull, counter-clockwise.
    pub hull: Vec<(f64, f64)>,
    /// The mean of the points.
    pub centre: (f64, f64),
}

/// What was measured, by held-out domain and setting.
type Choices<'a> = BTreeMap<&'a str, BTreeMap<Parameters, Vec<Measured>>>;

/// One cloud per dropout rate that has a result for every held-out domain, ascending.
pub(super) fn clouds(results: &Results, records: &[TrialRecord]) -> Result<Vec<Cloud>, FigureError> {
    let mut rates: BTreeMap<Scalar, Choices<'_>> = BTreeMap::new();
    let meter = Meter { selection: results.selection, method: results.method, ood_split: results.ood_split };
    let pairs = Pairs::of(records);
    for record in records {
        let [held_out] = record.point.held_out.as_slice() else { continue };
        let Some(measured) = meter.measure(record, &pairs) else { continue };
        // A setting is all but the rate, of which one is chosen per held-out domain.
        let mut setting = record.point.parameters.clone();
        let Some(rate) = setting.remove(Axis::dropout().as_str()) else { continue };
        let choices = rates.entry(rate).or_default();
        choices.entry(held_out).or_default().entry(setting).or_default().push(measured);
    }
    rates.retain(|_, choices| choices.len() == results.domains.len());
    if rates.is_empty() {
        return Err(FigureError::NoCompleteRate { sweep: results.sweep.clone() });
    }
    let ways = |choices: &Choices<'_>| choices.values().fold(1_u128, |ways, settings| ways.saturating_mul(settings.len() as u128));
    let combinations = rates.values().map(ways).fold(0_u128, u128::saturating_add);
    if combinations > POINTS_MAX {
        return Err(FigureError::TooManyCombinations { combinations, max: POINTS_MAX });
    }
    Ok(rates.iter().filter_map(|(rate, choices)| Some(cloud(rate.as_number()?, choices))).collect())
}

fn cloud(rate: f64, choices: &Choices<'_>) -> Cloud {
    let mut sums = vec![(0.0, 0.0)];
    for settings in choices.values() {
        let settings: Vec<Measured> = settings.values().map(|seeds| over_domains(seeds)).collect();
        sums = sums.iter().flat_map(|(iid, ood)| settings.iter().map(move |setting| (iid + setting.iid, ood + setting.ood))).collect();
    }
    let percent = 100.0 / choices.len() as f64;
    let points: Vec<(f64, f64)> = sums.iter().map(|(iid, ood)| (percent * iid, percent * ood)).collect();
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let centre = (x / points.len() as f64, y / points.len() as f64);
    Cloud { rate, hull: hull(&points), points, centre }
}

/// The convex hull by Andrew's monotone chain.
pub(super) fn hull(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    sorted.dedup();
    if sorted.len() < 3 {
        return sorted;
    }
    let mut outline = half_hull(sorted.iter().copied());
    outline.extend(half_hull(sorted.iter().rev().copied()));
    outline
}

/// One side of the hull without its last corner, which is the first of the other side.
fn half_hull(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let turns_left = |a: (f64, f64), b: (f64, f64), c: (f64, f64)| (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0) > 0.0;
    let mut side: Vec<(f64, f64)> = Vec::new();
    for point in points {
        while let [.., a, b] = side.as_slice() {
            if turns_left(*a, *b, point) {
                break;
            }
            side.pop();
        }
        side.push(point);
    }
    side.pop();
    side
}

/// Height of the plot, unless its labels need more.
const HEIGHT: f64 = 220.0;
/// Room for a marker before a label.
const SAMPLE: f64 = 30.0;
/// From one label to the next.
const LABEL_GAP: f64 = 16.0;
/// What stands over the labels.
const HEADING: &str = "dropout";

/// Writes the figure.
pub(super) fn draw(clouds: &[Cloud], results: &Results) -> String {
    let mut svg = Svg::default();
    let top = draw_heading(&mut svg, &results.sweep, &notes(clouds, results));
    let ticks = |value: fn(&(f64, f64)) -> f64| Ticks::around(clouds.iter().flat_map(|cloud| &cloud.points).map(value));
    let (x_ticks, y_ticks) = (ticks(|point| point.0), ticks(|point| point.1));
    let labels: Vec<String> = clouds.iter().map(|cloud| number(cloud.rate)).collect();
    let label_width = labels.iter().map(|label| SAMPLE + text_width(label, TEXT)).fold(text_width(HEADING, TEXT), f64::max);
    let left = left_margin(&y_ticks);
    let height = HEIGHT.max(LABEL_GAP * (labels.len() + 1) as f64);
    let frame = Frame { left, top, width: WIDTH - left - label_width - 22.0, height, x: x_ticks.range(), y: y_ticks.range() };
    frame.draw_y_axis(&mut svg, &y_ticks, "o.o.d. accuracy, %");
    let numbers: Vec<(f64, String)> = x_ticks.values.iter().map(|&value| (value, x_ticks.label(value))).collect();
    let bottom = frame.draw_x_axis(&mut svg, &numbers, "i.i.d. accuracy, %");
    draw_clouds(&mut svg, &frame, clouds);
    draw_labels(&mut svg, &frame, &labels);
    svg.finish(&format!("{}: o.o.d. against i.i.d. accuracy", results.sweep), WIDTH, bottom)
}

fn notes(clouds: &[Cloud], results: &Results) -> Vec<String> {
    let mut notes = super::notes(results, &[], true);
    let counts = clouds.iter().map(|cloud| cloud.points.len());
    let (fewest, most) = counts.fold((usize::MAX, 0), |(fewest, most), count| (fewest.min(count), most.max(count)));
    let points = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
    notes.push(format!("dots: every choice of one setting per held-out domain ({points} per rate), seeds averaged; large: their centre"));
    let missing = results.means.len() - clouds.len();
    if missing > 0 {
        notes.push(format!("{missing} of {} dropout rates left out: nothing yet for some held-out domain", results.means.len()));
    }
    notes
}

fn outline(index: usize) -> Stroke {
    Stroke { colour: colour(index), width: 1.4, dash: DASHES[index % DASHES.len()] }
}

fn centre_marker(svg: &mut Svg, class: &str, at: (f64, f64), index: usize) {
    // A white rim tells the marker from the points below it.
    svg.marker("rim", Marker::of(index), at, 5.8, "#ffffff", false);
    svg.marker(class, Marker::of(index), at, 4.4, colour(index), false);
}

fn draw_clouds(svg: &mut Svg, frame: &Frame, clouds: &[Cloud]) {
    let place = |points: &[(f64, f64)]| points.iter().map(|point| frame.place(*point)).collect::<Vec<_>>();
    for (index, cloud) in clouds.iter().enumerate() {
        svg.dots("cloud", &place(&cloud.points), colour(index), if cloud.points.len() > 200 { 0.9 } else { 1.6 });
    }
    for (index, cloud) in clouds.iter().enumerate() {
        svg.polygon("hull", &place(&cloud.hull), outline(index));
    }
    let centres: Vec<(f64, f64)> = clouds.iter().map(|cloud| frame.place(cloud.centre)).collect();
    svg.polyline("centres", &centres, Stroke::solid(BLACK, 1.0));
    for (index, centre) in centres.into_iter().enumerate() {
        centre_marker(svg, "centre", centre, index);
    }
}

fn draw_labels(svg: &mut Svg, frame: &Frame, labels: &[String]) {
    let x = frame.right() + 14.0;
    svg.text((x, frame.top + TEXT), TEXT, Anchor::Start, HEADING);
    for (index, label) in labels.iter().enumerate() {
        let y = frame.top + TEXT / 2.0 + LABEL_GAP * (index + 1) as f64;
        svg.polyline("sample", &[(x, y), (x + SAMPLE - 6.0, y)], outline(index));
        centre_marker(svg, "sample", (x + (SAMPLE - 6.0) / 2.0, y), index);
        svg.text((x + SAMPLE, y + 0.36 * TEXT), TEXT, Anchor::Start, label);
    }
}
