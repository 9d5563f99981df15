//! Tests of the data behind the figures.

#[path = "../../tests/support/mod.rs"]
mod support;

use proptest::prelude::*;
use sortie_core::combine::{COMBINE, MEMBERS};
use sortie_core::job::StateName;
use sortie_core::metrics::{Method, Metric};
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use support::{point, record, succeeded, work};

use super::boxes::{BoxGroup, Spread, panels};
use super::curves::{CurvePoint, trajectories};
use super::grid::{Grid, GridCell};
use super::rates::Curves;
use super::scatter::with_room;
use super::scatter_points::{Combined, ScatterGroup, ScatterPoint, combined, groups, hull, hull_of_sums};
use super::settings::name;
use crate::metric_spec::{MetricChoice, MetricSpec};
use crate::scale::Scale;
use crate::{Axis, OodSplit, Question, results};

fn scale() -> Scale {
    Scale::of(&Metric::ACCURACY, [])
}

const SPEC: MetricSpec = MetricSpec {
    selection: Selection::Iid,
    method: Method::Plain,
    ood_split: OodSplit::In,
    metrics: MetricChoice::ACCURACY,
};

fn by_dropout(records: &[TrialRecord]) -> crate::Results {
    results("s", &work("PACS"), records, &Question { by: vec![Axis::dropout()], ..Question::default() })
        .unwrap()
}

#[test]
fn a_trajectory_is_the_mean_of_all_trials_where_all_were_evaluated() {
    let work = work("PACS");
    let mut records = vec![
        succeeded(&work, point("photo", 0.0, 1e-3, 0), 900, 700),
        succeeded(&work, point("sketch", 0.0, 1e-3, 0), 800, 500),
        succeeded(&work, point("sketch", 0.9, 1e-3, 0), 850, 600),
        record(&work, point("photo", 0.9, 1e-3, 0), StateName::Failed),
    ];
    // Only one of the first two was evaluated after step 0 as well.
    let early =
        |row: &sortie_core::metrics::Evaluation| sortie_core::metrics::Evaluation { step: 0, ..row.clone() };
    let (validation, held_out) = (
        records[0].validation.iter().map(early).collect::<Vec<_>>(),
        records[0].held_out.iter().map(early).collect::<Vec<_>>(),
    );
    records[0].validation.extend(validation);
    records[0].held_out.extend(held_out);
    let found = trajectories(&[Axis::dropout()], &by_dropout(&records), &records);
    let summary: Vec<_> = found
        .iter()
        .map(|trajectory| (name(&trajectory.setting), trajectory.trials, trajectory.points.len()))
        .collect();
    assert_eq!(summary, [("0".to_owned(), 2, 1), ("0.9".to_owned(), 1, 1)]);
    assert!((found[0].points[0].ood - 60.0).abs() < 1e-9 && (found[0].points[0].iid - 85.0).abs() < 1e-9);
    assert_eq!(found[1].points, [CurvePoint { step: 20, ood: 60.0, iid: 85.0 }]);
}

fn of(records: &[TrialRecord], methods: &[Method]) -> Vec<ScatterGroup> {
    groups(
        &[Axis::dropout()],
        records,
        methods,
        &SPEC,
        (&["photo".to_owned(), "sketch".to_owned()], &scale()),
    )
}

