//! Heat maps: what is drawn, and pictures for people to look at.

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
        ..FigureQuestion::of(FigureKind::Grid)
    }
}

fn draw(work: &Work, records: &[TrialRecord], axes: &[&str]) -> String {
    figure("dropout-rates", work, records, &by(axes)).unwrap()
}

#[test]
fn the_two_longest_axes_make_a_grid_per_domain_and_one_for_the_mean() {
    let work = work("PACS");
    let mut records = sweep(&work, &[0.0, 0.5, 0.9, 0.95]);
    let svg = draw(&work, &records, &[]);
    // Four rates and three weight decays, for four domains and the mean, each with a best cell; in two of them another one looks equal.
    assert_eq!((count(&svg, "cell"), count(&svg, "best")), (60, 7));
    assert_eq!(svg, draw(&work, &records, &["dropout", "weight_decay"]));
    let text = words(&svg);
    assert!(
        text.contains("averaged over lr, seed")
            && text.contains("black frame: best")
            && !text.contains("planned"),
        "{text}"
    );
    show("grid", &svg);
    combine(&mut records, &work, "ensemble", 18.0, 0.5);
    assert_eq!(svg, draw(&work, &records, &[]), "a combined model is in no cell");
    show("grid-lr", &draw(&work, &sweep(&work, &[0.9]), &["lr", "weight_decay"]));
}

#[test]
fn an_incomplete_panel_has_no_best_cell() {
    let work = work("PACS");
    let mut records = sweep(&work, &[0.0, 0.5, 0.9]);
    for trial in &mut records {
        let photo = trial.point.held_out == ["photo"];
        let at = |rate: f64| trial.point.parameters["dropout"] == Scalar::Number(rate.into());
        let missing = photo
            && (at(0.5) && trial.point.seed == 1
                || at(0.9) && trial.point.parameters["weight_decay"] == Scalar::Number(1e-4.into()));
        if missing {
            *trial = record(&work, trial.point.clone(), StateName::Queued);
        }
    }
    let svg = draw(&work, &records, &[]);
    // Three domains are complete; photo is not, and so neither is the mean.
    assert_eq!((count(&svg, "cell"), count(&svg, "best")), (45, 3));
    let text = words(&svg);
    assert!(
        text.contains("4/6")
            && text.contains("– 0/6")
            && text.contains("done/planned where some are missing"),
        "{text}"
    );
    show("grid-incomplete", &svg);
}

#[test]
fn many_values_and_long_names_have_room() {
    let work = long_names();
    let rates: Vec<f64> = (0..12).map(|rate| f64::from(rate) * 0.08).collect();
    let mut records = sweep(&work, &rates);
    records.iter_mut().step_by(7).for_each(|record| record.state = StateName::Running);
    show("grid-extreme", &draw(&work, &records, &["dropout", "lr"]));
    let svg = draw(&work, &records, &["weight_decay", "dropout"]);
    assert_eq!(count(&svg, "cell"), 7 * 36);
    show("grid-wide", &svg);
    let mut records: Vec<TrialRecord> = Vec::new();
    for (rate, seed) in (0..30).flat_map(|rate| (0..5).map(move |seed| (rate, seed))) {
        records.push(realistic(&work, point(&work.domains()[0], f64::from(rate) / 32.0, 1e-3, seed)));
    }
    records[7].state = StateName::Diverged;
    let svg = draw(&work, &records, &["seed", "dropout"]);
    assert!(words(&svg).contains("no room for numbers") && count(&svg, "missing") == 2, "{}", words(&svg));
    show("grid-thirty", &svg);
}

#[test]
fn what_does_not_fit_is_one_line() {
    let work = work("PACS");
    let records =
        [realistic(&work, point("photo", 0.5, 1e-3, 0)), realistic(&work, point("photo", 0.5, 1e-3, 1))];
    let error = |axes: &[&str]| figure("s", &work, &records, &by(axes)).unwrap_err().to_string();
    for axes in [&["lr"][..], &["lr", "lr"], &["lr", "seed", "dropout"]] {
        assert_eq!(
            error(axes),
            format!(
                "a figure of kind grid cannot be drawn --by {}; allowed: two different axes",
                axes.join(",")
            )
        );
    }
    let fewer = "sweep s varies fewer than two parameters, so --by must name the two axes of a grid; allowed: dropout, ";
    assert!(
        error(&[]).starts_with(fewer) && error(&[]).ends_with("weight_decay, head_lr_factor, seed, split"),
        "{}",
        error(&[])
    );
    assert_eq!(count(&draw(&work, &records, &["seed", "lr"]), "cell"), 4);
}
