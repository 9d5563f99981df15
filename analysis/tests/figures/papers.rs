//! Figures for papers: widths, titles, captions, PDF, and settings that are told apart.

use std::collections::BTreeSet;

use sortie_analysis::{Axis, FigureKind, FigurePage, FigureQuestion, FigureWidth, figure, pdf};
use sortie_core::metrics::Method;
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::trial::Work;

use super::pictures::{combine, count, realistic, show, sweep, words};
use super::support::{point, work};

/// Points of a unit: 360 units are 8.25 cm.
const POINTS: f64 = 72.0 / 2.54 * 8.25 / 360.0;

/// All settings of these values, with three seeds and three steps.
fn settings(work: &Work, dropouts: &[f64], lrs: &[f64], decays: &[f64]) -> Vec<TrialRecord> {
    let mut records = Vec::new();
    for domain in work.domains() {
        for (&dropout, &lr, &decay) in
            dropouts.iter().flat_map(|a| lrs.iter().flat_map(move |b| decays.iter().map(move |c| (a, b, c))))
        {
            for seed in 0..3 {
                let mut at = point(domain, dropout, lr, seed);
                at.parameters.insert("weight_decay".to_owned(), Scalar::Number(decay.into()));
                records.push(trained(realistic(work, at)));
            }
        }
    }
    records
}

/// The trial with earlier evaluations, at which it was worse.
fn trained(mut record: TrialRecord) -> TrialRecord {
    let earlier = |rows: &[sortie_core::metrics::Evaluation]| -> Vec<_> {
        let at = |row: &sortie_core::metrics::Evaluation, step: u64| {
            let value = row.accuracy().unwrap() - 0.004 * (20 - step) as f64;
            let score = sortie_core::metrics::Score::Value { value, n: 1_000 };
            sortie_core::metrics::Evaluation { step, score: Some(score), ..row.clone() }
        };
        rows.iter().flat_map(|row| [0, 5, 10].map(|step| at(row, step))).collect()
    };
    let (validation, held_out) = (earlier(&record.validation), earlier(&record.held_out));
    record.validation.extend(validation);
    record.held_out.extend(held_out);
    record
}

fn asked(kind: FigureKind, by: &[&str], page: FigurePage) -> FigureQuestion {
    let by = by.iter().map(|axis| Axis::from(*axis)).collect();
    FigureQuestion { by, page, ..FigureQuestion::of(kind) }
}

fn bare(width: FigureWidth) -> FigurePage {
    FigurePage { width, title: None, caption: false }
}

