//! Statistics by hand and against a slow second computation; every format by snapshot.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use sortie_analysis::{
    Axis, Estimate, FigureKind, FigureQuestion, Format, MetricChoice, OodSplit, Question, Results, figure,
    paired, results,
};
use sortie_core::filter::Filter;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::{MissingClasses, Point, Work};
use support::{evaluation, point, record, succeeded, work};

const IID: Question = Question {
    selection: Selection::Iid,
    method: Method::Plain,
    by: Vec::new(),
    best: false,
    ood_split: None,
    metrics: MetricChoice::ACCURACY,
};

/// Two rates, two held-out domains, two seeds; at 0.5, `sketch` has one trial done, one failed, and a pair only selects.
fn incomplete() -> Results {
    let work = work("PACS");
    let mut records = Vec::new();
    for (domain, ood) in [("sketch", 700), ("photo", 900)] {
        for seed in 0..2 {
            records.push(succeeded(&work, point(domain, 0.0, 1e-3, seed), 900 + 10 * seed, ood + 20 * seed));
            records.push(succeeded(
                &work,
                point(domain, 0.5, 1e-3, seed),
                920 + 10 * seed,
                ood + 40 + 20 * seed,
            ));
        }
    }
    records[3] = record(&work, records[3].point.clone(), StateName::Failed);
    records.push(succeeded(&work, point("photo+sketch", 0.5, 1e-3, 0), 100, 100));
    results("demo", &work, &records, &IID).unwrap()
}

#[test]
fn every_table_and_figure_says_that_domains_may_lack_classes() {
    let usual = work("PACS");
    let Work::Finetune(mut settings) = usual.clone() else { panic!("a command") };
    settings.dataset.missing_classes = MissingClasses::Allow;
    let allowed = Work::Finetune(settings);
    let said = |work: &Work| {
        let mut records = Vec::new();
        for (domain, dropout) in [("sketch", 0.0), ("photo", 0.0), ("sketch", 0.5), ("photo", 0.5)] {
            records.push(succeeded(work, point(domain, dropout, 1e-3, 0), 900, 700));
        }
        let table = results("demo", work, &records, &IID).unwrap();
        let mut texts: Vec<String> = [Format::Table, Format::Markdown, Format::Latex, Format::Json]
            .map(|format| table.render(format))
            .into();
        let [a, b] = ["dropout=0", "dropout=0.5"].map(|text| Filter::parse(text).unwrap());
        let paired = paired("demo", work, &records, &Question::default(), [&a, &b]).unwrap();
        texts.extend([paired.text(), paired.json()]);
        texts.push(figure("demo", work, &records, &FigureQuestion::of(FigureKind::Rates)).unwrap());
        texts
    };
    let is_said =
        |text: &str| text.contains("may lack classes") || text.contains("\"missing_classes\": \"allow\"");
    for text in said(&allowed) {
        assert!(is_said(&text), "{text}");
    }
    for text in said(&usual) {
        assert!(!is_said(&text) && !text.contains("missing_classes"), "{text}");
    }
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
    assert!(
        close(sketch.ood.mean, 0.74) && sketch.ood.se.is_none() && (sketch.done, sketch.planned) == (1, 2)
    );
    // Only seed 0 is done on both domains at 0.5: (0.94 + 0.74) / 2.
    assert!(close(results.means[1].ood.mean, 0.84) && results.means[1].ood.n == 1);
    assert_eq!((results.means[1].done, results.means[1].planned), (3, 4));
}

#[test]
fn the_step_is_selected_by_validation_and_the_split_is_the_one_asked_for() {
    let work = work("PACS");
    let mut trial = record(&work, point("sketch", 0.0, 1e-3, 0), StateName::Succeeded);
    for (step, iid, ood) in [(0, 80, 10), (10, 90, 20), (20, 90, 30)] {
        trial.validation.push(evaluation(step, "photo", SplitName::Out, iid, 100));
        trial.validation.push(evaluation(step, "photo", SplitName::In, 100 - iid, 100));
        trial.held_out.push(evaluation(step, "sketch", SplitName::In, ood, 100));
        trial.held_out.push(evaluation(step, "sketch", SplitName::Out, ood, 50));
    }
    for (selection, ood_split, expected) in [
        (Selection::Iid, None, 0.2),
        (Selection::Last, None, 0.3),
        (Selection::Oracle, None, 0.3),
        (Selection::Iid, Some(OodSplit::Out), 0.4),
        (Selection::Iid, Some(OodSplit::All), 40.0 / 150.0),
    ] {
        let question = Question { selection, ood_split, ..IID };
        let results = results("s", &work, &[trial.clone()], &question).unwrap();
        assert!(close(results.cells[0].ood.mean, expected), "{question:?}");
    }
}

