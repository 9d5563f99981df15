//! Scatter figures of several models: what is drawn, and pictures for people to look at.

use sortie_analysis::{FigureKind, FigureQuestion, figure};
use sortie_core::combine::MEMBERS;
use sortie_core::job::StateName;
use sortie_core::metrics::Method;
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;

use super::pictures::{combine, count, dots, realistic, show, sweep, words};
use super::support::{point, work};

fn several(methods: &[Method]) -> FigureQuestion {
    FigureQuestion { methods: methods.to_vec(), ..FigureQuestion::of(FigureKind::Scatter) }
}

#[test]
fn one_rate_and_three_models_are_three_named_groups() {
    let work = work("VLCS");
    let svg = figure("figure1", &work, &sweep(&work, &[0.9]), &several(Method::ALL)).unwrap();
    assert_eq!(dots(&svg), [1_296; 3]);
    assert_eq!(
        (count(&svg, "hull"), count(&svg, "centre"), count(&svg, "centres"), count(&svg, "leader")),
        (3, 3, 0, 3)
    );
    let repeated = [Method::Plain, Method::Average, Method::Plain, Method::Ensemble];
    assert_eq!(svg, figure("figure1", &work, &sweep(&work, &[0.9]), &several(&repeated)).unwrap());
    for text in [">plain<", ">average<", ">ensemble<", "dropout 0.9"] {
        assert!(svg.contains(text), "{text}: {}", words(&svg));
    }
    assert!(words(&svg).contains("(1296 per group)"), "{}", words(&svg));
    show("scatter-methods", &svg);
}

#[test]
fn two_rates_and_three_models_are_pointed_at() {
    let work = work("VLCS");
    let mut records = sweep(&work, &[0.0, 0.9]);
    combine(&mut records, &work, "ensemble", 18.0, 0.0);
    combine(&mut records, &work, "average", 18.0, 0.0);
    let svg = figure("figure1", &work, &records, &several(Method::ALL)).unwrap();
    assert_eq!(
        (count(&svg, "hull"), count(&svg, "combined"), count(&svg, "leader"), count(&svg, "centres")),
        (6, 2, 8, 3)
    );
    assert!(words(&svg).contains("average 0.9") && words(&svg).contains("ensemble of 18"), "{}", words(&svg));
    show("scatter-methods-rates", &svg);
}

#[test]
fn many_groups_have_a_key_of_rates_and_models() {
    let work = work("VLCS");
    let svg =
        figure("dropout-rates", &work, &sweep(&work, &[0.0, 0.5, 0.9, 0.95]), &several(Method::ALL)).unwrap();
    assert_eq!((count(&svg, "hull"), count(&svg, "leader"), count(&svg, "centres")), (12, 0, 3));
    // A line and a marker for each of four rates and three models.
    assert_eq!(count(&svg, "sample"), 14);
    show("scatter-factorised", &svg);
    let twelve: Vec<f64> = (0..12).map(|k| f64::from(k) * 0.08).collect();
    show("scatter-twelve", &figure("s", &work, &sweep(&work, &twelve), &several(&[Method::Plain])).unwrap());
}

#[test]
fn one_model_beside_combined_ones() {
    let work = work("PACS");
    let mut records = sweep(&work, &[0.0, 0.5, 0.9, 0.95]);
    for rate in [0.0, 0.9] {
        for (name, members) in [("ensemble", 18.0), ("average", 18.0), ("ensemble", 6.0)] {
            combine(&mut records, &work, name, members, rate);
        }
    }
    let svg = figure("dropout-rates", &work, &records, &several(&[Method::Plain])).unwrap();
    assert_eq!((count(&svg, "hull"), count(&svg, "combined"), count(&svg, "leader")), (4, 6, 6));
    assert!(
        words(&svg).contains("288 of 288 trials done"),
        "combined models are not counted among the trials: {}",
        words(&svg)
    );
    show("scatter-combined", &svg);
    let last = records.len() - 1;
    records[last].state = StateName::Queued;
    let svg = figure("dropout-rates", &work, &records, &several(&[Method::Plain])).unwrap();
    assert!(
        count(&svg, "combined") == 5 && words(&svg).contains("1 of 6 combined models left out"),
        "{}",
        words(&svg)
    );
}

