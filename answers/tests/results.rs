//! Statistics by hand and against a slow second computation; every format by snapshot.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use sortie_answers::{Axis, Format, OodSplit, Question, Results, results};
use sortie_core::job::StateName;
use sortie_core::metrics::SplitName;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use support::{evaluation, point, record, settings, succeeded};

const IID: Question = Question { selection: Selection::Iid, by: Vec::new(), ood_split: None };

/// Two rates, two held-out domains, two seeds; at 0.5, `sketch` has one trial done, one failed, and a pair only selects.
fn incomplete() -> Results {
    let settings = settings("PACS");
    let mut records = Vec::new();
    for (domain, ood) in [("sketch", 700), ("photo", 900)] {
        for seed in 0..2 {
            records.push(succeeded(&settings, point(domain, 0.0, 1e-3, seed), 900 + 10 * seed, ood + 20 * seed));
            records.push(succeeded(&settings, point(domain, 0.5, 1e-3, seed), 920 + 10 * seed, ood + 40 + 20 * seed));
        }
    }
    records[3] = record(&settings, records[3].point.clone(), StateName::Failed);
    records.push(succeeded(&settings, point("photo+sketch", 0.5, 1e-3, 0), 100, 100));
    results("demo", &settings, &records, &IID)
}

fn close(value: Option<f64>, expected: f64) -> bool {
    value.is_some_and(|value| (value - expected).abs() < 1e-12)
}

#[test]
fn means_and_errors_are_those_computed_by_hand() {
    let results = incomplete();
    assert_eq!((results.planned, results.done, results.failed, results.diverged), (9, 8, 1, 0));
    assert_eq!(results.domains, ["photo", "sketch"]);
    let photo = &results.cells[0];
    // 0.90 and 0.92: deviations of 0.01 each, variance 2e-4, se = sqrt(1e-4).
    assert!(close(photo.ood.mean, 0.91) && close(photo.ood.se, 0.01) && photo.ood.n == 2);
    let sketch = &results.cells[3];
    assert!(close(sketch.ood.mean, 0.74) && sketch.ood.se.is_none() && (sketch.done, sketch.planned) == (1, 2));
    // Only seed 0 is done on both domains at 0.5: (0.94 + 0.74) / 2.
    assert!(close(results.means[1].ood.mean, 0.84) && results.means[1].ood.n == 1);
    assert_eq!((results.means[1].done, results.means[1].planned), (3, 4));
}

#[test]
fn the_step_is_selected_by_validation_and_the_split_is_the_one_asked_for() {
    let settings = settings("PACS");
    let mut trial = record(&settings, point("sketch", 0.0, 1e-3, 0), StateName::Succeeded);
    for (step, iid, ood) in [(0, 80, 10), (10, 90, 20), (20, 90, 30)] {
        trial.validation.push(evaluation(step, "photo", SplitName::Out, iid, 100));
        trial.validation.push(evaluation(step, "photo", SplitName::In, 100 - iid, 100));
        trial.held_out.push(evaluation(step, "sketch", SplitName::In, ood, 100));
        trial.held_out.push(evaluation(step, "sketch", SplitName::Out, ood, 50));
    }
    for (selection, ood_split, expected) in [
        (Selection::Iid, None, 0.2),
        (Selection::Last, None, 0.3),
        (Selection::Iid, Some(OodSplit::Out), 0.4),
        (Selection::Iid, Some(OodSplit::All), 40.0 / 150.0),
    ] {
        let question = Question { selection, by: Vec::new(), ood_split };
        let results = results("s", &settings, &[trial.clone()], &question);
        assert!(close(results.cells[0].ood.mean, expected), "{question:?}");
    }
}

#[test]
fn rows_are_what_varies_or_what_is_asked_for() {
    let settings = settings("EmojiStyles");
    let records =
        [succeeded(&settings, point("mono", 0.5, 1e-3, 3), 900, 800), succeeded(&settings, point("mono", 0.5, 5e-4, 4), 900, 800)];
    let axes = |records: &[TrialRecord], by: &[Axis]| results("s", &settings, records, &Question { by: by.to_vec(), ..IID }).axes;
    assert_eq!(axes(&records, &[]), [Axis::Lr]);
    assert_eq!(axes(&records[..1], &[]), [Axis::Dropout]);
    assert_eq!(axes(&records, &[Axis::Seed, Axis::Lr, Axis::Seed]), [Axis::Seed, Axis::Lr]);
    assert_eq!(results("s", &settings, &records, &IID).ood_split, OodSplit::Out);
}