#[test]
fn rows_are_what_varies_or_what_is_asked_for() {
    let work = work("EmojiStyles");
    let records = [
        succeeded(&work, point("mono", 0.5, 1e-3, 3), 900, 800),
        succeeded(&work, point("mono", 0.5, 5e-4, 4), 900, 800),
    ];
    let axes = |records: &[TrialRecord], by: &[Axis]| {
        results("s", &work, records, &Question { by: by.to_vec(), ..IID }).unwrap().axes
    };
    assert_eq!(axes(&records, &[]), [Axis::from("lr")]);
    assert_eq!(axes(&records[..1], &[]), [Axis::from("dropout")]);
    assert_eq!(axes(&records, &[Axis::Seed, Axis::from("lr"), Axis::Seed]), [Axis::Seed, Axis::from("lr")]);
    assert_eq!(results("s", &work, &records, &IID).unwrap().ood_split, OodSplit::Out);
}

#[test]
fn leave_one_out_takes_its_step_from_the_pairs_of_the_same_setting() {
    let work = work("PACS");
    let others = ["art_painting", "cartoon", "photo"];
    let mut trial = record(&work, point("sketch", 0.0, 1e-3, 0), StateName::Succeeded);
    for (step, ood) in [(0, 10), (10, 20), (20, 30)] {
        trial.validation.extend(others.map(|domain| evaluation(step, domain, SplitName::Out, step, 100)));
        trial.held_out.push(evaluation(step, "sketch", SplitName::In, ood, 100));
    }
    let pair = |other: &str, lr, best| {
        let mut domains = [other, "sketch"];
        domains.sort_unstable();
        let mut pair = record(&work, point(&domains.join("+"), 0.0, lr, 0), StateName::Succeeded);
        for step in [0, 10, 20] {
            pair.held_out.push(evaluation(
                step,
                other,
                SplitName::In,
                if step == best { 90 } else { 50 },
                100,
            ));
            pair.held_out.push(evaluation(step, "sketch", SplitName::In, 99, 100));
        }
        pair
    };
    let found = |records: &[TrialRecord]| {
        let results = results("s", &work, records, &Question { selection: Selection::Loo, ..IID }).unwrap();
        let rows = results.cells.iter().map(|cell| (cell.ood, cell.planned, cell.done)).collect::<Vec<_>>();
        (rows, results.render(Format::Table))
    };
    let mut records = vec![trial];
    records.extend(others.map(|other| pair(other, 1e-3, 10)));
    let (rows, text) = found(&records);
    assert_eq!(rows, [(Estimate::of(&[0.2]), 1, 1)]);
    assert!(
        text.contains("selection loo reads runs that hold out one more domain, on that domain's in split"),
        "{text}"
    );
    // A pair of another setting is no substitute.
    records[3] = pair("photo", 5e-4, 10);
    let (rows, text) = found(&records);
    assert_eq!(rows, [(Estimate::of(&[]), 1, 1)]);
    assert!(text.contains("succeeded trials without the evaluations that this table needs: 1"), "{text}");
}

