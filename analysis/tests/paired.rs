//! Two settings beside each other, by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sortie_analysis::{Comparison, Estimate, Paired, PairedError, Question, paired};
use sortie_core::filter::Filter;
use sortie_core::job::StateName;
use sortie_core::record::TrialRecord;
use support::{point, record, succeeded, work};

fn compare(records: &[TrialRecord], a: &str, b: &str) -> Result<Paired, PairedError> {
    let [a, b] = [a, b].map(|text| Filter::parse(text).unwrap());
    paired("s", &work("PACS"), records, &Question::default(), [&a, &b])
}

/// Two domains, three seeds, two learning rates, rates 0 and 0.9: (domain, seed, lr, o.o.d. in thousandths at 0 and at 0.9).
fn sweep() -> Vec<TrialRecord> {
    let work = work("PACS");
    let mut records = Vec::new();
    for (held_out, seed, [low, high]) in [
        ("photo", 0, [[700, 720], [710, 710]]),
        ("photo", 1, [[700, 740], [700, 740]]),
        ("photo", 2, [[720, 720], [720, 720]]),
        ("sketch", 0, [[500, 490], [500, 490]]),
        ("sketch", 1, [[510, 540], [510, 540]]),
        ("sketch", 2, [[520, 560], [520, 540]]),
    ] {
        for (lr, pair) in [(5e-4, low), (1e-3, high)] {
            for (rate, ood) in [0.0, 0.9].into_iter().zip(pair) {
                records.push(succeeded(&work, point(held_out, rate, lr, seed), 900, ood));
            }
        }
    }
    records
}

#[test]
fn differences_are_averaged_within_a_pair_of_domain_and_seed() {
    let found = compare(&sweep(), "dropout=0", "dropout=0.9").unwrap();
    assert_eq!((found.units, found.planned), (6, 6));
    let Comparison { difference, interval, better, equal, worse, between_seeds } = found.ood;
    // By unit: 10, 40, 0, -10, 30, 30 thousandths.
    assert!((difference.mean.unwrap() - 0.1 / 6.0).abs() < 1e-12 && difference.n == 6);
    assert_eq!((better, equal, worse), (4, 1, 1));
    let [low, high] = interval.unwrap();
    assert!(-0.01 < low && low < 0.005 && 0.025 < high && high < 0.04, "{low} {high}");
    // Eight groups of three seeds; deviations by hand: sums of squares 800/3 (twice), 200 (thrice), 2600/3 ... in thousandths squared.
    let groups = [
        [700, 700, 720],
        [720, 740, 720],
        [710, 700, 720],
        [710, 740, 720],
        [500, 510, 520],
        [490, 540, 560],
        [500, 510, 520],
        [490, 540, 540],
    ];
    let squares: f64 = groups
        .iter()
        .map(|group: &[i32; 3]| {
            let mean = f64::from(group.iter().sum::<i32>()) / 3.0;
            group.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>()
        })
        .sum();
    assert!((between_seeds.unwrap() - (squares / 16.0).sqrt() / 1_000.0).abs() < 1e-12);
    let domains: Vec<_> = found
        .domains
        .iter()
        .map(|domain| (domain.held_out.as_str(), (1e4 * domain.ood.mean.unwrap()).round()))
        .collect();
    assert_eq!(domains, [("photo", 167.0), ("sketch", 167.0)]);
    assert_eq!(found.iid.difference, Estimate { mean: Some(0.0), se: Some(0.0), n: 6 });
    assert_eq!(found.iid.between_seeds, Some(0.0));
    let text = compare(&sweep(), "dropout=0", "dropout=0.9").unwrap().text();
    assert!(
        text.contains("dropout=0.9 against dropout=0, 6 of 6 pairs") && text.contains("+1.7 ± 0.8"),
        "{text}"
    );
    // The other way round everything is mirrored.
    let back = compare(&sweep(), "dropout=0.9", "dropout=0").unwrap().ood;
    assert_eq!((back.better, back.equal, back.worse), (1, 1, 4));
}

#[test]
fn what_is_not_complete_is_left_out_and_counted() {
    let mut records = sweep();
    records[1].state = StateName::Failed;
    let found = compare(&records, "dropout=0", "dropout=0.9").unwrap();
    assert_eq!((found.units, found.planned, found.ood.difference.n), (5, 6, 5));
    assert!(found.text().contains("5 of 6 pairs"));
    // A whole setting may be missing; it is still a comparison to come.
    records.iter_mut().for_each(|record| record.state = StateName::Queued);
    let found = compare(&records, "dropout=0", "dropout=0.9").unwrap();
    assert_eq!((found.units, found.ood.interval, found.domains.len()), (0, None, 0));
    assert!(found.text().contains("0 of 6 pairs"));
}

#[test]
fn other_axes_can_be_fixed_or_compared_too() {
    let fixed = compare(&sweep(), "dropout=0 and lr=5e-4", "dropout=0.9 and lr=1e-3").unwrap();
    assert_eq!((fixed.units, fixed.planned), (6, 6));
    // photo, seed 0: 710 - 700.
    assert!((fixed.domains[0].ood.mean.unwrap() - (10.0 + 40.0 + 0.0) / 3_000.0).abs() < 1e-12);
    let same = compare(&sweep(), "dropout=0", "dropout=0").unwrap();
    assert_eq!((same.ood.equal, same.ood.difference.mean), (6, Some(0.0)));
    let seeds = compare(&sweep(), "seed=0", "seed=1").unwrap();
    assert_eq!((seeds.units, seeds.domains.len()), (2, 2));
}

#[test]
fn what_cannot_be_compared_is_named() {
    let error = |a: &str, b: &str| compare(&sweep(), a, b).unwrap_err().to_string();
    assert!(error("rate=0", "dropout=0.9").contains("\"rate\" is not an axis of this sweep"));
    assert_eq!(
        error("dropout=0", "dropout=0.3"),
        "no trial of sweep s with one held-out domain meets \"dropout=0.3\""
    );
    let open = error("dropout=0", "dropout=0.9 and lr=1e-3");
    assert_eq!(
        open,
        "\"dropout=0\" gives no value of lr, and the other setting does: give one on both sides"
    );
    let work = work("PACS");
    let records = [
        succeeded(&work, point("photo", 0.0, 1e-3, 0), 1, 1),
        succeeded(&work, point("photo", 0.9, 1e-3, 1), 1, 1),
        record(&work, point("photo+sketch", 0.9, 1e-3, 0), StateName::Succeeded),
    ];
    let error = compare(&records, "dropout=0", "dropout=0.9").unwrap_err().to_string();
    assert!(error.contains("has a counterpart"), "{error}");
}
