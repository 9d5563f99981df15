//! Figures, by their data: what is drawn and how often, not which pixels.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sortie_answers::{FigureError, FigureKind, OodSplit, Question, figure, png};
use sortie_core::job::StateName;
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::selection::Selection;
use sortie_core::trial::Work;
use support::{point, record, succeeded, work};

const RATES: [f64; 4] = [0.0, 0.5, 0.9, 0.95];
const LRS: [f64; 3] = [5e-4, 1e-3, 2e-3];

/// 4 rates, 4 domains, 3 learning rates, 2 seeds, all done.
fn sweep(work: &Work) -> Vec<TrialRecord> {
    let mut records = Vec::new();
    for (r, rate) in (0..).zip(RATES) {
        for (d, domain) in (0..).zip(work.domains()) {
            for (l, lr) in (0..).zip(LRS) {
                for seed in 0..2 {
                    let iid = 930 + 8 * r - 3 * r * r + 7 * l - 2 * d * l + 3 * seed;
                    let ood = 620 + 95 * d + 12 * r - 3 * (r % 3) * d + (9 + 4 * d) * l - 5 * l * l + 6 * seed;
                    records.push(succeeded(work, point(domain, rate, lr, seed), iid, ood));
                }
            }
        }
    }
    records
}

fn draw(kind: FigureKind, work: &Work, records: &[TrialRecord]) -> Result<String, FigureError> {
    figure(kind, "demo & <more>", work, records, &Question::default())
}