/// The sizes of all texts, in units.
fn sizes(svg: &str) -> Vec<f64> {
    svg.split("font-size=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn one_two_and_eight_settings_at_every_width_have_text_of_six_points() {
    let work = work("PACS");
    let (one, two) =
        (settings(&work, &[0.5], &[1e-3], &[1e-4]), settings(&work, &[0.5], &[1e-3], &[1e-4, 1e-5]));
    let eight = settings(&work, &[0.0, 0.9], &[5e-4, 1e-3], &[1e-4, 1e-5]);
    for (name, records) in [("one", &one), ("two", &two), ("eight", &eight)] {
        for &kind in FigureKind::ALL {
            if kind == FigureKind::Grid && name != "eight" {
                continue;
            }
            for (width, cm) in [
                (FigureWidth::SINGLE, "single"),
                (FigureWidth::DOUBLE, "double"),
                ("6".parse().unwrap(), "6"),
            ] {
                let svg = figure("s", &work, records, &asked(kind, &[], bare(width))).unwrap();
                let sizes = sizes(&svg);
                assert!(
                    sizes.iter().all(|size| size * POINTS >= 6.0) && sizes.len() > 3,
                    "{kind} {name} {cm}: {sizes:?}"
                );
                let viewed =
                    format!("viewBox=\"0 0 {} ", (width.centimetres() * 36_000.0 / 8.25).round() / 100.0);
                assert!(svg.contains(&viewed), "{kind} {cm}: {viewed}");
                show(&format!("paper-{kind}-{name}-{cm}"), &svg);
            }
        }
    }
}

#[test]
fn a_page_has_its_own_title_or_no_caption() {
    let work = work("PACS");
    let records = sweep(&work, &[0.0, 0.9]);
    for &kind in FigureKind::ALL {
        let said = |title: Option<&str>, caption| {
            let page = FigurePage { title: title.map(str::to_owned), caption, ..FigurePage::default() };
            words(&figure("the-sweep", &work, &records, &asked(kind, &[], page)).unwrap())
        };
        assert!(said(None, true).contains("the-sweep") && said(None, true).contains("trials done"), "{kind}");
        let titled = said(Some("A title & more"), true);
        assert!(titled.starts_with("A title &amp; more") && !titled.contains("the-sweep"), "{titled}");
        let alone = said(Some("A title"), false);
        assert!(alone.starts_with("A title") && !alone.contains("trials done"), "{alone}");
        let none = said(None, false);
        assert!(!none.contains("the-sweep") && !none.contains("trials done"), "{none}");
    }
}

#[test]
fn a_pdf_is_as_wide_as_it_says_and_embeds_its_fonts() {
    let work = work("PACS");
    let records = sweep(&work, &[0.0, 0.9]);
    for (width, points) in [(FigureWidth::SINGLE, 233.86), (FigureWidth::DOUBLE, 484.72)] {
        for &kind in FigureKind::ALL {
            let svg = figure("s", &work, &records, &asked(kind, &[], bare(width))).unwrap();
            let bytes = pdf(&svg, Vec::new()).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.starts_with("%PDF-1."), "{kind}");
            let (_, page) = text.split_once("/MediaBox").unwrap();
            let size: Vec<f64> = page[..60]
                .split(|character: char| !character.is_ascii_digit() && character != '.')
                .filter_map(|number| number.parse().ok())
                .take(4)
                .collect();
            assert!((size[2] - points).abs() < 0.01 && size[3] > 50.0, "{kind}: {size:?}");
            let fonts = text.matches("/FontDescriptor ").count();
            assert!(
                fonts > 0 && text.matches("/FontFile2").count() == text.matches("/FontName").count(),
                "{kind}"
            );
            assert_eq!(bytes, pdf(&svg, Vec::new()).unwrap(), "{kind}");
        }
    }
    assert!(pdf("no svg", Vec::new()).is_err());
}

#[test]
fn every_axis_in_which_settings_differ_is_named() {
    let work = work("PACS");
    let decays = settings(&work, &[0.5], &[1e-3], &[1e-4, 1e-5]);
    for kind in [FigureKind::Curves, FigureKind::Scatter] {
        let said = words(&figure("s", &work, &decays, &asked(kind, &[], FigurePage::default())).unwrap());
        let values = ["1e-4", "1e-5"].iter().all(|value| said.contains(value));
        assert!(said.contains("weight_decay") && values, "{kind}: {said}");
    }
    let eight = settings(&work, &[0.0, 0.9], &[5e-4, 1e-3], &[1e-4, 1e-5]);
    let svg = figure("s", &work, &eight, &asked(FigureKind::Curves, &[], FigurePage::default())).unwrap();
    assert_eq!((count(&svg, "ood"), count(&svg, "iid"), count(&svg, "leader")), (8, 8, 8));
    let said = words(&svg);
    assert!(said.contains("dropout, lr, weight_decay"), "{said}");
    for setting in ["0, 5e-4, 1e-4", "0.9, 1e-3, 1e-5"] {
        assert!(said.contains(setting), "{setting}: {said}");
    }
    let by = &["dropout", "lr", "weight_decay"];
    let svg = figure("s", &work, &eight, &asked(FigureKind::Scatter, by, FigurePage::default())).unwrap();
    assert_eq!((count(&svg, "centre"), count(&svg, "centres")), (8, 0));
    assert!(words(&svg).contains("0.9, 1e-3, 1e-5"), "{}", words(&svg));
    show("scatter-eight", &svg);
}

