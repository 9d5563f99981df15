//! What figures are looked at with: counts of their elements, pictures for people, and accuracies like those of real sweeps.

use sortie_analysis::{pdf, png};
use sortie_core::combine::{COMBINE, MEMBERS};
use sortie_core::command::CommandSettings;
use sortie_core::metrics::{Evaluation, Method, Score};
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::trial::{Point, Work};

use super::support::{point, succeeded};

/// How many elements of a class there are.
pub fn count(svg: &str, class: &str) -> usize {
    svg.matches(&format!(r#"class="{class}""#)).count()
}

/// How many dots each group has.
pub fn dots(svg: &str) -> Vec<usize> {
    svg.lines()
        .filter(|line| line.contains(r#"class="points""#))
        .map(|line| line.matches('M').count())
        .collect()
}

/// All texts of a figure in one line, whatever lines they were broken into.
pub fn words(svg: &str) -> String {
    let texts = svg.lines().filter(|line| line.starts_with("<text"));
    texts.filter_map(|line| line.split(['<', '>']).nth(2)).collect::<Vec<_>>().join(" ")
}

/// Writes pictures for people to look at, in colour and as a black-and-white printer shows them, where `SORTIE_FIGURES` names a folder.
pub fn show(name: &str, svg: &str) {
    if let Ok(folder) = std::env::var("SORTIE_FIGURES") {
        std::fs::write(format!("{folder}/{name}-grey.png"), png(&grey(svg), 2.0 / 1.5, Vec::new()).unwrap())
            .unwrap();
        std::fs::write(format!("{folder}/{name}.png"), png(svg, 2.0 / 1.5, Vec::new()).unwrap()).unwrap();
        std::fs::write(format!("{folder}/{name}.svg"), svg).unwrap();
        std::fs::write(format!("{folder}/{name}.pdf"), pdf(svg, Vec::new()).unwrap()).unwrap();
    }
}

/// The figure with every colour replaced by a grey of the same luma.
fn grey(svg: &str) -> String {
    let mut parts = svg.split("=\"#");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let value = |at: usize| f64::from(u8::from_str_radix(&part[at..at + 2], 16).unwrap());
        let luma = (0.299 * value(0) + 0.587 * value(2) + 0.114 * value(4)).round() as u8;
        text.push_str(&format!("=\"#{luma:02x}{luma:02x}{luma:02x}{}", &part[6..]));
    }
    text
}

const SETTINGS: [(f64, f64); 6] =
    [(1e-3, 1e-4), (1e-3, 5e-5), (1e-3, 1e-5), (5e-4, 1e-4), (5e-4, 5e-5), (5e-4, 1e-5)];

/// All settings and three seeds at these rates, done.
pub fn sweep(work: &Work, rates: &[f64]) -> Vec<TrialRecord> {
    let mut records = Vec::new();
    for &rate in rates {
        for domain in work.domains() {
            for (lr, weight_decay) in SETTINGS {
                for seed in 0..3 {
                    let mut point = point(domain, rate, lr, seed);
                    point.parameters.insert("weight_decay".to_owned(), Scalar::Number(weight_decay.into()));
                    records.push(realistic(work, point));
                }
            }
        }
    }
    records
}

/// Adds a model that combines some number of trials at a rate, for each held-out domain.
pub fn combine(records: &mut Vec<TrialRecord>, work: &Work, name: &str, members: f64, rate: f64) {
    for domain in work.domains() {
        // Members take the place of the learning rate, so that the accuracies differ.
        let mut record = realistic(work, point(domain, rate, members + name.len() as f64, 0));
        record.point.parameters.retain(|name, _| name == "dropout");
        record.point.parameters.insert(COMBINE.to_owned(), Scalar::Text(name.to_owned()));
        record.point.parameters.insert(MEMBERS.to_owned(), Scalar::Number(members.into()));
        records.push(record);
    }
}

/// Six domains whose names have no room anywhere.
pub fn long_names() -> Work {
    let names = [
        "aerial photographs of rural areas taken in winter",
        "b",
        "camera traps (location 38, night)",
        "drawings",
        "e_2",
        "frames",
    ];
    let domains = names.iter().map(|name| format!("{name} {}", "long ".repeat(9))).collect();
    Work::Command(CommandSettings {
        command: vec!["true".to_owned()],
        dataset: None,
        domains,
        steps: None,
        complete_at: None,
    })
}

/// A succeeded trial with all three models. Domains differ by tens of points, dropout rates and models by about one, settings and seeds
/// by some tenths.
pub fn realistic(work: &Work, point: Point) -> TrialRecord {
    let number = |name: &str| point.parameters.get(name).and_then(Scalar::as_number).unwrap_or_default();
    let (rate, lr, weight_decay) = (number("dropout"), number("lr"), number("weight_decay"));
    let held_out = point.held_out_label();
    let setting = format!("{held_out} {lr} {weight_decay}");
    let ease = 180.0 * noise(&held_out);
    let ood = 720.0 + ease + 26.0 * rate - 12.0 * rate.powi(8)
        + 22.0 * noise(&setting)
        + 14.0 * noise(&format!("{setting} {rate} {}", point.seed));
    let iid = 952.0 - 4.0 * (rate - 0.6).powi(2) - 9.0 * rate.powi(8)
        + 5.0 * noise(&format!("i {setting}"))
        + 4.0 * noise(&format!("i {setting} {rate} {}", point.seed));
    let mut record = succeeded(work, point, iid.round() as u64, ood.round() as u64);
    for (method, iid, ood) in [(Method::Average, 2.0, 7.0), (Method::Ensemble, 6.0, 9.0)] {
        let better = |rows: &[Evaluation], more: f64| -> Vec<Evaluation> {
            let plain = rows.iter().filter(|row| row.method == Method::Plain);
            let score = |row: &Evaluation| Score::Value {
                value: row.accuracy().unwrap()
                    + more / 1_000.0
                    + 0.002 * noise(&format!("{setting} {method}")),
                n: 1_000,
            };
            plain.map(|row| Evaluation { method, score: Some(score(row)), ..row.clone() }).collect()
        };
        let (validation, held_out) = (better(&record.validation, iid), better(&record.held_out, ood));
        record.validation.extend(validation);
        record.held_out.extend(held_out);
    }
    record
}

/// A number from -1 to 1 that depends on these words and on nothing else: FNV-1a, mixed once more.
fn noise(words: &str) -> f64 {
    let mut hash = words.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    (hash >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}
