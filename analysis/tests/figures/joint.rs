//! Figures of several sweeps, and the paper's by name.

use sortie_analysis::{
    Axis, FigureKind, FigurePage, FigurePreset, FigureQuestion, FigureWidth, OodSplit, SweepRecords, figures,
};
use sortie_core::metrics::Method;
use sortie_core::parameters::Scalar;
use sortie_core::presets;
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{TrialSpec, Work};

use super::pictures::{combine, count, dots, show, sweep, words};

const FIELD: [(&str, &str); 4] =
    [("vlcs", "VLCS"), ("pacs", "PACS"), ("office", "office_home"), ("terra", "terra_incognita")];

fn spec(preset: &str, dataset: &str, changes: &[(&str, &str)]) -> SweepSpec {
    let mut text = presets::find(preset).unwrap().text(Some(dataset));
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    SweepSpec::parse(&text, None).unwrap()
}

/// The ids of the trials as this work gives them.
fn with_ids(work: &Work, records: Vec<TrialRecord>) -> Vec<TrialRecord> {
    let id = |record: &TrialRecord| {
        TrialSpec { work: work.clone(), point: record.point.clone(), combination: None }.hash()
    };
    records.into_iter().map(|record| TrialRecord { id: id(&record), ..record }).collect()
}

/// A sweep of this preset with trials at these rates, and combinations of 18 of them if it has some.
fn sweep_of(name: &str, spec: SweepSpec, rates: &[f64]) -> SweepRecords {
    let mut records = sweep(&spec.work, rates);
    for one in &spec.combine {
        for &rate in rates {
            combine(&mut records, &spec.work, &one.name, 18.0, rate);
        }
    }
    let records = with_ids(&spec.work, records);
    SweepRecords::of(name, spec, records)
}

fn field(preset: &str, rates: &[f64]) -> Vec<SweepRecords> {
    FIELD.iter().map(|(name, dataset)| sweep_of(name, spec(preset, dataset, &[]), rates)).collect()
}

fn asked(preset: FigurePreset, by: &[&str]) -> FigureQuestion {
    let by = by.iter().map(|axis| Axis::from(*axis)).collect();
    FigureQuestion { preset: Some(preset), by, ..FigureQuestion::of(FigureKind::Scatter) }
}

#[test]
fn figure_1_has_the_papers_groups_and_points_on_four_datasets() {
    let svg = figures(field("figure1", &[0.0, 0.9]), &asked(FigurePreset::Figure1, &[])).unwrap();
    assert_eq!(dots(&svg), [1_296; 16], "four groups on each of four datasets");
    assert_eq!(
        (count(&svg, "hull"), count(&svg, "centre"), count(&svg, "combined"), count(&svg, "centres")),
        (16, 16, 8, 0)
    );
    let text = words(&svg);
    for label in [
        "ERM",
        "weight averaging",
        "ensemble",
        "dropout 0.9",
        "ensemble across runs",
        "average across runs",
        "VLCS",
        "PACS",
        "office_home",
        "terra_incognita",
        "576 of 576 trials done",
    ] {
        assert!(text.contains(label), "{label}: {text}");
    }
    assert!(!text.contains("nothing yet"), "{text}");
    show("joint-figure1", &svg);
    let page = FigurePage { width: FigureWidth::DOUBLE, title: None, caption: false };
    let wide =
        figures(field("figure1", &[0.0, 0.9]), &FigureQuestion { page, ..asked(FigurePreset::Figure1, &[]) });
    show("joint-figure1-double", &wide.unwrap());
}

#[test]
fn trainings_of_a_sweep_without_averages_leave_those_of_another_one() {
    for reversed in [false, true] {
        let mut sweeps = vec![
            sweep_of("figure1", spec("figure1", "PACS", &[]), &[0.0, 0.9]),
            sweep_of("rates", spec("dropout-rates", "PACS", &[]), &[0.0, 0.9]),
        ];
        for record in &mut sweeps[1].records {
            record.validation.retain(|row| row.method == Method::Plain);
            record.held_out.retain(|row| row.method == Method::Plain);
        }
        if reversed {
            sweeps.reverse();
        }
        let svg = figures(sweeps, &asked(FigurePreset::Figure1, &[])).unwrap();
        assert_eq!(dots(&svg), [1_296; 4], "{reversed}");
    }
}