#[test]
fn combined_models_are_in_no_mean() {
    let work = work("PACS");
    let records = sweep(&work, &[0.0, 0.9]);
    let mut more = records.clone();
    combine(&mut more, &work, "ensemble", 18.0, 0.9);
    for kind in [FigureKind::Rates, FigureKind::Curves] {
        let question = FigureQuestion::of(kind);
        assert_eq!(
            figure("s", &work, &records, &question).unwrap(),
            figure("s", &work, &more, &question).unwrap(),
            "{kind}"
        );
    }
}

#[test]
fn a_model_that_nobody_evaluated_is_named() {
    let work = work("PACS");
    let mut records = sweep(&work, &[0.0]);
    for record in &mut records {
        record.held_out.retain(|row| row.method == Method::Plain);
        record.validation.retain(|row| row.method == Method::Plain);
    }
    let svg = figure("s", &work, &records, &several(Method::ALL)).unwrap();
    assert!(words(&svg).contains("2 of 3 groups left out (average, ensemble)"), "{}", words(&svg));
    let error =
        figure("s", &work, &records, &several(&[Method::Average, Method::Ensemble])).unwrap_err().to_string();
    assert_eq!(
        error,
        "sweep s has finished trials, but none has the evaluations that the figure needs: weights used average,ensemble, selection iid, in split"
    );
}

#[test]
fn other_kinds_show_one_model() {
    let work = work("PACS");
    for kind in [FigureKind::Rates, FigureKind::Curves] {
        let question = FigureQuestion { kind, ..several(&[Method::Plain, Method::Ensemble]) };
        let error = figure("s", &work, &sweep(&work, &[0.5]), &question).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "a figure of kind {kind} shows one --method, not plain,ensemble; several are allowed for: scatter"
            )
        );
    }
}

#[test]
fn a_sweep_without_dropout_is_one_group() {
    let work = work("PACS");
    let mut records = sweep(&work, &[0.5]);
    records.iter_mut().for_each(|record| drop(record.point.parameters.remove("dropout")));
    let svg = figure("s", &work, &records, &several(&[Method::Plain])).unwrap();
    assert_eq!((dots(&svg), count(&svg, "sample")), (vec![1_296], 0));
    show("scatter-no-dropout", &svg);
}

#[test]
fn beyond_what_can_be_drawn_an_even_part_of_the_choices_is() {
    let work = work("PACS");
    let mut records = Vec::new();
    for domain in work.domains() {
        for setting in 1..=32 {
            records.push(realistic(&work, point(domain, 0.5, f64::from(setting) * 1e-4, 0)));
        }
    }
    let svg = figure("s", &work, &records, &several(&[Method::Plain, Method::Ensemble])).unwrap();
    assert_eq!(dots(&svg), [50_000; 2]);
    let text = words(&svg);
    assert!(text.contains("dots: 50000 per group, evenly taken from every choice of one setting per held-out domain (1048576)"), "{text}");
    show("scatter-million", &svg);
}

#[test]
fn combined_models_alone_are_a_figure_and_equal_ones_keep_their_labels() {
    let work = work("PACS");
    let mut records = Vec::new();
    for rate in [0.0, 0.5, 0.9] {
        combine(&mut records, &work, "ensemble", 18.0, rate);
    }
    // The same accuracies under four names.
    let equal: Vec<TrialRecord> = records[..4].to_vec();
    for members in 1..4 {
        for mut record in equal.iter().cloned() {
            record.point.parameters.insert(MEMBERS.to_owned(), Scalar::Number(f64::from(members).into()));
            records.push(record);
        }
    }
    let svg = figure("only-combined", &work, &records, &several(&[Method::Plain])).unwrap();
    assert_eq!((count(&svg, "combined"), count(&svg, "leader"), count(&svg, "hull")), (6, 6, 0));
    assert!(!words(&svg).contains("dots:"), "{}", words(&svg));
    show("scatter-only-combined", &svg);
}