fn near(a: (f64, f64), b: (f64, f64)) -> bool {
    (a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9
}

#[test]
fn a_group_holds_every_choice_with_seeds_averaged() {
    let work = work("PACS");
    let mut records = Vec::new();
    for (lr, iid, ood) in [(1e-3, 900, 500), (2e-3, 940, 520)] {
        for seed in 0..2 {
            records.push(succeeded(&work, point("photo", 0.5, lr, seed), iid + 20 * seed, ood + 40 * seed));
            records.push(succeeded(&work, point("sketch", 0.5, lr, seed), iid - 100, 2 * ood));
        }
    }
    // A rate that has no result for one of the domains makes no group.
    records.push(succeeded(&work, point("photo", 0.9, 1e-3, 0), 900, 500));
    records.push(record(&work, point("sketch", 0.9, 1e-3, 0), StateName::Failed));
    let groups = of(&records, &[Method::Plain]);
    assert_eq!(groups.len(), 1);
    // Photo: (91, 52) and (95, 54); sketch: (80, 100) and (84, 104).
    let expected = [(85.5, 76.0), (87.5, 78.0), (87.5, 77.0), (89.5, 79.0)];
    let points: Vec<ScatterPoint> = groups[0].points(100).collect();
    assert_eq!(points.len(), 4);
    for point in expected {
        assert!(points.iter().any(|&found| near(found, point)), "{point:?} in {points:?}");
    }
    assert!(near(groups[0].centre, (87.5, 77.5)));
    assert_eq!((name(&groups[0].setting), groups[0].hull.len()), ("0.5".to_owned(), 4));
    // With the learning rate as an axis too, nothing is left to choose.
    let axes = [Axis::dropout(), Axis::from("lr")];
    let alone = super::scatter_points::groups(
        &axes,
        &records,
        &[Method::Plain],
        &SPEC,
        (&["photo".to_owned(), "sketch".to_owned()], &scale()),
    );
    let found: Vec<_> =
        alone.iter().map(|group| (name(&group.setting), group.choices, group.centre)).collect();
    assert_eq!(found.len(), 2);
    for ((setting, choices, centre), expected) in
        found.into_iter().zip([("0.5, 1e-3", (85.5, 76.0)), ("0.5, 2e-3", (89.5, 79.0))])
    {
        assert!((setting.as_str(), choices) == (expected.0, 1) && near(centre, expected.1), "{setting}");
    }
}

#[test]
fn curves_are_the_results_in_percent() {
    let work = work("PACS");
    let records = [
        succeeded(&work, point("photo", 0.0, 1e-3, 0), 900, 500),
        succeeded(&work, point("photo", 0.0, 1e-3, 1), 900, 520),
        succeeded(&work, point("sketch", 0.0, 1e-3, 0), 940, 600),
        record(&work, point("sketch", 0.0, 1e-3, 1), StateName::Queued),
        record(&work, point("sketch", 0.5, 1e-3, 0), StateName::Queued),
    ];
    let curves = Curves::of(&by_dropout(&records));
    assert_eq!(curves.x, [0.0, 0.5]);
    let photo = curves.domains[0].1[0].unwrap();
    // Two values one point away from their mean: se = sqrt(2) / sqrt(2).
    assert!(near((photo.y, photo.se.unwrap()), (51.0, 1.0)) && photo.complete);
    assert_eq!(curves.domains[0].1[1], None);
    let sketch = curves.domains[1].1[0].unwrap();
    assert!(near((sketch.y, 0.0), (60.0, 0.0)) && !sketch.complete && sketch.se.is_none());
    // Only seed 0 is done for both domains.
    let [means] = curves.means.as_slice() else { panic!("{curves:?}") };
    let (ood, iid) = (means.ood[0].unwrap(), means.iid[0].unwrap());
    assert!(near((ood.y, iid.y), (55.0, 92.0)) && !ood.complete);
}

/// Two learning rates at two dropout rates; one trial is still missing.
fn incomplete() -> Vec<TrialRecord> {
    let work = work("PACS");
    let mut records = Vec::new();
    for (domain, ease) in [("photo", 200), ("sketch", 0)] {
        for (rate, gain) in [(0.0, 0), (0.9, 10)] {
            for (lr, (iid, ood)) in [(1e-3, (950, 600)), (5e-3, (930, 640))] {
                for seed in 0..3 {
                    records.push(succeeded(
                        &work,
                        point(domain, rate, lr, seed),
                        iid + seed,
                        ood + ease + gain + 2 * seed,
                    ));
                }
            }
        }
    }
    let last = records.len() - 1;
    records[last] = record(&work, records[last].point.clone(), StateName::Running);
    records
}

#[test]
fn further_axes_tell_the_means_of_settings_apart() {
    let by = vec![Axis::from("lr"), Axis::dropout()];
    let question = Question { by, ..Question::default() };
    let curves = Curves::of(&results("s", &work("PACS"), &incomplete(), &question).unwrap());
    assert_eq!((curves.x.as_slice(), curves.domains.len()), (&[1e-3, 5e-3][..], 0));
    let found: Vec<(String, Vec<f64>)> = curves
        .means
        .iter()
        .map(|means| {
            let percent = means.ood.iter().flatten().map(|value| (10.0 * value.y).round() / 10.0);
            (name(&means.setting), percent.collect())
        })
        .collect();
    // The mean of both domains, whose accuracies are 20 points apart.
    assert_eq!(found, [("0".to_owned(), vec![70.2, 74.2]), ("0.9".to_owned(), vec![71.2, 75.1])]);
    assert!(curves.means[0].ood[1].unwrap().complete && !curves.means[1].ood[1].unwrap().complete);
}

#[test]
fn boxes_are_those_of_single_trials() {
    let text = |spread: &Option<Spread>| {
        let Some(Spread { quartiles: [first, median, third], whiskers: (low, high), outliers }) = spread
        else {
            return "-".to_owned();
        };
        format!("{low:.2} [{first:.2} {median:.2} {third:.2}] {high:.2} {outliers:.1?}")
    };
    let lines = panels(&by_dropout(&incomplete())).into_iter().flat_map(|panel| {
        let title = panel.title.clone();
        panel.groups.into_iter().map(move |group| {
            let BoxGroup { label, n, planned, ood, iid } = group;
            format!("{title}, {label}: {n}/{planned}; {}; {}", text(&ood), text(&iid))
        })
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    photo, 0: 6/6; 80.00 [80.25 82.20 84.15] 84.40 []; 93.00 [93.12 94.10 95.07] 95.20 []
    photo, 0.9: 6/6; 81.00 [81.25 83.20 85.15] 85.40 []; 93.00 [93.12 94.10 95.07] 95.20 []
    sketch, 0: 6/6; 60.00 [60.25 62.20 64.15] 64.40 []; 93.00 [93.12 94.10 95.07] 95.20 []
    sketch, 0.9: 5/6; 61.00 [61.20 61.40 65.00] 65.20 []; 93.00 [93.10 95.00 95.10] 95.20 []
    mean over held-out domains, 0: 6/6; 70.00 [70.25 72.20 74.15] 74.40 []; 93.00 [93.12 94.10 95.07] 95.20 []
    mean over held-out domains, 0.9: 5/6; 71.00 [71.20 71.40 75.00] 75.20 []; 93.00 [93.10 95.00 95.10] 95.20 []
    ");
}

#[test]
fn a_box_has_whiskers_within_its_reach_and_outliers_beyond() {
    // Quartiles 2 and 4, so that whiskers reach from -1 to 7.
    let spread = Spread::of(vec![8.0, 3.0, 2.0, 4.0, -1.0]).unwrap();
    assert_eq!(
        (spread.quartiles, spread.whiskers, spread.outliers),
        ([2.0, 3.0, 4.0], (-1.0, 4.0), vec![8.0])
    );
    // The only value inside lies above the first quartile: the whisker ends at the box.
    let spread = Spread::of(vec![0.0, 10.0, 10.0, 10.0]).unwrap();
    assert_eq!(
        (spread.quartiles, spread.whiskers, spread.outliers),
        ([7.5, 10.0, 10.0], (7.5, 10.0), vec![0.0])
    );
    let spread = Spread::of(vec![0.0, 0.0, 0.0, 10.0]).unwrap();
    assert_eq!(
        (spread.quartiles, spread.whiskers, spread.outliers),
        ([0.0, 0.0, 2.5], (0.0, 2.5), vec![10.0])
    );
    let one = Spread::of(vec![5.0]).unwrap();
    assert_eq!((one.quartiles, one.whiskers, one.outliers.len()), ([5.0; 3], (5.0, 5.0), 0));
    assert_eq!(Spread::of(vec![]), None);
}

#[test]
fn a_grid_has_means_and_marks_the_best_of_complete_panels() {
    let question = Question { by: vec![Axis::dropout(), Axis::from("lr")], ..Question::default() };
    let grid = Grid::of(&results("s", &work("PACS"), &incomplete(), &question).unwrap());
    let mut text = format!("{} by {}\n", grid.rows.join(" "), grid.columns.join(" "));
    for panel in &grid.panels {
        for row in &panel.cells {
            let cell = |cell: &Option<GridCell>| {
                let Some(GridCell { value, done, planned, best }) = cell else {
                    return "not planned".to_owned();
                };
                let percent = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
                format!("{percent} {done}/{planned}{}", if *best { " best" } else { "" })
            };
            text.push_str(&format!(
                "{}: {}\n",
                panel.title,
                row.iter().map(cell).collect::<Vec<_>>().join(", ")
            ));
        }
    }
    insta::assert_snapshot!(text, @r"
    0 0.9 by 1e-3 5e-3
    photo: 80.20 3/3, 84.20 3/3
    photo: 81.20 3/3, 85.20 3/3 best
    sketch: 60.20 3/3, 64.20 3/3
    sketch: 61.20 3/3, 65.10 2/3
    mean: 70.20 3/3, 74.20 3/3
    mean: 71.20 3/3, 75.10 2/3
    ");
}

#[test]
fn cells_that_look_equal_are_all_marked_best() {
    let work = work("PACS");
    let mut records = Vec::new();
    // 0.70002 and 0.70000 are both shown as 70.0.
    for (rate, lr, correct) in
        [(0.0, 1e-3, 70_002), (0.0, 5e-3, 70_000), (0.9, 1e-3, 69_000), (0.9, 5e-3, 60_000)]
    {
        let mut trial = succeeded(&work, point("photo", rate, lr, 0), 900, 0);
        for row in &mut trial.held_out {
            row.score = Some(sortie_core::metrics::Score::Counts { n: 100_000, correct });
        }
        records.push(trial);
    }
    let question = Question { by: vec![Axis::dropout(), Axis::from("lr")], ..Question::default() };
    let grid = Grid::of(&results("s", &work, &records, &question).unwrap());
    let best: Vec<bool> = grid.panels[0].cells.iter().flatten().map(|cell| cell.unwrap().best).collect();
    assert_eq!(best, [true, true, false, false]);
}

#[test]
fn hulls_of_few_points_are_what_they_are() {
    assert_eq!(hull(&[(1.0, 1.0), (1.0, 1.0)]), [(1.0, 1.0)]);
    assert_eq!(hull(&[(0.0, 0.0), (2.0, 2.0), (1.0, 1.0)]), [(0.0, 0.0), (2.0, 2.0)]);
}

/// A model that combines trials, held out like them.
fn combination(
    held_out: &str,
    name: &str,
    members: f64,
    rest: &[(&str, f64)],
    (iid, ood): (u64, u64),
) -> TrialRecord {
    let mut trial = succeeded(&work("PACS"), point(held_out, 0.0, 0.0, 0), iid, ood);
    trial.point.parameters =
        rest.iter().map(|(name, value)| ((*name).to_owned(), Scalar::Number((*value).into()))).collect();
    trial.point.parameters.insert(COMBINE.to_owned(), Scalar::Text(name.to_owned()));
    trial.point.parameters.insert(MEMBERS.to_owned(), Scalar::Number(members.into()));
    trial
}

#[test]
fn a_combined_model_is_one_point_if_it_is_done_for_every_domain() {
    let mut records = vec![
        combination("photo", "ensemble", 18.0, &[("dropout", 0.9)], (980, 900)),
        combination("sketch", "ensemble", 18.0, &[("dropout", 0.9)], (960, 700)),
        combination("photo", "ensemble", 18.0, &[("dropout", 0.0)], (980, 900)),
        combination("photo", "average", 18.0, &[], (970, 910)),
        combination("sketch", "average", 18.0, &[], (970, 690)),
    ];
    records[4].state = StateName::Running;
    let domains = ["photo".to_owned(), "sketch".to_owned()];
    // It was evaluated once, so that no selection method lacks anything, and as the model that it is.
    for selection in [Selection::Iid, Selection::Loo] {
        let (models, missing) = combined(&records, &MetricSpec { selection, ..SPEC }, (&domains, &scale()));
        let [model] = models.as_slice() else { panic!("{models:?}") };
        assert_eq!((model.name.as_str(), model.members, missing), ("ensemble", 18.0, 2));
        assert_eq!(model.rest, [("dropout".to_owned(), Scalar::Number(0.9.into()))].into());
        assert!(near(model.at, (97.0, 80.0)));
    }
}

#[test]
fn of_many_combined_models_those_with_most_members_are_drawn() {
    let model = |name: &str, members: u32, rate: u32| {
        let rest = [("dropout".to_owned(), Scalar::Number((f64::from(rate) / 10.0).into()))].into();
        Combined { name: name.to_owned(), members: f64::from(members), rest, at: (0.0, 0.0) }
    };
    let of = |names: &[&str], counts: &[u32], rates: u32| -> Vec<Combined> {
        let all = names.iter().flat_map(|name| {
            counts.iter().flat_map(move |&count| (0..rates).map(move |rate| model(name, count, rate)))
        });
        with_room(all.collect())
    };
    assert_eq!(of(&["a", "b"], &[3, 18], 2).len(), 8);
    let few = of(&["a", "b"], &[3, 18, 9], 4);
    assert!(few.len() == 8 && few.iter().all(|model| model.members == 18.0));
    assert_eq!(of(&["a", "b", "c"], &[1, 2], 9).len(), 16);
}

#[test]
fn drawn_choices_are_different_and_take_every_setting_equally_often() {
    let work = work("PACS");
    let mut records = Vec::new();
    for (domain, settings, unit) in [("photo", 30_u64, 1), ("sketch", 20, 30)] {
        for setting in 0..settings {
            // The thousandths of the sum tell which settings were chosen.
            records.push(succeeded(
                &work,
                point(domain, 0.5, 1e-4 * (setting + 1) as f64, 0),
                unit * setting,
                500,
            ));
        }
    }
    let groups = of(&records, &[Method::Plain]);
    let chosen = |most: u128| -> Vec<u64> {
        groups[0].points(most).map(|(iid, _)| (20.0 * iid).round() as u64).collect()
    };
    for most in [600, 601, u128::MAX] {
        let mut all = chosen(most);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..600), "{most}");
    }
    let mut some = chosen(120);
    assert_eq!(some, chosen(120));
    for (settings, of) in [(30, (|choice| choice % 30) as fn(u64) -> u64), (20, |choice| choice / 30)] {
        let counts =
            (0..settings).map(|setting| some.iter().filter(|choice| of(**choice) == setting).count() as u64);
        let fair = 120 / settings;
        assert!(counts.clone().all(|count| count.abs_diff(fair) <= 1), "{:?}", counts.collect::<Vec<_>>());
    }
    some.sort_unstable();
    some.dedup();
    assert_eq!(some.len(), 120);
}

proptest! {
    /// Whole numbers add up without rounding, so that equal means equal.
    #[test]
    fn hull_and_centre_without_listing_choices_are_those_of_all_choices(
        sets in prop::collection::vec(prop::collection::vec((0..50_i32, 0..50_i32), 1..7), 1..5),
    ) {
        let sets: Vec<Vec<ScatterPoint>> =
            sets.into_iter().map(|set| set.into_iter().map(|(x, y)| (f64::from(x), f64::from(y))).collect()).collect();
        let mut all = vec![(0.0, 0.0)];
        for set in &sets {
            all = all.iter().flat_map(|a: &ScatterPoint| set.iter().map(move |b| (a.0 + b.0, a.1 + b.1))).collect();
        }
        prop_assert_eq!(hull_of_sums(&sets), hull(&all));
        let group = ScatterGroup::new(Method::Plain, Vec::new(), sets.clone(), 100.0);
        prop_assert_eq!(group.choices, all.len() as u128);
        let percent = 100.0 / sets.len() as f64;
        let (x, y) = all.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        let mean = (percent * x / all.len() as f64, percent * y / all.len() as f64);
        prop_assert!(near(group.centre, mean), "{:?} {mean:?}", group.centre);
        let expected: Vec<ScatterPoint> = all.iter().map(|point| (percent * point.0, percent * point.1)).collect();
        prop_assert_eq!(group.points(u128::MAX).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_hull_turns_left_only_and_holds_every_point(points in prop::collection::vec((0..20_i32, 0..20_i32), 3..40)) {
        let points: Vec<(f64, f64)> = points.into_iter().map(|(x, y)| (f64::from(x), f64::from(y))).collect();
        let hull = hull(&points);
        prop_assert!(hull.iter().all(|corner| points.contains(corner)));
        for (index, a) in hull.iter().enumerate() {
            let b = hull[(index + 1) % hull.len()];
            for c in &points {
                prop_assert!((b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0) >= 0.0, "{c:?} lies outside {a:?} {b:?}");
            }
        }
    }
}