#[test]
fn figure_2_joins_the_centres_of_rates() {
    let rates = [0.0, 0.5, 0.9, 0.95];
    let svg = figures(field("dropout-rates", &rates), &asked(FigurePreset::Figure2, &[])).unwrap();
    assert_eq!((count(&svg, "hull"), count(&svg, "centres"), count(&svg, "combined")), (16, 4, 0));
    show("joint-figure2", &svg);
    let last = figures(field("no-selection", &rates), &asked(FigurePreset::NoSelection, &[])).unwrap();
    assert!(words(&last).contains("step selection last"), "{}", words(&last));
}

#[test]
fn the_other_figures_tell_their_groups_apart() {
    let tenfold = |(name, dataset): (&str, &str)| {
        let spec = spec("last-layer-lr", dataset, &[]);
        let mut records = sweep(&spec.work, &[0.0, 0.9]);
        for record in &mut records {
            record.point.parameters.insert("head_lr_factor".to_owned(), Scalar::Number(10.0.into()));
        }
        let records = with_ids(&spec.work, records);
        SweepRecords::of(&format!("{name}10"), spec, records)
    };
    let mut sweeps = field("dropout-rates", &[0.0, 0.5, 0.9, 0.95]);
    sweeps.extend(FIELD.map(tenfold));
    let svg = figures(sweeps, &asked(FigurePreset::LastLayerLr, &[])).unwrap();
    assert_eq!((count(&svg, "hull"), dots(&svg).len()), (16, 16));
    show("joint-last-layer-lr", &svg);
    for (preset, sweep, points) in
        [(FigurePreset::WeightAverage, "weight-average", 4), (FigurePreset::Ensemble, "ensemble", 4)]
    {
        let one = |name| sweep_of("pacs", spec(name, "PACS", &[]), &[0.0, 0.9]);
        let svg = figures(vec![one(sweep)], &asked(preset, &[])).unwrap();
        let combined = one(sweep).spec.combine.len() * 2;
        assert_eq!((count(&svg, "hull"), count(&svg, "combined")), (4, combined), "{preset} {points}");
        show(&format!("joint-{preset}"), &svg);
    }
    let v1 = [("resnet50-v2", "resnet50-v1")];
    let both = vec![
        sweep_of("v2", spec("dropout-rates", "PACS", &[]), &[0.0, 0.9]),
        sweep_of("v1", spec("dropout-rates", "PACS", &v1), &[0.0, 0.9]),
    ];
    let svg = figures(both, &asked(FigurePreset::Pretraining, &[])).unwrap();
    assert_eq!(count(&svg, "hull"), 4);
    assert!(
        words(&svg).contains("nothing yet for some held-out domain of V1, all tricks; V2, all tricks"),
        "{}",
        words(&svg)
    );
    show("joint-pretraining", &svg);
}

#[test]
fn sweeps_on_one_dataset_are_told_apart_by_what_is_named_and_never_mixed() {
    let both = || {
        let v1 = [("resnet50-v2", "resnet50-v1")];
        vec![
            sweep_of("v2", spec("dropout-rates", "PACS", &[]), &[0.0, 0.9]),
            sweep_of("v1", spec("dropout-rates", "PACS", &v1), &[0.0, 0.9]),
        ]
    };
    for kind in FigureKind::ALL.iter().copied().filter(|kind| *kind != FigureKind::Grid) {
        let error = figures(both(), &FigureQuestion::of(kind)).unwrap_err().to_string();
        assert!(
            error.starts_with("sweeps v2 and v1 have different trials on PACS at ")
                && error.contains("backbone or --by"),
            "{kind}: {error}"
        );
    }
    let by = |kind, axes: &[&str]| {
        let by = axes.iter().map(|axis| Axis::from(*axis)).collect();
        figures(both(), &FigureQuestion { by, ..FigureQuestion::of(kind) }).unwrap()
    };
    assert_eq!(count(&by(FigureKind::Scatter, &["dropout", "sweep"]), "hull"), 4);
    assert_eq!(count(&by(FigureKind::Rates, &["dropout", "backbone"]), "curve"), 4);
    show("joint-scatter-backbone", &by(FigureKind::Scatter, &["backbone", "dropout"]));
    // A preset is split further by what is named.
    let error = figures(both(), &asked(FigurePreset::Figure1, &[])).unwrap_err().to_string();
    assert!(error.contains("trials of different sweeps are not averaged"), "{error}");
    let svg = figures(both(), &asked(FigurePreset::Figure1, &["backbone"])).unwrap();
    assert_eq!(count(&svg, "hull"), 8);
    assert!(words(&svg).contains("ERM, backbone resnet50-v1"), "{}", words(&svg));
    show("joint-figure1-backbone", &svg);
}

