//! The fold over a stream of records: it gives what a slow second computation gives, whatever the order; and combined trials keep apart.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use sortie_analysis::{
    Axis, AxisValue, Collector, Estimate, FigureKind, FigureQuestion, Format, Question, Results, RowFormat,
    figure, paired, results,
};
use sortie_core::filter::Filter;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, SplitName};
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::{Point, Work};
use support::{evaluation, point, record, succeeded, work};

const DOMAINS: [&str; 4] = ["art_painting", "cartoon", "photo", "sketch"];
const STEPS: [u64; 3] = [0, 10, 20];
const RATES: [f64; 2] = [0.0, 0.9];
/// Images of every evaluation, so that equal scores are not rare.
const IMAGES: u64 = 5;

/// A sweep for leave-one-out: every domain and every pair, two rates, three seeds. Dice say what succeeded and what was measured.
fn sweep(work: &Work, dice: &[u8]) -> Vec<TrialRecord> {
    let mut dice = dice.iter().cycle().copied();
    let pairs = DOMAINS
        .iter()
        .enumerate()
        .flat_map(|(at, a)| DOMAINS[at + 1..].iter().map(move |b| format!("{a}+{b}")));
    let held_out: Vec<String> = DOMAINS.map(str::to_owned).into_iter().chain(pairs).collect();
    let mut records = Vec::new();
    for (held_out, rate, seed) in held_out
        .iter()
        .flat_map(|domain| RATES.map(|rate| [(domain, rate, 0), (domain, rate, 1), (domain, rate, 2)]))
        .flatten()
    {
        let mut roll = || u64::from(dice.next().unwrap());
        let state = if roll() < 12 { StateName::Failed } else { StateName::Succeeded };
        // What a trial that failed had told does not count.
        let mut trial = record(work, point(held_out, rate, 1e-3, seed), state);
        for step in STEPS {
            for domain in DOMAINS {
                for split in [SplitName::In, SplitName::Out] {
                    let told = evaluation(step, domain, split, roll() % (IMAGES + 1), IMAGES);
                    if roll() >= 6 {
                        let out = trial.point.is_held_out(domain);
                        if out { &mut trial.held_out } else { &mut trial.validation }.push(told);
                    }
                }
            }
        }
        records.push(trial);
    }
    records
}

fn fraction<'a>(rows: &'a [Evaluation], step: u64, domain: &'a str, split: SplitName) -> Option<f64> {
    rows.iter()
        .find(|row| (row.step, row.domain.as_str(), row.split) == (step, domain, split))
        .and_then(Evaluation::accuracy)
}