#[test]
fn combined_models_name_every_axis_in_which_they_differ_and_their_step() {
    let work = work("PACS");
    let mut records = sweep(&work, &[0.0, 0.9]);
    combine(&mut records, &work, "soup", 6.0, 0.9);
    let soups = records.split_off(records.len() - work.domains().len());
    for decay in [1e-4, 1e-5] {
        for mut record in soups.iter().cloned() {
            record.point.parameters.insert("weight_decay".to_owned(), Scalar::Number(decay.into()));
            records.push(record);
        }
    }
    let svg = figure("s", &work, &records, &FigureQuestion::of(FigureKind::Scatter)).unwrap();
    let said = words(&svg);
    for label in
        ["weight_decay 1e-4", "weight_decay 1e-5", "dropout 0.9", "evaluated once, at step 20, the last"]
    {
        assert!(said.contains(label), "{label}: {said}");
    }
    show("scatter-combined-decays", &svg);
}

#[test]
fn any_axis_of_numbers_is_an_x_axis() {
    let work = work("PACS");
    let records = settings(&work, &[0.0, 0.9], &[1e-5, 1e-4, 1e-3, 1e-2], &[0.0, 1e-4]);
    let draw = |by: &[&str]| {
        figure("s", &work, &records, &asked(FigureKind::Rates, by, FigurePage::default())).unwrap()
    };
    assert_eq!(draw(&[]), draw(&["dropout"]));
    let svg = draw(&["lr"]);
    assert_eq!((count(&svg, "curve"), count(&svg, "value")), (6, 24));
    let said = words(&svg);
    assert!(said.contains("1e-5 1e-4 1e-3") && said.contains("lr (logarithmic)"), "{said}");
    assert!(said.contains("averaged over dropout, weight_decay, seed"), "{said}");
    show("rates-lr", &svg);
    let svg = draw(&["lr", "dropout", "weight_decay"]);
    // An o.o.d. and an i.i.d. mean of each of four settings.
    assert_eq!((count(&svg, "curve"), count(&svg, "leader")), (8, 4));
    assert!(
        words(&svg).contains("dropout, weight_decay") && words(&svg).contains("0.9, 1e-4"),
        "{}",
        words(&svg)
    );
    show("rates-lr-settings", &svg);
    let alone = settings(&work, &[0.5], &[1e-3], &[0.0, 1e-6, 1e-4]);
    let svg = figure("s", &work, &alone, &asked(FigureKind::Rates, &[], FigurePage::default())).unwrap();
    assert!(words(&svg).contains("0 stands beside the logarithmic axis"), "{}", words(&svg));
    let x: BTreeSet<&str> = svg.lines().filter(|line| line.contains("class=\"tick\"")).collect();
    assert_eq!(x.len(), 3);
    show("rates-decay", &svg);
}

#[test]
fn more_settings_than_looks_are_refused() {
    let work = work("PACS");
    let records: Vec<TrialRecord> =
        (0..37).map(|seed| realistic(&work, point("photo", 0.5, 1e-3, seed))).collect();
    for kind in [FigureKind::Curves, FigureKind::Scatter] {
        let error = figure("s", &work, &records, &asked(kind, &["seed"], FigurePage::default())).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "--by seed: sweep s has 37 settings on these axes; a figure of kind {kind} shows at most 36"
            )
        );
    }
    let question = FigureQuestion {
        methods: vec![Method::Plain],
        ..asked(FigureKind::Curves, &["seed"], bare(FigureWidth::SINGLE))
    };
    show("curves-thirty-six", &figure("s", &work, &records[..36], &question).unwrap());
}