#[test]
fn several_datasets_have_a_plot_each_in_every_kind() {
    for kind in FigureKind::ALL.iter().copied() {
        let question = FigureQuestion { methods: vec![Method::Plain], ..FigureQuestion::of(kind) };
        let svg = figures(field("dropout-rates", &[0.0, 0.5, 0.9]), &question).unwrap();
        for (name, dataset) in FIELD {
            assert!(
                svg.contains(&format!(">{dataset}<")) || svg.contains(&format!("{dataset}: {name}")),
                "{kind}"
            );
        }
        show(&format!("joint-kind-{kind}"), &svg);
    }
    // Only presets draw combinations beside each other.
    let svg = figures(field("figure1", &[0.0]), &FigureQuestion::of(FigureKind::Scatter)).unwrap();
    assert!(words(&svg).contains("PACS: 8 combinations of trials are not drawn"), "{}", words(&svg));
    // The dataset may be an axis, too, if nothing else is to be told apart.
    let by = vec![Axis::from("dataset")];
    let svg = figures(
        field("dropout-rates", &[0.5]),
        &FigureQuestion { by, ..FigureQuestion::of(FigureKind::Scatter) },
    );
    assert_eq!(count(&svg.unwrap(), "hull"), 4);
}

#[test]
fn imported_runs_of_the_papers_code_make_its_figures_too() {
    let imported = |(name, dataset): (&str, &str)| {
        let mut one = sweep_of(name, spec("dropout-rates", dataset, &[]), &[0.0, 0.5, 0.9, 0.95]);
        for record in &mut one.records {
            let rate = record.point.parameters.remove("dropout").unwrap();
            record.point.parameters.insert("resnet_dropout".to_owned(), rate);
        }
        one.spec.grid.axes.remove("dropout");
        one
    };
    let figure = |preset| figures(FIELD.map(imported).to_vec(), &asked(preset, &[])).unwrap();
    assert_eq!(dots(&figure(FigurePreset::Figure2)), [1_296; 16]);
    // Imports have no combinations, but what the code averaged along its trajectories.
    let svg = figure(FigurePreset::Figure1);
    assert_eq!((count(&svg, "hull"), count(&svg, "combined")), (16, 0));
}

#[test]
fn one_picture_has_one_split_of_the_held_out_domain() {
    let sweeps = || {
        [("pacs", "PACS"), ("emoji", "EmojiStyles")]
            .map(|(name, dataset)| sweep_of(name, spec("dropout-rates", dataset, &[]), &[0.5]))
            .to_vec()
    };
    let error = figures(sweeps(), &FigureQuestion::of(FigureKind::Scatter)).unwrap_err().to_string();
    assert!(error.contains("(PACS: in, EmojiStyles: out)"), "{error}");
    let question =
        FigureQuestion { ood_split: Some(OodSplit::Out), ..FigureQuestion::of(FigureKind::Scatter) };
    assert_eq!(count(&figures(sweeps(), &question).unwrap(), "hull"), 2);
}

#[test]
fn what_a_sweep_lacks_is_named_and_text_stays_legible() {
    let mut sweeps = field("figure1", &[0.0, 0.9]);
    sweeps[1].records.retain(|record| record.point.parameters["dropout"] == Scalar::Number(0.0.into()));
    let svg = figures(sweeps, &asked(FigurePreset::Figure1, &[])).unwrap();
    assert_eq!((count(&svg, "hull"), count(&svg, "combined")), (15, 8));
    assert!(
        words(&svg).contains("PACS: nothing yet for some held-out domain of dropout 0.9"),
        "{}",
        words(&svg)
    );
    let points = 72.0 / 2.54 * 8.25 / 360.0;
    let sizes = svg.split("font-size=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(sizes.map(|size| size.parse::<f64>().unwrap()).all(|size| size * points >= 6.0));
    let error = figures(
        vec![sweep_of("s", spec("figure1", "PACS", &[]), &[0.3])],
        &asked(FigurePreset::Figure1, &[]),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "sweep s has no setting with a finished trial for each held-out domain yet"
    );
}