#[test]
fn the_best_setting_is_taken_for_each_domain_and_seed() {
    let work = work("PACS");
    let trial =
        |held_out: &str, lr, seed, iid, ood| succeeded(&work, point(held_out, 0.0, lr, seed), iid, ood);
    let mut records = vec![
        trial("photo", 1e-3, 0, 900, 100),
        trial("photo", 5e-4, 0, 901, 200),
        trial("photo", 1e-3, 1, 800, 300),
        trial("photo", 5e-4, 1, 800, 400),
        trial("sketch", 1e-3, 0, 910, 500),
        trial("sketch", 5e-4, 0, 700, 600),
        trial("sketch", 1e-3, 1, 910, 700),
        trial("sketch", 5e-4, 1, 700, 800),
    ];
    let question = Question { by: vec![Axis::from("dropout")], best: true, ..IID };
    let found = |records: &[TrialRecord]| {
        let results = results("s", &work, records, &question).unwrap();
        let cells: Vec<_> =
            results.cells.iter().map(|cell| (cell.ood.mean, cell.ood.n, cell.done, cell.planned)).collect();
        (cells, results.means[0].ood.mean, results.render(Format::Table))
    };
    // Of equals the first: 200 and 300 for photo, 500 and 700 for sketch.
    let (cells, mean, text) = found(&records);
    assert_eq!(cells, [(Some(0.25), 2, 2, 2), (Some(0.6), 2, 2, 2)]);
    assert!(close(mean, (0.25 + 0.6) / 2.0) && text.contains("best setting of each row"), "{text}");
    // The table, CSV and JSON name what was taken.
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in ["0 photo lr 1e-3 1/2", "0 photo lr 5e-4 1/2", "0 sketch lr 1e-3 2/2"] {
        assert!(lines.contains(&line.split(' ').collect()), "{line}: {text}");
    }
    let all = results("s", &work, &records, &question).unwrap();
    let json: serde_json::Value = serde_json::from_str(&all.render(Format::Json)).unwrap();
    assert_eq!(json["cells"][1]["chosen"], serde_json::json!([{ "setting": { "lr": 1e-3 }, "seeds": 2 }]));
    let csv = all.render(Format::Csv);
    assert!(
        csv.lines().next().unwrap().ends_with(",done,chosen") && csv.contains(",2,2,lr 1e-3 (2)\n"),
        "{csv}"
    );
    // Domains that agree have one line.
    let agree = results("s", &work, &records[4..], &question).unwrap().render(Format::Table);
    assert!(agree.contains("settings taken as the best"), "{agree}");
    let mut both = records[4..].to_vec();
    both.extend(records[4..].iter().cloned().map(|mut record| {
        let trial =
            succeeded(&work, Point { held_out: vec!["photo".to_owned()], ..record.point.clone() }, 0, 0);
        (record.point, record.id, record.held_out) = (trial.point, trial.id, trial.held_out);
        record
    }));
    let both = results("s", &work, &both, &question).unwrap().render(Format::Table);
    assert!(both.lines().any(|line| line.split_whitespace().eq("0 all lr 1e-3 4/4".split(' '))), "{both}");
    // Where nothing is chosen, nothing is named.
    let mean = results("s", &work, &records, &Question { best: false, ..question.clone() }).unwrap();
    assert!(
        !mean.render(Format::Table).contains("taken as the best")
            && !mean.render(Format::Json).contains("chosen")
    );
    // Nobody knows the best of what is not done.
    records[1].state = StateName::Queued;
    let (cells, mean, text) = found(&records);
    assert_eq!(cells, [(Some(0.3), 1, 1, 2), (Some(0.6), 2, 2, 2)]);
    assert!(close(mean, 0.5) && text.contains("30.0 (1/2)"), "{text}");
}

#[test]
fn each_method_selects_by_itself() {
    let work = work("PACS");
    let mut trial = succeeded(&work, point("sketch", 0.0, 1e-3, 0), 900, 700);
    let average = |mut row: Evaluation, correct| {
        (row.method, row.score) = (Method::Average, Some(Score::Counts { n: 1_000, correct }));
        row
    };
    trial.validation.extend(trial.validation.clone().into_iter().map(|row| average(row, 950)));
    trial.held_out.extend(trial.held_out.clone().into_iter().map(|row| average(row, 800)));
    for (method, ood, n) in [(Method::Plain, 0.7, 1), (Method::Average, 0.8, 1), (Method::Ensemble, 0.0, 0)] {
        let results = results("s", &work, &[trial.clone()], &Question { method, ..IID }).unwrap();
        assert_eq!(
            (results.cells[0].ood.mean.unwrap_or_default(), results.cells[0].ood.n),
            (ood, n),
            "{method}"
        );
        assert_eq!(
            results.render(Format::Table).contains(&format!("weights used: {method}")),
            method != Method::Plain
        );
    }
}