#[test]
fn json_is_the_contract() {
    let json: serde_json::Value = serde_json::from_str(&incomplete().render(Format::Json)).unwrap();
    assert_eq!(json["cells"][3]["dropout"], 0.5);
    assert_eq!(json["cells"][3]["ood"], serde_json::json!({"mean": 0.74, "se": null, "n": 1}));
    let first = serde_json::to_string(&incomplete()).unwrap();
    let start = r#"{"sweep":"demo","selection":"iid","ood_split":"in","planned":9,"done":8,"failed":1,"diverged":0,"cells":[{"dropout":0.0,"held_out":"photo","iid":{"mean":"#;
    assert!(first.starts_with(start), "{first}");
    assert!(first.contains(r#""planned":2,"done":1}],"means":[{"dropout":0.0,"iid":{"#), "{first}");
}

#[test]
fn table() {
    insta::assert_snapshot!(incomplete().render(Format::Table), @r"
    sweep demo, selection iid: 8 of 9 trials done, 1 failed, 0 diverged

    o.o.d. accuracy (held-out domain, in split), %
     dropout   photo         sketch       mean         done
    ────────────────────────────────────────────────────────
     0         91.0 ± 1.0    71.0 ± 1.0   81.0 ± 1.0   4/4
     0.5       95.0 ± 1.0*   74.0 (1/2)   84.0         3/4

    i.i.d. accuracy (training domains, out split), %
     dropout   photo        sketch       mean         done
    ───────────────────────────────────────────────────────
     0         90.5 ± 0.5   90.5 ± 0.5   90.5 ± 0.5   4/4
     0.5       92.5 ± 0.5   92.0 (1/2)   92.0         3/4

    ± standard error; * best of a complete column; (done/planned) of an incomplete cell
    ");
}

#[test]
fn markdown() {
    insta::assert_snapshot!(incomplete().render(Format::Markdown), @r"
    sweep demo, selection iid: 8 of 9 trials done, 1 failed, 0 diverged

    **o.o.d. accuracy (held-out domain, in split), %**

    | dropout | photo | sketch | mean | done |
    | --- | --- | --- | --- | --- |
    | 0 | 91.0 ± 1.0 | 71.0 ± 1.0 | 81.0 ± 1.0 | 4/4 |
    | 0.5 | 95.0 ± 1.0* | 74.0 (1/2) | 84.0 | 3/4 |

    **i.i.d. accuracy (training domains, out split), %**

    | dropout | photo | sketch | mean | done |
    | --- | --- | --- | --- | --- |
    | 0 | 90.5 ± 0.5 | 90.5 ± 0.5 | 90.5 ± 0.5 | 4/4 |
    | 0.5 | 92.5 ± 0.5 | 92.0 (1/2) | 92.0 | 3/4 |

    ± standard error; \* best of a complete column; (done/planned) of an incomplete cell
    ");
}

#[test]
fn csv() {
    insta::assert_snapshot!(incomplete().render(Format::Csv), @r"
    dropout,held_out,iid_mean,iid_se,iid_n,ood_mean,ood_se,ood_n,planned,done
    0,photo,0.905,0.0050000000000000044,2,0.91,0.010000000000000009,2,2,2
    0,sketch,0.905,0.0050000000000000044,2,0.71,0.010000000000000009,2,2,2
    0.5,photo,0.925,0.0050000000000000044,2,0.95,0.010000000000000009,2,2,2
    0.5,sketch,0.92,,1,0.74,,1,2,1
    ");
}

#[test]
fn nothing_done_is_still_a_table() {
    let settings = settings("PACS");
    let records = [record(&settings, point("sketch", 0.0, 1e-3, 0), StateName::Queued)];
    let text = results("s", &settings, &records, &IID).render(Format::Table);
    assert!(text.contains("0 of 1 trials done") && text.contains("(0/1)"), "{text}");
    assert!(results("s", &settings, &[], &IID).render(Format::Table).contains("0 of 0 trials done"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn results_agree_with_a_slow_second_computation(trials in prop::collection::vec((0..16_u8, 0..=1000_u64, 0..=1000_u64), 24)) {
        let settings = settings("PACS");
        let domains = ["cartoon", "photo", "sketch"];
        let rates = [0.0, 0.9];
        // Index = rate * 12 + seed * 3 + domain.
        let unfinished = [StateName::Failed, StateName::Diverged, StateName::Queued, StateName::Leased];
        let records: Vec<TrialRecord> = trials.iter().enumerate().map(|(index, &(state, iid, ood))| {
            let point = point(domains[index % 3], rates[index / 12], 1e-3, (index / 3 % 4) as u64);
            let state = unfinished.get(usize::from(state)).copied().unwrap_or(StateName::Succeeded);
            // Results of trials that did not succeed must not count, even if there are any.
            TrialRecord { state, ..succeeded(&settings, point, iid, ood) }
        }).collect();
        let results = results("s", &settings, &records, &Question { by: vec![Axis::Dropout], ..IID });
        let done = |index: usize| trials[index].0 >= 4;
        for rate in 0..2 {
            let mut complete = Vec::new();
            for seed in 0..4 {
                let first = rate * 12 + seed * 3;
                if (first..first + 3).all(done) {
                    complete.push((first..first + 3).map(|index| trials[index].2 as f64 / 3000.0).sum::<f64>());
                }
            }
            check(&results.means[rate].ood, &complete)?;
            for domain in 0..3 {
                let values: Vec<f64> = (0..4).map(|seed| rate * 12 + seed * 3 + domain).filter(|&i| done(i)).map(|i| trials[i].2 as f64 / 1000.0).collect();
                let cell = &results.cells[rate * 3 + domain];
                check(&cell.ood, &values)?;
                prop_assert_eq!((cell.done, cell.planned), (values.len(), 4));
            }
            if complete.len() == 4 {
                let cells: f64 = results.cells[rate * 3..rate * 3 + 3].iter().filter_map(|cell| cell.ood.mean).sum();
                prop_assert!(close(results.means[rate].ood.mean, cells / 3.0));
            }
        }
        prop_assert_eq!(results.failed, trials.iter().filter(|trial| trial.0 == 0).count());
        prop_assert_eq!(results.diverged, trials.iter().filter(|trial| trial.0 == 1).count());
    }
}

#[test]
fn the_best_of_a_column_is_marked_only_when_the_column_is_complete() {
    let settings = settings("PACS");
    let mut records = Vec::new();
    for (rate, ood) in [(0.0, 700), (0.9, 750)] {
        for domain in ["photo", "sketch"] {
            records.push(succeeded(&settings, point(domain, rate, 1e-3, 0), 900, ood));
        }
    }
    let stars = |records: &[TrialRecord]| results("s", &settings, records, &IID).render(Format::Table).matches("75.0*").count();
    assert_eq!(stars(&records), 3, "photo, sketch and mean");
    records[0].state = StateName::Leased;
    assert_eq!(stars(&records), 1, "sketch alone: photo and so the mean may still change");
}

#[test]
fn a_complete_row_has_the_mean_of_its_cells() {
    let settings = settings("PACS");
    let mut records = Vec::new();
    for (index, domain) in (0..).zip(["art_painting", "cartoon", "photo", "sketch"]) {
        for seed in 0..3 {
            records.push(succeeded(&settings, point(domain, 0.5, 1e-3, seed), 900 + 7 * index + seed, 600 + 31 * index * (seed + 1)));
        }
    }
    let results = results("s", &settings, &records, &IID);
    let of_cells = |mean: fn(&sortie_answers::Cell) -> Option<f64>| results.cells.iter().filter_map(mean).sum::<f64>() / 4.0;
    assert!(close(results.means[0].ood.mean, of_cells(|cell| cell.ood.mean)) && results.means[0].ood.n == 3);
    assert!(close(results.means[0].iid.mean, of_cells(|cell| cell.iid.mean)));
}

/// The variance by its other formula, over all pairs: sum of (a - b)^2 / (2 n (n - 1)).
fn check(estimate: &sortie_answers::Estimate, values: &[f64]) -> Result<(), TestCaseError> {
    let n = values.len() as f64;
    prop_assert_eq!(estimate.n, values.len());
    prop_assert_eq!(estimate.mean.is_some(), n > 0.0);
    prop_assert_eq!(estimate.se.is_some(), n > 1.0);
    if let Some(mean) = estimate.mean {
        prop_assert!((mean - values.iter().sum::<f64>() / n).abs() < 1e-12);
    }
    if let Some(se) = estimate.se {
        let pairs: f64 = values.iter().flat_map(|a| values.iter().map(move |b| (a - b).powi(2))).sum();
        prop_assert!((se - (pairs / (2.0 * n * (n - 1.0)) / n).sqrt()).abs() < 1e-7);
    }
    Ok(())
}
