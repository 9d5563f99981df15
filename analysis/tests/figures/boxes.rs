//! Box plots: what is drawn, and pictures for people to look at.

use sortie_analysis::{Axis, FigureKind, FigureQuestion, figure};
use sortie_core::job::StateName;
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::trial::Work;

use super::pictures::{combine, count, long_names, realistic, show, sweep, words};
use super::support::{point, record, work};

fn by(axes: &[&str]) -> FigureQuestion {
    FigureQuestion {
        by: axes.iter().map(|axis| Axis::from(*axis)).collect(),
        ..FigureQuestion::of(FigureKind::Box)
    }
}

fn draw(work: &Work, records: &[TrialRecord]) -> String {
    figure("dropout-rates", work, records, &by(&[])).unwrap()
}

#[test]
fn a_panel_per_domain_and_one_for_the_mean() {
    let work = work("PACS");
    let svg = draw(&work, &sweep(&work, &[0.0, 0.5, 0.9, 0.95]));
    // Four domains and the mean, o.o.d. and i.i.d., four rates.
    assert_eq!((count(&svg, "box"), count(&svg, "median"), count(&svg, "whisker")), (40, 40, 80));
    let text = words(&svg);
    assert!(text.contains("n 18 18 18 18 0 0.5 0.9 0.95"), "{text}");
    assert!(text.contains("which differ in lr, weight_decay, seed") && !text.contains("averaged"), "{text}");
    show("box", &svg);
}

#[test]
fn incomplete_groups_say_how_many_are_missing() {
    let work = work("PACS");
    let mut records = sweep(&work, &[0.0, 0.5, 0.9]);
    for (index, trial) in records.iter_mut().enumerate() {
        let at_half = trial.point.parameters["dropout"] == Scalar::Number(0.5.into());
        if (at_half && index % 3 > 0)
            || (trial.point.held_out == ["photo"]
                && trial.point.parameters["dropout"] == Scalar::Number(0.9.into()))
        {
            *trial = record(&work, trial.point.clone(), StateName::Queued);
        }
    }
    let svg = draw(&work, &records);
    let text = words(&svg);
    // A third at rate 0.5, nothing of one domain at 0.9, so nothing of the mean there.
    assert!(
        text.contains("n 18 6/18 18")
            && text.contains("n 18 6/18 0/18")
            && text.contains("done/planned where some"),
        "{text}"
    );
    assert_eq!(count(&svg, "box"), 2 * (3 * 5 - 2));
    show("box-incomplete", &svg);
}

#[test]
fn one_seed_twelve_rates_and_six_long_names() {
    let work = long_names();
    let mut records = Vec::new();
    for domain in work.domains() {
        for rate in 0..12 {
            records.push(realistic(&work, point(domain, f64::from(rate) * 0.08, 1e-3, 0)));
        }
    }
    let svg = draw(&work, &records);
    assert_eq!((count(&svg, "box"), count(&svg, "outlier")), (7 * 12 * 2, 0));
    show("box-extreme", &svg);
    let mut records = sweep(&work, &(0..12).map(|rate| f64::from(rate) * 0.08).collect::<Vec<_>>());
    records.iter_mut().step_by(7).for_each(|record| record.state = StateName::Running);
    show("box-twelve", &draw(&work, &records));
}

#[test]
fn groups_by_any_axis() {
    let work = work("PACS");
    let mut records = sweep(&work, &[0.9]);
    combine(&mut records, &work, "ensemble", 18.0, 0.9);
    // Dropout does not vary, the learning rate does; the combined model is in no group.
    let svg = draw(&work, &records);
    assert!(words(&svg).contains("n 9 9 5e-4 1e-3"), "{}", words(&svg));
    assert_eq!(svg, figure("dropout-rates", &work, &records, &by(&["lr"])).unwrap());
    for record in &mut records {
        let name = if record.point.seed == 0 { "stochastic gradient descent" } else { "adam" };
        record.point.parameters.insert("optimizer".to_owned(), Scalar::Text(name.to_owned()));
    }
    let svg = figure("dropout-rates", &work, &records, &by(&["optimizer"])).unwrap();
    assert!(words(&svg).contains("n 12 6 adam"), "{}", words(&svg));
    show("box-names", &svg);
}

#[test]
fn what_does_not_fit_is_one_line() {
    let work = work("PACS");
    let records = sweep(&work, &[0.9]);
    let error = |question: &FigureQuestion| figure("s", &work, &records, question).unwrap_err().to_string();
    assert_eq!(
        error(&by(&["lr", "seed"])),
        "a figure of kind box cannot be drawn --by lr,seed; allowed: one axis"
    );
    assert!(error(&by(&["speed"])).contains("no axis \"speed\""));
    let seeds: Vec<TrialRecord> =
        (0..41).map(|seed| realistic(&work, point("photo", 0.5, 1e-3, seed))).collect();
    let error = figure("s", &work, &seeds, &by(&["seed"])).unwrap_err().to_string();
    assert_eq!(error, "axis seed of sweep s has 41 values; a figure of kind box shows at most 40");
    show("box-forty", &figure("s", &work, &seeds[..40], &by(&["seed"])).unwrap());
}