/// The mean `out` accuracy of the training domains after a step; none where one that was read after some step is missing.
fn iid(trial: &TrialRecord, step: u64) -> Option<f64> {
    let found: Vec<f64> = DOMAINS
        .iter()
        .filter_map(|domain| fraction(&trial.validation, step, domain, SplitName::Out))
        .collect();
    let read = |domain: &&&str| {
        trial.validation.iter().any(|row| row.domain == **domain && row.split == SplitName::Out)
    };
    let whole = found.len() == DOMAINS.iter().filter(read).count();
    (whole && !found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
}

/// What a selection method thinks of a step, by its words in docs/protocol.md.
fn score(trial: &TrialRecord, all: &[TrialRecord], selection: Selection, step: u64) -> Option<f64> {
    let test = trial.point.held_out_label();
    let last = |rows: &[Evaluation]| rows.iter().map(|row| row.step).max() == Some(step);
    match selection {
        Selection::Iid => iid(trial, step),
        Selection::Last => iid(trial, step).filter(|_| last(&trial.validation)),
        Selection::Oracle => {
            fraction(&trial.held_out, step, &test, SplitName::Out).filter(|_| last(&trial.held_out))
        }
        Selection::Loo => {
            let mut sum = 0.0;
            let trained: BTreeSet<&str> = trial.validation.iter().map(|row| row.domain.as_str()).collect();
            let mut others = 0;
            for pair in
                all.iter().filter(|pair| pair.state == StateName::Succeeded && pair.point.held_out.len() == 2)
            {
                let alike =
                    pair.point.parameters == trial.point.parameters && pair.point.seed == trial.point.seed;
                let Some(other) = pair.point.held_out.iter().find(|domain| **domain != test) else {
                    continue;
                };
                if !alike || !pair.point.is_held_out(&test) {
                    continue;
                }
                others += 1;
                sum += fraction(&pair.held_out, step, other, SplitName::In)
                    .filter(|_| trained.contains(other.as_str()))?;
            }
            (others == trained.len() && trial.validation.iter().any(|row| row.step == step))
                .then(|| sum / others as f64)
        }
    }
}

/// A trial's accuracies where it is measured, by hand.
fn by_hand(trial: &TrialRecord, all: &[TrialRecord], selection: Selection) -> Option<(f64, f64)> {
    let mut best: Option<(f64, u64)> = None;
    for step in STEPS {
        if let Some(score) =
            score(trial, all, selection, step).filter(|_| trial.state == StateName::Succeeded)
            && best.is_none_or(|(known, _)| score > known)
        {
            best = Some((score, step));
        }
    }
    let (_, step) = best?;
    Some((iid(trial, step)?, fraction(&trial.held_out, step, &trial.point.held_out_label(), SplitName::In)?))
}

fn close(estimate: &Estimate, values: &[f64]) -> bool {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    estimate.n == values.len()
        && estimate.mean.is_none_or(|found| (found - mean).abs() < 1e-12)
        && estimate.mean.is_some() == (estimate.n > 0)
}

fn folded(work: &Work, records: &[TrialRecord], order: &[usize], question: &Question) -> Results {
    let mut collector = Collector::new("s", work, question);
    order.iter().for_each(|&index| collector.push(&records[index]));
    collector.results().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_records_changes_nothing_and_slow_code_agrees(
        dice in prop::collection::vec(0..128_u8, 997),
        order in Just((0..60).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let work = work("PACS");
        let records = sweep(&work, &dice);
        prop_assert_eq!(records.len(), order.len());
        let mut measured = 0;
        for &selection in Selection::ALL {
            let question = Question { selection, by: vec![Axis::from("dropout")], ..Question::default() };
            let found = folded(&work, &records, &order, &question);
            prop_assert_eq!(&found, &results("s", &work, &records, &question).unwrap());
            // A row of several settings has its order, too.
            let wide = Question { by: vec![Axis::from("lr")], ..question.clone() };
            prop_assert_eq!(folded(&work, &records, &order, &wide), results("s", &work, &records, &wide).unwrap());
            for cell in &found.cells {
                let of_cell = |trial: &&TrialRecord| {
                    trial.point.held_out.first() == cell.held_out.as_ref() && Axis::from("dropout").value(&trial.point).as_ref() == Some(&cell.row[0].1)
                };
                let trials: Vec<(f64, f64)> = records.iter().filter(of_cell).filter_map(|trial| by_hand(trial, &records, selection)).collect();
                measured += trials.len();
                let of = |value: fn(&(f64, f64)) -> f64| trials.iter().map(value).collect::<Vec<f64>>();
                prop_assert!(close(&cell.iid, &of(|trial| trial.0)) && close(&cell.ood, &of(|trial| trial.1)), "{selection}: {cell:?} {trials:?}");
            }
            // The same of two settings side by side.
            let [a, b] = ["dropout=0", "dropout=0.9"].map(|text| Filter::parse(text).unwrap());
            let mut collector = Collector::new("s", &work, &question);
            order.iter().for_each(|&index| collector.push(&records[index]));
            prop_assert_eq!(collector.paired([&a, &b]).unwrap(), paired("s", &work, &records, &question, [&a, &b]).unwrap());
        }
        prop_assert!(measured > 0);
    }
}

/// Two rates and two seeds of one domain, and what was made of the seeds of each rate; two averages besides that lack the rate.
fn combined_sweep() -> (Work, Vec<TrialRecord>) {
    let work = work("PACS");
    let mut records = Vec::new();
    for (rate, ood) in [(0.0, 600), (0.9, 700)] {
        let combine = |mut trial: TrialRecord, name: &str, members: f64, lacks: &[&str]| {
            trial.point.parameters.insert("combine".to_owned(), Scalar::Text(name.to_owned()));
            trial.point.parameters.insert("members".to_owned(), Scalar::Number(members.into()));
            trial.point.parameters.retain(|axis, _| !lacks.contains(&axis.as_str()));
            trial
        };
        // First, so that nothing depends on their coming last.
        records.push(combine(
            succeeded(&work, point("photo", rate, 1e-3, 0), 750, ood + 200),
            "ensemble",
            2.0,
            &["weight_decay"],
        ));
        if rate > 0.0 {
            records.push(combine(
                succeeded(&work, point("photo", rate, 1e-3, 0), 750, 990),
                "all",
                4.0,
                &["weight_decay", "dropout"],
            ));
        }
        for seed in 0..2 {
            records.push(succeeded(&work, point("photo", rate, 1e-3, seed), 900, ood + 10 * seed));
        }
    }
    (work, records)
}

#[test]
fn combined_trials_have_rows_of_their_own_behind_the_others() {
    let (work, records) = combined_sweep();
    let question = Question::default();
    let found = results("s", &work, &records, &question).unwrap();
    assert_eq!(found.axes, ["dropout", "combine", "members"].map(Axis::from));
    insta::assert_snapshot!(found.render(Format::Csv), @r"
    dropout,combine,members,held_out,metric,iid_mean,iid_se,iid_n,ood_mean,ood_se,ood_n,planned,done
    0,,,photo,accuracy,0.9,0,2,0.605,5.0000000000000044e-3,2,2,2
    0.9,,,photo,accuracy,0.9,0,2,0.705,5.0000000000000044e-3,2,2,2
    ,all,4,photo,accuracy,0.75,,1,0.99,,1,1,1
    0,ensemble,2,photo,accuracy,0.75,,1,0.8,,1,1,1
    0.9,ensemble,2,photo,accuracy,0.75,,1,0.9,,1,1,1
    ");
    insta::assert_snapshot!(found.render(Format::Table), @r"
    sweep s, selection iid: 7 of 7 trials done, 0 failed, 0 diverged, 0 cancelled

    o.o.d. accuracy (held-out domain, in split), %
     dropout   combine    members   photo        mean         done
    ───────────────────────────────────────────────────────────────
     0         -          -         60.5 ± 0.5   60.5 ± 0.5   2/2
     0.9       -          -         70.5 ± 0.5   70.5 ± 0.5   2/2
     -         all        4         99.0*        99.0*        1/1
     0         ensemble   2         80.0         80.0         1/1
     0.9       ensemble   2         90.0         90.0         1/1

    i.i.d. accuracy (training domains, out split), %
     dropout   combine    members   photo        mean         done
    ───────────────────────────────────────────────────────────────
     0         -          -         90.0 ± 0.0   90.0 ± 0.0   2/2
     0.9       -          -         90.0 ± 0.0   90.0 ± 0.0   2/2
     -         all        4         75.0         75.0         1/1
     0         ensemble   2         75.0         75.0         1/1
     0.9       ensemble   2         75.0         75.0         1/1

    selection iid reads the out splits of the training domains; in/out: train/validation split; combinations of trials: evaluated once, at step 20, the last of their members; ± standard error of the mean over trials; * best of a complete column, with all that are shown as equal to it
    ");
    for (format, row) in [
        (Format::Markdown, "| - | all | 4 | 99.0 | 99.0 | 1/1 |"),
        (Format::Markdown, "| 0 | - | - | 60.5 ± 0.5 | 60.5 ± 0.5 | 2/2 |"),
        (Format::Latex, r"- & all & 4 & \textbf{99.0} & \textbf{99.0} & 1/1 \\"),
    ] {
        assert!(found.render(format).replace('*', "").contains(row), "{}", found.render(format));
    }
    let json: serde_json::Value = serde_json::from_str(&found.render(Format::Json)).unwrap();
    let rows: Vec<_> = json["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| [&cell["dropout"], &cell["combine"], &cell["members"]])
        .collect();
    let null = serde_json::Value::Null;
    assert_eq!(rows[0], [&0.0.into(), &null, &null]);
    assert_eq!(rows[2], [&null, &"all".into(), &4.0.into()]);
    // The axes are there whatever is asked for, and stand where they are named.
    let by = |by: &[&str], best| {
        let question =
            Question { by: by.iter().map(|axis| Axis::from(*axis)).collect(), best, ..question.clone() };
        results("s", &work, &records, &question).unwrap()
    };
    assert_eq!(by(&["members", "lr"], false).axes, ["members", "lr", "combine"].map(Axis::from));
    // One row of plain trials, whose best is none of the combined ones, although those select better; of equals the first.
    let best = by(&["lr"], true);
    assert_eq!(
        best.cells.iter().map(|cell| cell.ood.mean).collect::<Vec<_>>(),
        [Some(0.605), Some(0.99), Some(0.8)]
    );
}

#[test]
fn a_combined_trial_is_compared_only_where_it_is_named() {
    let (work, records) = combined_sweep();
    let compare = |a: &str, b: &str| {
        let [a, b] = [a, b].map(|text| Filter::parse(text).unwrap());
        paired("s", &work, &records, &Question::default(), [&a, &b])
    };
    // Not the ensembles, which have rates as well.
    let plain = compare("dropout=0", "dropout=0.9").unwrap();
    assert_eq!((plain.units, plain.ood.difference.n), (2, 2));
    assert!((plain.ood.difference.mean.unwrap() - 0.1).abs() < 1e-12);
    let made = compare("dropout=0 and combine=ensemble", "dropout=0.9 and combine=ensemble").unwrap();
    assert_eq!((made.units, made.planned), (1, 1));
    assert!((made.ood.difference.mean.unwrap() - 0.1).abs() < 1e-12);
    // Against plain trials: the same rate and seed; what the ensemble lacks is no hindrance.
    let gain = compare("dropout=0.9 and seed=0", "combine=ensemble and members=2 and dropout=0.9 and seed=0")
        .unwrap();
    assert!(gain.units == 1 && (gain.ood.difference.mean.unwrap() - 0.2).abs() < 1e-12);
    let error = compare("seed=0", "combine=all and members=4 and seed=0").unwrap_err().to_string();
    assert_eq!(
        error,
        "\"seed=0\" gives no value of dropout, which trials of the other setting do not have: give one"
    );
    let all = compare("dropout=0.9 and seed=0", "combine=all and members=4 and seed=0").unwrap();
    assert!((all.ood.difference.mean.unwrap() - 0.29).abs() < 1e-12);
    assert_eq!(
        compare("members=2", "dropout=0").unwrap_err().to_string(),
        "no trial of sweep s with one held-out domain meets \"members=2\""
    );
}

#[test]
fn figures_and_domainbed_leave_combined_trials_out() {
    let (work, records) = combined_sweep();
    let plain: Vec<TrialRecord> =
        records.iter().filter(|record| record.point.combine().is_none()).cloned().collect();
    assert_eq!(plain.len(), 4);
    let draw = |records: &[TrialRecord]| {
        figure("s", &work, records, &FigureQuestion::of(FigureKind::Rates)).unwrap()
    };
    assert_eq!(draw(&records), draw(&plain));
    let runs =
        |records: &[TrialRecord]| sortie_analysis::domainbed::runs(&work, records, &Default::default());
    assert_eq!(runs(&records), runs(&plain));
}

#[test]
fn a_row_of_some_domains_has_no_mean_beside_those_of_all() {
    let (work, mut records) = combined_sweep();
    // Another domain, which no combination holds out.
    let plain: Vec<TrialRecord> =
        records.iter().filter(|record| record.point.combine().is_none()).cloned().collect();
    let own = plain[0].point.held_out_label();
    let other = DOMAINS.iter().find(|domain| **domain != own).unwrap();
    let moved = |record: &TrialRecord| Point { held_out: vec![(*other).to_owned()], ..record.point.clone() };
    records.extend(plain.iter().map(|record| succeeded(&work, moved(record), 900, 500)));
    let is_combined = |row: &[(Axis, AxisValue)]| {
        row.iter().any(|(axis, value)| axis.as_str() == "combine" && *value != AxisValue::Absent)
    };
    let some = results("s", &work, &records, &Question::default()).unwrap();
    for mean in &some.means {
        assert_eq!(mean.ood.n > 0, !is_combined(&mean.row), "{mean:?}");
    }
}

#[test]
fn cells_are_a_sheet_too() {
    let (work, records) = combined_sweep();
    let found = results("s", &work, &records, &Question::default()).unwrap();
    let jsonl = String::from_utf8(found.write_cells(RowFormat::Jsonl, Vec::new()).unwrap()).unwrap();
    let first = r#"{"dropout":0.0,"combine":null,"members":null,"held_out":"photo","metric":"accuracy","iid_mean":0.9,"iid_se":0.0,"iid_n":2,"ood_mean":0.605,"#;
    assert!(jsonl.starts_with(first) && jsonl.lines().count() == found.cells.len(), "{jsonl}");
}
