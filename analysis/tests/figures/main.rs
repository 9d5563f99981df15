//! Figures, by their data: what is drawn and how often, not which pixels.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;
mod grid;
mod joint;
mod papers;
mod pictures;
mod scatter;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use pictures::{count, dots, show};
use sortie_analysis::{
    Axis, FigureError, FigureKind, FigureQuestion, OodSplit, covered, figure, png, uncovered,
};
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
                    let ood =
                        620 + 95 * d + 12 * r - 3 * (r % 3) * d + (9 + 4 * d) * l - 5 * l * l + 6 * seed;
                    records.push(succeeded(work, point(domain, rate, lr, seed), iid, ood));
                }
            }
        }
    }
    records
}

fn draw(kind: FigureKind, work: &Work, records: &[TrialRecord]) -> Result<String, FigureError> {
    figure("demo & <more>", work, records, &FigureQuestion::of(kind))
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
    for record in records.iter_mut().filter(|record| {
        record.point.parameters["dropout"] == Scalar::Number(0.5.into()) && record.point.held_out == ["mono"]
    }) {
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
    records[0].state = StateName::Running;
    let svg = draw(FigureKind::Rates, &work, &records).unwrap();
    // The domain's and both means' values at the first rate.
    let open = svg
        .lines()
        .filter(|line| line.contains(r#"class="value""#) && line.contains(r##"fill="#ffffff""##))
        .count();
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
    let without: String =
        svg.lines().filter(|line| !line.starts_with("<text")).map(|line| format!("{line}\n")).collect();
    assert_ne!(png(&svg, 1.0, Vec::new()).unwrap(), png(&without, 1.0, Vec::new()).unwrap());
}

/// The embedded font as the file of another one, whose last characters are Chinese: the codes of the last group of its table of characters
/// are moved. It is found by its bytes.
fn chinese_font() -> Vec<u8> {
    let mut font = dejavu::sans::regular().to_vec();
    let number = |font: &[u8], at: usize| u32::from_be_bytes(font[at..at + 4].try_into().unwrap());
    let tables = u16::from_be_bytes(font[4..6].try_into().unwrap());
    let entry = (0..usize::from(tables)).map(|table| 12 + 16 * table);
    let entry = entry.into_iter().find(|&at| &font[at..at + 4] == b"cmap").unwrap();
    let table = number(&font, entry + 8) as usize;
    let subtables = u16::from_be_bytes(font[table + 2..table + 4].try_into().unwrap());
    let subtables =
        (0..usize::from(subtables)).map(|one| table + number(&font, table + 4 + 8 * one + 4) as usize);
    // Format 12: groups of a first code, a last code and a glyph.
    let long = subtables.into_iter().find(|&at| font[at..at + 2] == [0, 12]).unwrap();
    let group = long + 16 + 12 * (number(&font, long + 12) as usize - 1);
    let codes = number(&font, group + 4) - number(&font, group);
    font[group..group + 4].copy_from_slice(&0x2_0000_u32.to_be_bytes());
    font[group + 4..group + 8].copy_from_slice(&(0x2_0000 + codes).to_be_bytes());
    font
}

#[test]
fn characters_that_the_embedded_font_lacks_come_from_other_fonts() {
    let svg = |name: &str| {
        draw(FigureKind::Rates, &work("PACS"), &sweep(&work("PACS"))).unwrap().replace("sketch", name)
    };
    assert!(uncovered(&svg("esquisse à l'encre, тушь ± …, ink\u{fe0f}\u{200d}")).is_empty());
    let (chinese, wanted) = (svg("\u{20000}"), BTreeSet::from(['\u{20000}']));
    assert_eq!(uncovered(&chinese), wanted);
    assert_eq!(covered(&chinese_font(), &wanted), wanted);
    assert!(covered(dejavu::sans::regular(), &wanted).is_empty() && covered(b"no font", &wanted).is_empty());
    let pixels = |svg: &str, fonts| png(svg, 1.0, fonts).unwrap();
    assert_ne!(pixels(&chinese, Vec::new()), pixels(&chinese, vec![chinese_font()]));
    // Where the embedded font has everything, no other one is used.
    assert_eq!(pixels(&svg("encre"), Vec::new()), pixels(&svg("encre"), vec![chinese_font()]));
}

#[test]
fn nothing_finished_is_one_line() {
    let work = work("PACS");
    let records = [record(&work, point("sketch", 0.0, 1e-3, 0), StateName::Queued)];
    for &kind in FigureKind::ALL {
        for records in [&records[..], &[]] {
            let error = draw(kind, &work, records).unwrap_err();
            assert_eq!(
                error.to_string(),
                "sweep demo & <more> has no finished trial with one held-out domain to draw"
            );
        }
    }
}

#[test]
fn rates_need_an_axis_of_numbers() {
    let work = work("PACS");
    let mut trial = succeeded(&work, point("photo", 0.5, 1e-3, 0), 950, 900);
    trial.point.parameters.insert("optimiser".to_owned(), Scalar::Text("sgd".into()));
    let by = |axes: &[&str]| FigureQuestion {
        by: axes.iter().map(|axis| Axis::from(*axis)).collect(),
        ..FigureQuestion::of(FigureKind::Rates)
    };
    let error = |question: &FigureQuestion, trial: &TrialRecord| {
        figure("s", &work, std::slice::from_ref(trial), question).unwrap_err().to_string()
    };
    assert_eq!(
        error(&by(&["optimiser"]), &trial),
        "--by optimiser: not every trial of sweep s has a number on this axis, which a figure of kind rates needs for x; allowed: \
         dropout, lr, weight_decay, head_lr_factor, seed, split"
    );
    assert_eq!(
        error(&by(&["lr", "lr"]), &trial),
        "a figure of kind rates cannot be drawn --by lr,lr; allowed: an axis for x, and different ones, which tell settings apart"
    );
    trial.point.parameters.retain(|name, _| name == "optimiser");
    assert_eq!(
        error(&by(&[]), &trial),
        "sweep s has no axis whose values are numbers, which a figure of kind rates needs for x"
    );
}

#[test]
fn scatter_needs_every_domain_at_a_rate() {
    let work = work("PACS");
    let records = [
        succeeded(&work, point("photo", 0.5, 1e-3, 0), 950, 900),
        record(&work, point("sketch", 0.5, 1e-3, 0), StateName::Queued),
    ];
    assert!(matches!(draw(FigureKind::Scatter, &work, &records), Err(FigureError::NoCompleteSetting { .. })));
}

#[test]
fn a_picture_of_no_size_is_refused() {
    let work = work("PACS");
    let records = [succeeded(&work, point("sketch", 0.9, 1e-3, 0), 950, 800)];
    let question = FigureQuestion {
        selection: Selection::Last,
        ood_split: Some(OodSplit::All),
        ..FigureQuestion::of(FigureKind::Rates)
    };
    let svg = figure("s", &work, &records, &question).unwrap();
    for scale in [0.0, -1.0, f32::NAN, 1e9] {
        assert!(matches!(png(&svg, scale, Vec::new()), Err(FigureError::Render(_))), "{scale}");
    }
    assert!(matches!(png("no svg", 1.0, Vec::new()), Err(FigureError::Render(_))));
}
