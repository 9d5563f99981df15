//! The data behind the figures, by hand.

#[path = "../../tests/support/mod.rs"]
mod support;

use proptest::prelude::*;
use sortie_core::job::StateName;
use sortie_core::record::TrialRecord;
use support::{point, record, succeeded, work};

use super::curves::{Point, trajectories};
use super::rates::Curves;
use super::scatter::{clouds, hull};
use crate::{Axis, Question, results};

fn by_dropout(records: &[TrialRecord]) -> crate::Results {
    results("s", &work("PACS"), records, &Question { by: vec![Axis::dropout()], ..Question::default() }).unwrap()
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
    let early = |row: &sortie_core::metrics::Evaluation| sortie_core::metrics::Evaluation { step: 0, ..row.clone() };
    let (validation, held_out) =
        (records[0].validation.iter().map(early).collect::<Vec<_>>(), records[0].held_out.iter().map(early).collect::<Vec<_>>());
    records[0].validation.extend(validation);
    records[0].held_out.extend(held_out);
    let found = trajectories(&by_dropout(&records), &records);
    let summary: Vec<_> = found.iter().map(|trajectory| (trajectory.rate, trajectory.trials, trajectory.points.len())).collect();
    assert_eq!(summary, [(0.0, 2, 1), (0.9, 1, 1)]);
    assert!((found[0].points[0].ood - 60.0).abs() < 1e-9 && (found[0].points[0].iid - 85.0).abs() < 1e-9);
    assert_eq!(found[1].points, [Point { step: 20, ood: 60.0, iid: 85.0 }]);
}

fn near(a: (f64, f64), b: (f64, f64)) -> bool {
    (a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9
}

#[test]
fn a_cloud_holds_every_choice_with_seeds_averaged() {
    let work = work("PACS");
    let mut records = Vec::new();
    for (lr, iid, ood) in [(1e-3, 900, 500), (2e-3, 940, 520)] {
        for seed in 0..2 {
            records.push(succeeded(&work, point("photo", 0.5, lr, seed), iid + 20 * seed, ood + 40 * seed));
            records.push(succeeded(&work, point("sketch", 0.5, lr, seed), iid - 100, 2 * ood));
        }
    }
    // A rate that has no result for one of the domains makes no cloud.
    records.push(succeeded(&work, point("photo", 0.9, 1e-3, 0), 900, 500));
    records.push(record(&work, point("sketch", 0.9, 1e-3, 0), StateName::Failed));
    let clouds = clouds(&by_dropout(&records), &records).unwrap();
    assert_eq!(clouds.len(), 1);
    // Photo: (91, 52) and (95, 54); sketch: (80, 100) and (84, 104).
    let expected = [(85.5, 76.0), (87.5, 78.0), (87.5, 77.0), (89.5, 79.0)];
    assert_eq!(clouds[0].points.len(), 4);
    for point in expected {
        assert!(clouds[0].points.iter().any(|&found| near(found, point)), "{point:?} in {:?}", clouds[0].points);
    }
    assert!(near(clouds[0].centre, (87.5, 77.5)));
    assert_eq!((clouds[0].rate, clouds[0].hull.len()), (0.5, 4));
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
    assert_eq!(curves.rates, [0.0, 0.5]);
    let photo = curves.domains[0].values[0].unwrap();
    // Two values one point away from their mean: se = sqrt(2) / sqrt(2).
    assert!(near((photo.percent, photo.se.unwrap()), (51.0, 1.0)) && photo.complete);
    assert_eq!(curves.domains[0].values[1], None);
    let sketch = curves.domains[1].values[0].unwrap();
    assert!(near((sketch.percent, 0.0), (60.0, 0.0)) && !sketch.complete && sketch.se.is_none());
    // Only seed 0 is done for both domains.
    let (ood, iid) = (curves.ood.values[0].unwrap(), curves.iid.values[0].unwrap());
    assert!(near((ood.percent, iid.percent), (55.0, 92.0)) && !ood.complete);
}

#[test]
fn hulls_of_few_points_are_what_they_are() {
    assert_eq!(hull(&[(1.0, 1.0), (1.0, 1.0)]), [(1.0, 1.0)]);
    assert_eq!(hull(&[(0.0, 0.0), (2.0, 2.0), (1.0, 1.0)]), [(0.0, 0.0), (2.0, 2.0)]);
}

proptest! {
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