#[test]
fn json_is_the_contract() {
    let json: serde_json::Value = serde_json::from_str(&incomplete().render(Format::Json)).unwrap();
    assert_eq!(json["cells"][3]["dropout"], 0.5);
    assert_eq!(json["cells"][3]["ood"], serde_json::json!({"mean": 0.74, "se": null, "n": 1}));
    let first = serde_json::to_string(&incomplete()).unwrap();
    let start = r#"{"sweep":"demo","selection":"iid","method":"plain","best":false,"ood_split":"in","planned":9,"done":8,"failed":1,"diverged":0,"cancelled":0,"cells":[{"dropout":0.0,"held_out":"photo","iid":{"mean":"#;
    assert!(first.starts_with(start), "{first}");
    assert!(first.contains(r#""planned":2,"done":1}],"means":[{"dropout":0.0,"iid":{"#), "{first}");
}

#[test]
fn table() {
    insta::assert_snapshot!(incomplete().render(Format::Table), @r"
    sweep demo, selection iid: 8 of 9 trials done, 1 failed, 0 diverged, 0 cancelled

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

    selection iid reads the out splits of the training domains; in/out: train/validation split; ± standard error of the mean over trials; * best of a complete column, with all that are shown as equal to it; (done/planned) of an incomplete cell
    ");
}

#[test]
fn markdown() {
    insta::assert_snapshot!(incomplete().render(Format::Markdown), @r"
    sweep demo, selection iid: 8 of 9 trials done, 1 failed, 0 diverged, 0 cancelled

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

    selection iid reads the out splits of the training domains; in/out: train/validation split; ± standard error of the mean over trials; \* best of a complete column, with all that are shown as equal to it; (done/planned) of an incomplete cell
    ");
}

#[test]
fn latex() {
    insta::assert_snapshot!(incomplete().render(Format::Latex), @r"
    % sweep demo, selection iid: 8 of 9 trials done, 1 failed, 0 diverged, 0 cancelled

    % o.o.d. accuracy (held-out domain, in split), %
    \begin{tabular}{lrrrr}
    \toprule
    dropout & photo & sketch & mean & done \\
    \midrule
    0 & 91.0 $\pm$ 1.0 & 71.0 $\pm$ 1.0 & 81.0 $\pm$ 1.0 & 4/4 \\
    0.5 & \textbf{95.0 $\pm$ 1.0} & 74.0 (1/2) & 84.0 & 3/4 \\
    \bottomrule
    \end{tabular}

    % i.i.d. accuracy (training domains, out split), %
    \begin{tabular}{lrrrr}
    \toprule
    dropout & photo & sketch & mean & done \\
    \midrule
    0 & 90.5 $\pm$ 0.5 & 90.5 $\pm$ 0.5 & 90.5 $\pm$ 0.5 & 4/4 \\
    0.5 & 92.5 $\pm$ 0.5 & 92.0 (1/2) & 92.0 & 3/4 \\
    \bottomrule
    \end{tabular}

    % selection iid reads the out splits of the training domains; in/out: train/validation split; ± standard error of the mean over trials; bold: best of a complete column, with all that are shown as equal to it; (done/planned) of an incomplete cell
    ");
}

#[test]
fn names_become_plain_latex() {
    let work = work("PACS");
    let text =
        results("s_1", &work, &[succeeded(&work, point("art_painting", 0.5, 1e-3, 0), 900, 800)], &IID)
            .unwrap()
            .render(Format::Latex);
    assert!(
        text.contains("% sweep s_1") && text.contains(r"dropout & art\_painting & mean & done \\"),
        "{text}"
    );
    // Some characters would be another one in print; a star at the end of a domain's name marks no best number.
    let odd = r#"[a]<b>|"c"^~{d}#*"#;
    let text = results("s", &work, &[succeeded(&work, point(odd, 0.5, 1e-3, 0), 900, 800)], &IID);
    let text = text.unwrap().render(Format::Latex);
    let escaped =
        r"{[}a{]}\textless{}b\textgreater{}\textbar{}''c''\textasciicircum{}\textasciitilde{}\{d\}\#{*}";
    assert!(text.contains(&format!(r"dropout & {escaped} & mean & done \\")), "{text}");
}

#[test]
fn csv() {
    insta::assert_snapshot!(incomplete().render(Format::Csv), @r"
    dropout,held_out,metric,iid_mean,iid_se,iid_n,ood_mean,ood_se,ood_n,planned,done
    0,photo,accuracy,0.905,5.0000000000000044e-3,2,0.91,0.010000000000000009,2,2,2
    0,sketch,accuracy,0.905,5.0000000000000044e-3,2,0.71,0.010000000000000009,2,2,2
    0.5,photo,accuracy,0.925,5.0000000000000044e-3,2,0.95,0.010000000000000009,2,2,2
    0.5,sketch,accuracy,0.92,,1,0.74,,1,2,1
    ");
}

#[test]
fn nothing_done_is_still_a_table() {
    let work = work("PACS");
    let records = [record(&work, point("sketch", 0.0, 1e-3, 0), StateName::Queued)];
    let text = results("s", &work, &records, &IID).unwrap().render(Format::Table);
    assert!(text.contains("0 of 1 trials done") && text.contains("(0/1)"), "{text}");
    assert!(results("s", &work, &[], &IID).unwrap().render(Format::Table).contains("0 of 0 trials done"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn results_agree_with_a_slow_second_computation(trials in prop::collection::vec((0..16_u8, 0..=1000_u64, 0..=1000_u64), 24)) {
        let work = work("PACS");
        let domains = ["cartoon", "photo", "sketch"];
        let rates = [0.0, 0.9];
        // Index = rate * 12 + seed * 3 + domain.
        let unfinished = [StateName::Failed, StateName::Diverged, StateName::Queued, StateName::Running];
        let records: Vec<TrialRecord> = trials.iter().enumerate().map(|(index, &(state, iid, ood))| {
            let point = point(domains[index % 3], rates[index / 12], 1e-3, (index / 3 % 4) as u64);
            let state = unfinished.get(usize::from(state)).copied().unwrap_or(StateName::Succeeded);
            // Results of trials that did not succeed must not count, even if there are any.
            TrialRecord { state, ..succeeded(&work, point, iid, ood) }
        }).collect();
        let results = results("s", &work, &records, &Question { by: vec![Axis::from("dropout")], ..IID }).unwrap();
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
    let work = work("PACS");
    let mut records = Vec::new();
    for (rate, ood) in [(0.0, 700), (0.9, 750)] {
        for domain in ["photo", "sketch"] {
            records.push(succeeded(&work, point(domain, rate, 1e-3, 0), 900, ood));
        }
    }
    let stars = |records: &[TrialRecord]| {
        results("s", &work, records, &IID).unwrap().render(Format::Table).matches("75.0*").count()
    };
    assert_eq!(stars(&records), 3, "photo, sketch and mean");
    records[0].state = StateName::Running;
    assert_eq!(stars(&records), 1, "sketch alone: photo and so the mean may still change");
}

#[test]
fn a_complete_row_has_the_mean_of_its_cells() {
    let work = work("PACS");
    let mut records = Vec::new();
    for (index, domain) in (0..).zip(["art_painting", "cartoon", "photo", "sketch"]) {
        for seed in 0..3 {
            records.push(succeeded(
                &work,
                point(domain, 0.5, 1e-3, seed),
                900 + 7 * index + seed,
                600 + 31 * index * (seed + 1),
            ));
        }
    }
    let results = results("s", &work, &records, &IID).unwrap();
    let of_cells = |mean: fn(&sortie_analysis::Cell) -> Option<f64>| {
        results.cells.iter().filter_map(mean).sum::<f64>() / 4.0
    };
    assert!(close(results.means[0].ood.mean, of_cells(|cell| cell.ood.mean)) && results.means[0].ood.n == 3);
    assert!(close(results.means[0].iid.mean, of_cells(|cell| cell.iid.mean)));
}

/// The variance by its other formula, over all pairs: sum of (a - b)^2 / (2 n (n - 1)).
fn check(estimate: &Estimate, values: &[f64]) -> Result<(), TestCaseError> {
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
