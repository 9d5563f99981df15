//! Axes: tidy numbers, the frame of a plot, the text around it, and labels that do not overlap.

use super::page::{FigurePage, POINTS_PER_UNIT};
use super::svg::{Anchor, BLACK, GREY, Stroke, Svg, TEXT, text_width, wrapped};

pub(super) const MARGIN: f64 = 8.0;
/// Size of the smallest text: 6.2 points on paper.
pub(super) const NOTE: f64 = 9.5;
// Journals ask for text of six points.
const _: () = assert!(NOTE * POINTS_PER_UNIT >= 6.0);

/// Round numbers on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ticks {
    /// Ascending; the first and last enclose the data.
    pub values: Vec<f64>,
    decimals: usize,
}

impl Ticks {
    /// About five round numbers that enclose all values, in steps of 1, 2 or 5 times a power of ten.
    pub(super) fn around(values: impl IntoIterator<Item = f64>) -> Self {
        Self::in_steps(values, 5.0)
    }

    /// The same for a low plot: about three.
    pub(super) fn few(values: impl IntoIterator<Item = f64>) -> Self {
        Self::in_steps(values, 3.0)
    }

    fn in_steps(values: impl IntoIterator<Item = f64>, steps: f64) -> Self {
        let extend = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        let (low, high) = values.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), extend);
        // A single value has no extent: show one unit (a percentage point) on either side of it.
        let (low, high) = if high - low > 1e-9 { (low, high) } else { (low - 1.0, high + 1.0) };
        let raw = (high - low) / steps;
        let magnitude = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * magnitude)
            .into_iter()
            .find(|step| *step >= raw * (1.0 - 1e-9));
        let step = step.unwrap_or(10.0 * magnitude);
        let first = (low / step + 1e-9).floor() as i64;
        let last = (high / step - 1e-9).ceil() as i64;
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        Self { values: (first..=last).map(|index| index as f64 * step).collect(), decimals }
    }

    /// The ends of the axis: a little beyond the outer ticks, so that no marker sits on the frame.
    pub(super) fn range(&self) -> (f64, f64) {
        let first = self.values.first().copied().unwrap_or(0.0);
        let last = self.values.last().copied().unwrap_or(1.0);
        (first - 0.03 * (last - first), last + 0.03 * (last - first))
    }

    /// All numbers of an axis have the same number of decimals.
    pub(super) fn label(&self, value: f64) -> String {
        // Adding zero takes the sign from a negative zero.
        format!("{:.*}", self.decimals, value + 0.0)
    }
}

/// A rectangle of the page and the data range that it shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Left edge on the page.
    pub left: f64,
    /// Upper edge on the page.
    pub top: f64,
    /// Width on the page.
    pub width: f64,
    /// Height on the page.
    pub height: f64,
    /// Data at the left and right edge.
    pub x: (f64, f64),
    /// Data at the lower and upper edge.
    pub y: (f64, f64),
}

impl Frame {
    /// The page position of a data point.
    pub(super) fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let part = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        (self.left + self.width * part(x, self.x), self.top + self.height * (1.0 - part(y, self.y)))
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    /// The y axis: grid lines, numbers and title.
    pub(super) fn draw_y_axis(&self, svg: &mut Svg, ticks: &Ticks, title: &str) {
        self.draw_y_numbers(svg, ticks);
        svg.text_upwards((MARGIN + 0.8 * TEXT, self.top + self.height / 2.0), TEXT, title);
    }

    /// The same without a title.
    pub(super) fn draw_y_numbers(&self, svg: &mut Svg, ticks: &Ticks) {
        for &value in &ticks.values {
            let (_, y) = self.place((self.x.0, value));
            svg.polyline("grid", &[(self.left, y), (self.right(), y)], Stroke::solid("#e4e4e4", 0.7));
            svg.text((self.left - 5.0, y + 0.36 * TEXT), TEXT, Anchor::End, &ticks.label(value));
        }
    }

    /// The x axis: a line, tick marks at values, their labels in as many as two rows, and a title. Labels that fit in neither row are
    /// left out. Returns the y position below them.
    pub(super) fn draw_x_axis(&self, svg: &mut Svg, ticks: &[(f64, String)], title: &str) -> f64 {
        svg.polyline(
            "axis",
            &[(self.left, self.bottom()), (self.right(), self.bottom())],
            Stroke::solid(BLACK, 1.0),
        );
        let labels: Vec<(f64, String)> =
            ticks.iter().map(|(value, label)| (self.place((*value, self.y.0)).0, label.clone())).collect();
        let rows = rows(&labels, TEXT, 2);
        for ((x, label), row) in labels.into_iter().zip(&rows) {
            let below = *row == Some(1);
            let tick = if below { 4.0 + TEXT } else { 4.0 };
            let line = [(x, self.bottom()), (x, self.bottom() + tick)];
            svg.polyline("tick", &line, Stroke::solid(if below { GREY } else { BLACK }, 0.8));
            if let Some(row) = row {
                svg.text(
                    (x, self.bottom() + 5.0 + TEXT * (1.0 + 1.05 * *row as f64)),
                    TEXT,
                    Anchor::Middle,
                    &label,
                );
            }
        }
        let rows = if rows.contains(&Some(1)) { 2.0 } else { 1.0 };
        let y = self.bottom() + 8.0 + TEXT * (1.0 + 1.1 * rows);
        svg.text((self.left + self.width / 2.0, y), TEXT, Anchor::Middle, title);
        y + MARGIN
    }
}