/// How many elements of a class there are.
fn count(svg: &str, class: &str) -> usize {
    svg.matches(&format!(r#"class="{class}""#)).count()
}

/// How many dots each cloud has.
fn dots(svg: &str) -> Vec<usize> {
    svg.lines().filter(|line| line.contains(r#"class="cloud""#)).map(|line| line.matches('M').count()).collect()
}

/// Writes pictures for people to look at, where `SORTIE_FIGURES` names a folder.
fn show(name: &str, svg: &str) {
    let picture = png(svg, 1.5).unwrap();
    assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n");
    if let Ok(folder) = std::env::var("SORTIE_FIGURES") {
        std::fs::write(format!("{folder}/{name}.png"), picture).unwrap();
    }
}

#[test]
fn rates_draws_a_line_per_domain_and_the_two_means() {
    let work = work("PACS");
    let svg = draw(FigureKind::Rates, &work, &sweep(&work)).unwrap();
    // Four domains and two means at four rates.
    assert_eq!((count(&svg, "curve"), count(&svg, "value"), count(&svg, "error")), (6, 24, 24));
    assert!(svg.contains("demo &amp; &lt;more&gt;") && svg.contains("held-out domain, in split"), "{svg}");
    assert!(svg.contains("averaged over lr, seed; 96 of 96 trials done"), "{svg}");
    assert!(!svg.contains("missing"), "the sweep is complete");
    show("rates", &svg);
}

#[test]
fn a_missing_cell_breaks_its_line_and_the_notes_say_so() {
    let work = work("EmojiStyles");
    let mut records = sweep(&work);
    for record in
        records.iter_mut().filter(|record| record.point.parameters["dropout"] == Scalar::Number(0.5) && record.point.held_out == ["mono"])
    {
        *record = support::record(&work, record.point.clone(), StateName::Diverged);
    }
    let svg = draw(FigureKind::Rates, &work, &records).unwrap();
    // The domain's line and both means lose a value of four, and the one before it stands alone.
    assert_eq!((count(&svg, "curve"), count(&svg, "value")), (6, 21));
    assert!(svg.contains("90 of 96 trials done, 6") && svg.contains("held-out domain, out split"), "{svg}");
    show("rates-missing", &svg);
}

#[test]
fn an_incomplete_value_has_an_open_marker() {
    let work = work("PACS");
    let mut records = sweep(&work);
    records[0].state = StateName::Leased;
    let svg = draw(FigureKind::Rates, &work, &records).unwrap();
    // The domain's and both means' values at the first rate.
    let open = svg.lines().filter(|line| line.contains(r#"class="value""#) && line.contains(r##"fill="#ffffff""##)).count();
    assert_eq!(open, 3);
    assert!(svg.contains("open markers: trials are missing"));
}

#[test]
fn one_rate_and_one_domain_are_a_figure_too() {
    let work = work("PACS");
    let records = [succeeded(&work, point("sketch", 0.9, 1e-3, 0), 950, 800)];
    let svg = draw(FigureKind::Rates, &work, &records).unwrap();
    assert_eq!((count(&svg, "curve"), count(&svg, "value"), count(&svg, "error")), (0, 3, 0));
    show("rates-one", &svg);
    let svg = draw(FigureKind::Scatter, &work, &records).unwrap();
    assert_eq!((dots(&svg), count(&svg, "centre"), count(&svg, "centres")), (vec![1], 1, 0));
    show("scatter-one", &svg);
}

#[test]
fn scatter_draws_every_choice_of_settings_with_hull_and_centre() {
    let work = work("PACS");
    let svg = draw(FigureKind::Scatter, &work, &sweep(&work)).unwrap();
    assert_eq!(dots(&svg), [81; 4], "three settings to the power of four domains, at four rates");
    assert_eq!((count(&svg, "hull"), count(&svg, "centre"), count(&svg, "centres")), (4, 4, 1));
    show("scatter", &svg);
}

#[test]
fn a_picture_shows_text_without_any_font_of_the_machine() {
    let work = work("PACS");
    let svg = draw(FigureKind::Rates, &work, &sweep(&work)).unwrap();
    let without: String = svg.lines().filter(|line| !line.starts_with("<text")).map(|line| format!("{line}\n")).collect();
    assert_ne!(png(&svg, 1.0).unwrap(), png(&without, 1.0).unwrap());
}

#[test]
fn nothing_finished_is_one_line() {
    let work = work("PACS");
    let records = [record(&work, point("sketch", 0.0, 1e-3, 0), StateName::Queued)];
    for &kind in FigureKind::ALL {
        for records in [&records[..], &[]] {
            let error = draw(kind, &work, records).unwrap_err();
            assert_eq!(error.to_string(), "sweep demo & <more> has no finished trial with one held-out domain to draw");
        }
    }
}

#[test]
fn figures_need_rates_of_dropout() {
    let work = work("PACS");
    for rate in [None, Some(Scalar::Text("high".into()))] {
        let mut trial = succeeded(&work, point("photo", 0.5, 1e-3, 0), 950, 900);
        trial.point.parameters.remove("dropout");
        trial.point.parameters.extend(rate.map(|rate| ("dropout".to_owned(), rate)));
        let error = draw(FigureKind::Rates, &work, &[trial]).unwrap_err().to_string();
        assert_eq!(error, "sweep demo & <more> has no axis \"dropout\" whose values are numbers, which a figure of kind rates needs");
    }
}

#[test]
fn scatter_needs_every_domain_at_a_rate() {
    let work = work("PACS");
    let records =
        [succeeded(&work, point("photo", 0.5, 1e-3, 0), 950, 900), record(&work, point("sketch", 0.5, 1e-3, 0), StateName::Queued)];
    assert!(matches!(draw(FigureKind::Scatter, &work, &records), Err(FigureError::NoCompleteRate { .. })));
}

#[test]
fn scatter_refuses_more_points_than_anybody_could_see() {
    let work = work("PACS");
    let mut records = Vec::new();
    for domain in work.domains() {
        for setting in 1..=18 {
            records.push(succeeded(&work, point(domain, 0.5, f64::from(setting) * 1e-4, 0), 950, 900));
        }
    }
    let error = draw(FigureKind::Scatter, &work, &records).unwrap_err().to_string();
    assert_eq!(error, "there are 104976 ways to choose one setting per held-out domain; the figure draws at most 100000 points");
}

#[test]
fn a_picture_of_no_size_is_refused() {
    let work = work("PACS");
    let records = [succeeded(&work, point("sketch", 0.9, 1e-3, 0), 950, 800)];
    let svg = figure(
        FigureKind::Rates,
        "s",
        &work,
        &records,
        &Question { selection: Selection::Last, ood_split: Some(OodSplit::All), ..Question::default() },
    )
    .unwrap();
    for scale in [0.0, -1.0, f32::NAN, 1e9] {
        assert!(matches!(png(&svg, scale), Err(FigureError::Render(_))), "{scale}");
    }
    assert!(matches!(png("no svg", 1.0), Err(FigureError::Render(_))));
}
