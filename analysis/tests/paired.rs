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
    let Comparison { difference, interval_by_domain, interval, better, equal, worse, between_seeds } =
        found.ood;
    // By unit: 10, 40, 0, -10, 30, 30 thousandths.
    assert!((difference.mean.unwrap() - 0.1 / 6.0).abs() < 1e-12 && difference.n == 6);
    assert_eq!((better, equal, worse), (4, 1, 1));
    let [low, high] = interval.unwrap();
    assert!(-0.01 < low && low < 0.005 && 0.025 < high && high < 0.04, "{low} {high}");
    // By domain, in thousandths: photo 10, 40, 0 and sketch -10, 30, 30, so variances of 1300/3 and 1600/3, and with weights of a half the
    // squared standard error (1300 + 1600) / 36. The degrees of freedom are 29^2 / (13^2/2 + 16^2/2), and t by SciPy 2.7882.
    let [lower, upper] = interval_by_domain.unwrap();
    let reach = 2.788_202_4 * (2_900.0_f64 / 36.0).sqrt() / 1_000.0;
    assert!(
        (upper - lower - 2.0 * reach).abs() < 1e-5 && (upper + lower - 0.2 / 6.0).abs() < 1e-9,
        "{lower} {upper}"
    );
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

/// Two domains that disagree, three seeds: B is 3 points better on photo and 2 points worse on sketch, within half a point.
fn disagreeing() -> Vec<TrialRecord> {
    let work = work("PACS");
    let mut records = Vec::new();
    for (held_out, gains) in [("photo", [30, 32, 28]), ("sketch", [-20, -18, -22])] {
        for (seed, gain) in (0..).zip(gains) {
            records.push(succeeded(&work, point(held_out, 0.0, 1e-3, seed), 900, 600));
            records.push(succeeded(&work, point(held_out, 0.9, 1e-3, seed), 900, (600 + gain) as u64));
        }
    }
    records
}

#[test]
fn domains_that_disagree_widen_only_the_interval_over_pairs() {
    let found = compare(&disagreeing(), "dropout=0", "dropout=0.9").unwrap();
    let ([low, high], [lower, upper]) = (found.ood.interval_by_domain.unwrap(), found.ood.interval.unwrap());
    // Both standard deviations are 2 thousandths: sqrt(2 * 4/3) / 2 = 0.816, 4 degrees of freedom.
    assert!((low - (0.005 - 2.7764 * 0.000_816_5)).abs() < 1e-6, "{low} {high}");
    assert!(lower < -0.01 && upper > 0.02, "{lower} {upper}");
    assert_eq!(
        found.verdict(),
        "o.o.d., dropout=0.9 is better than dropout=0 by more than noise between seeds: the 95% interval by domain, +0.27 to +0.73, excludes 0"
    );
    assert!(found.text().contains(&format!("\n\n{}\n\n", found.verdict())), "{}", found.text());
    let back = compare(&disagreeing(), "dropout=0.9", "dropout=0").unwrap().verdict();
    assert!(back.starts_with("o.o.d., dropout=0 is worse than dropout=0.9 by more"), "{back}");
    let none = compare(&sweep(), "dropout=0", "dropout=0.9").unwrap().verdict();
    assert_eq!(
        none,
        "o.o.d., the difference between dropout=0.9 and dropout=0 is not more than noise between seeds: the 95% interval by domain, \
         -0.84 to +4.17, includes 0"
    );
    // One seed says nothing about noise between seeds.
    let one = compare(&disagreeing()[..2], "dropout=0", "dropout=0.9").unwrap();
    assert_eq!((one.ood.interval_by_domain, one.ood.interval), (None, None));
    assert!(one.verdict().contains("is not known"), "{}", one.verdict());
}

#[test]
fn each_side_takes_its_best_setting_if_that_is_asked_for() {
    let work = work("PACS");
    let mut records = Vec::new();
    // (domain, rate, lr, i.i.d. and o.o.d. accuracy in thousandths): the best by i.i.d. accuracy differs by side and domain.
    for (held_out, rate, lr, iid, ood) in [
        ("photo", 0.0, 1e-3, 900, 700),
        ("photo", 0.0, 5e-4, 800, 900),
        ("photo", 0.9, 1e-3, 900, 100),
        ("photo", 0.9, 5e-4, 950, 730),
        ("sketch", 0.0, 1e-3, 700, 100),
        ("sketch", 0.0, 5e-4, 800, 500),
        ("sketch", 0.9, 1e-3, 700, 200),
        ("sketch", 0.9, 5e-4, 800, 490),
    ] {
        for seed in 0..3 {
            records.push(succeeded(&work, point(held_out, rate, lr, seed), iid, ood + seed * (1 + seed)));
        }
    }
    let best = Question { best: true, ..Question::default() };
    let compare = |records: &[TrialRecord], a: &str, b: &str| {
        let [a, b] = [a, b].map(|text| Filter::parse(text).unwrap());
        paired("s", &work, records, &best, [&a, &b])
    };
    let found = compare(&records, "dropout=0", "dropout=0.9").unwrap();
    assert_eq!((found.units, found.planned), (6, 6));
    assert!((found.ood.difference.mean.unwrap() - (0.03 - 0.01) / 2.0).abs() < 1e-12);
    let named: Vec<(String, String, String)> = found
        .chosen
        .iter()
        .flat_map(|choice| {
            choice.chosen.iter().map(|chosen| {
                let [(axis, value)] = chosen.setting.as_slice() else { panic!("{chosen:?}") };
                (choice.side.clone(), choice.held_out.clone(), format!("{axis} {value}: {}", chosen.seeds))
            })
        })
        .collect();
    let expected = [
        ("dropout=0", "photo", "lr 1e-3: 3"),
        ("dropout=0", "sketch", "lr 5e-4: 3"),
        ("dropout=0.9", "photo", "lr 5e-4: 3"),
        ("dropout=0.9", "sketch", "lr 5e-4: 3"),
    ];
    assert_eq!(
        named,
        expected.map(|(side, domain, chosen)| (side.to_owned(), domain.to_owned(), chosen.to_owned()))
    );
    let text = found.text();
    let has = |wanted: &str| text.lines().any(|line| line.split_whitespace().eq(wanted.split(' ')));
    assert!(text.contains("each with its best setting") && has("dropout=0.9 all lr 5e-4 6/6"), "{text}");
    assert!(has("dropout=0 photo lr 1e-3 3/3") && has("dropout=0 sketch lr 5e-4 3/3"), "{text}");
    // Seeds 0, 2 and 6 thousandths apart on either side and domain.
    assert!((found.ood.between_seeds.unwrap() - 0.001 * (28.0_f64 / 3.0).sqrt()).abs() < 1e-9);
    // A setting that is given on one side only needs no counterpart on the other.
    let one = compare(&records, "dropout=0", "dropout=0.9 and lr=1e-3").unwrap();
    assert!((one.ood.difference.mean.unwrap() - (-0.6 - 0.3) / 2.0).abs() < 1e-12);
    // Seeds are no settings.
    let open = compare(&records, "dropout=0", "dropout=0.9 and seed=1").unwrap_err().to_string();
    assert_eq!(
        open,
        "\"dropout=0\" gives no value of seed, and the other setting does: give one on both sides"
    );
    // Nobody knows the best of what is not done.
    records[0].state = StateName::Queued;
    let found = compare(&records, "dropout=0", "dropout=0.9").unwrap();
    assert_eq!((found.units, found.planned), (5, 6));
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