/// The row of each of these labels, which are centred on their x positions, such that none touches another: the first with room for it
/// of so many; none if there is no room in any.
pub(super) fn rows(labels: &[(f64, String)], size: f64, rows_max: usize) -> Vec<Option<usize>> {
    let mut ends = vec![f64::NEG_INFINITY; rows_max];
    let row = |(x, label): &(f64, String)| {
        let half = text_width(label, size) / 2.0;
        let row = ends.iter().position(|end| x - half > end + 4.0)?;
        ends[row] = x + half;
        Some(row)
    };
    labels.iter().map(row).collect()
}

/// Room for the numbers and the title of a y axis.
pub(super) fn left_margin(ticks: &Ticks) -> f64 {
    let widest = ticks.values.iter().map(|value| text_width(&ticks.label(*value), TEXT)).fold(0.0, f64::max);
    MARGIN + 1.6 * TEXT + widest + 5.0
}

/// Writes the title, which is the sweep's name unless the page has another one, and the notes at the top of the page. A page without a
/// caption has neither, unless it has a title of its own. Returns the y position below them.
pub(super) fn draw_heading(svg: &mut Svg, page: &FigurePage, sweep: &str, notes: &[String]) -> f64 {
    let width = page.units() - 2.0 * MARGIN;
    let title = page.title.as_deref().or(page.caption.then_some(sweep)).unwrap_or_default();
    let mut y = MARGIN;
    for line in wrapped(title, TEXT + 1.0, width) {
        y += 1.2 * TEXT;
        svg.text((MARGIN, y), TEXT + 1.0, Anchor::Start, &line);
    }
    for line in notes.iter().filter(|_| page.caption).flat_map(|note| wrapped(note, NOTE, width)) {
        y += 1.35 * NOTE;
        svg.text((MARGIN, y), NOTE, Anchor::Start, &line);
    }
    if y > MARGIN { y + 2.0 * MARGIN } else { y }
}

/// Moves label positions apart until neighbours are `gap` away from each other, as close to where they want to be as that allows, and
/// inside `low..=high` as long as they fit there.
pub(super) fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // Groups of labels that touch; each is centred on the mean of what its members want.
    let mut groups: Vec<(Vec<usize>, f64)> = Vec::new();
    for index in order {
        let mut group = (vec![index], wanted[index]);
        while let Some((members, centre)) = groups.last() {
            let reach = gap * (members.len() + group.0.len()) as f64 / 2.0;
            if group.1 - centre >= reach {
                break;
            }
            let mut merged = members.clone();
            merged.append(&mut group.0);
            let mean = merged.iter().map(|&member| wanted[member]).sum::<f64>() / merged.len() as f64;
            group = (merged, mean);
            groups.pop();
        }
        groups.push(group);
    }
    let mut order = Vec::new();
    let mut placed = Vec::new();
    for (members, centre) in groups {
        let first = centre - gap * (members.len() - 1) as f64 / 2.0;
        placed.extend((0..members.len()).map(|k| first + gap * k as f64));
        order.extend(members);
    }
    // The frame's ends push inwards, the upper one last.
    let mut limit = high;
    for y in placed.iter_mut().rev() {
        *y = y.min(limit);
        limit = *y - gap;
    }
    let mut limit = low;
    for y in &mut placed {
        *y = y.max(limit);
        limit = *y + gap;
    }
    let mut spread = vec![0.0; wanted.len()];
    for (index, y) in order.into_iter().zip(placed) {
        spread[index] = y;
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round_and_enclose_the_data() {
        assert_eq!(Ticks::around([41.0, 67.0, 50.0]).values, [40.0, 50.0, 60.0, 70.0]);
        let fine = Ticks::around([0.21, 0.84]);
        let labels: Vec<String> = fine.values.iter().map(|value| fine.label(*value)).collect();
        assert_eq!(labels, ["0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(Ticks::around([50.0]).values, [49.0, 49.5, 50.0, 50.5, 51.0]);
    }

    proptest! {
        #[test]
        fn any_range_gets_a_few_ticks_around_it(low in 0.0..100.0_f64, extent in 0.0..100.0_f64) {
            let ticks = Ticks::around([low, low + extent]);
            prop_assert!((3..=8).contains(&ticks.values.len()), "{ticks:?}");
            let (first, last) = (ticks.values[0], ticks.values[ticks.values.len() - 1]);
            prop_assert!(first <= low + 1e-6 && low + extent <= last + 1e-6);
        }

        #[test]
        fn labels_keep_apart_and_in_order(wanted in prop::collection::vec(0.0..200.0_f64, 1..12)) {
            let placed = spread(&wanted, 14.0, 0.0, 200.0);
            for (a, b) in (0..wanted.len()).flat_map(|a| (0..wanted.len()).map(move |b| (a, b))) {
                if wanted[a] < wanted[b] {
                    prop_assert!(placed[a] + 14.0 <= placed[b] + 1e-6);
                }
            }
            prop_assert!(placed.iter().all(|y| (-1e-6..=200.0 + 1e-6).contains(y)));
        }
    }

    #[test]
    fn labels_that_have_room_stay_where_they_are() {
        assert_eq!(spread(&[100.0, 20.0], 14.0, 0.0, 200.0), [100.0, 20.0]);
        assert_eq!(spread(&[100.0, 100.0], 14.0, 0.0, 200.0), [93.0, 107.0]);
    }
}
