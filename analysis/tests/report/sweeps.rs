//! Sweeps as they come out of a lab, with made-up numbers that look like real ones.

use sortie_analysis::{ReportQuestion, ReportSubject, RunFacts};
use sortie_core::finetune::Settings;
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName, TrainingLoss};
use sortie_core::parameters::Scalar;
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{Point, Work};

/// The paper's grid on PACS, three models, two combinations, leave-one-domain-out.
pub const PACS: &str = r#"
name = "pacs-dropout"
select = ["iid", "loo"]
[data]
dataset = "PACS"
[model]
backbone = "resnet50-v2"
[train]
steps = 10000
batch_per_domain = 32
evaluate_every = 2500
average = { from = 300, every = 1 }
ensemble = { from = 300 }
[grid]
dropout = [0.0, 0.5, 0.9, 0.95]
lr = [1e-3, 5e-4]
weight_decay = [1e-4, 5e-5, 1e-5]
held_out = "each"
seeds = 3
[[combine]]
name = "ensemble-across"
kind = "ensemble"
over = ["lr", "weight_decay", "seed"]
members = [3, 18]
[[combine]]
name = "soup"
kind = "average"
over = ["weight_decay", "seed"]
[keep]
weights = "final"
"#;

/// One axis, two models.
pub const SMALL: &str = r#"
name = "small"
[data]
dataset = "PACS"
[model]
backbone = "efficientnet-lite0"
[train]
steps = 1000
evaluate_every = 250
optimizer = "adam"
schedule = "cosine"
average = { from = 300, every = "evaluation" }
[grid]
dropout = [0.0, 0.5, 0.9]
lr = 1e-3
weight_decay = 1e-4
seeds = 2
"#;

/// A command without domains.
pub const COMMAND: &str = r#"
name = "tune"
[run]
command = ["python3", "train.py", "--lr={lr}", "--optimiser={optimiser}", "--seed={seed}"]
steps = 900
[grid]
lr = [1e-4, 1e-3, 1e-2]
optimiser = ["adam", "sgd"]
seeds = 5
"#;

/// One trial.
pub const SINGLE: &str = r#"
name = "one"
[data]
dataset = "VLCS"
[model]
backbone = "resnet18"
[train]
steps = 1000
[grid]
dropout = 0.5
lr = 1e-3
weight_decay = 1e-4
held_out = ["SUN09"]
"#;

/// Names that would be markup, or turn a line around.
pub const NASTY: &str = r#"
name = "a.b-c_d"
[run]
command = ["sh", "-c", "echo '<script>alert(1)</script>' {x} # \"quoted\" & 'more'"]
[data]
dataset = "own"
domains = ["<img src=http:", "\u202Eevil & \"co\"", "a_very_long_domain_name_that_goes_on_and_on_without_any_end_in_sight_at_all"]
[grid]
held_out = "each"
x = ["</td><script>alert(1)</script>", "url(https://example.org/x.png)", "'; DROP TABLE", "=cmd|' /C calc'!A0"]
alpha = [1.0, 2.0]
seeds = 2
"#;

/// Every trial that the sweep plans, done, with numbers that depend on its place only.
pub fn complete(text: &str) -> ReportSubject {
    let spec = SweepSpec::parse(text, None).unwrap();
    let records: Vec<TrialRecord> = spec
        .trials()
        .map(|trial| {
            let mut record = TrialRecord {
                id: trial.hash(),
                point: trial.point,
                state: StateName::Succeeded,
                validation: Vec::new(),
                held_out: Vec::new(),
            };
            evaluate(&spec, &mut record);
            record
        })
        .collect();
    let runs = records.iter().enumerate().map(|(index, record)| (record.id, run(index))).collect();
    let loss = |step: u64, index: usize| TrainingLoss {
        step,
        loss: 2.0 - 0.01 * step as f64 + 0.1 * index as f64,
        seconds: None,
    };
    let losses = |index: usize| (0..=10).map(|tenth| loss(10 * tenth, index)).collect();
    let losses = records.iter().enumerate().map(|(index, record)| (record.id, losses(index))).collect();
    ReportSubject { name: spec.name.clone(), spec, records, runs, losses }
}

/// The same with every so-many-th trial in another state.
pub fn incomplete(text: &str) -> ReportSubject {
    let mut subject = complete(text);
    let states =
        [StateName::Failed, StateName::Diverged, StateName::Queued, StateName::Running, StateName::Cancelled];
    for (index, record) in subject.records.iter_mut().enumerate().filter(|(index, _)| index % 7 == 3) {
        record.state = states[index / 7 % states.len()];
        (record.validation, record.held_out) = (Vec::new(), Vec::new());
    }
    subject
}

pub fn question() -> ReportQuestion {
    ReportQuestion {
        command: "sortie report SWEEP -o report.html".into(),
        software: "Sortie 0.1.0".into(),
        ..ReportQuestion::default()
    }
}

fn run(index: usize) -> RunFacts {
    let device =
        if index.is_multiple_of(5) { "NVIDIA H200 (cuda:0)" } else { "NVIDIA H100 80GB HBM3 (cuda:0)" };
    [
        ("software", "sortie-trainer 0.1.0"),
        ("libtorch", "2.11.0"),
        ("device", device),
        ("threads", "8"),
        ("dataset_digest", "5d0c0a3a2ee6d4d85c4b8e9f7f34e0a1a4f2f9f8f86b6b3f7f2f0b6a1c9d8e7f"),
        ("weights_digest", "11ad3fa6b0a4b86bfb0dd2d5c1a9b7d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1"),
        ("resumed inexactly", if index % 40 == 7 { "yes" } else { "no" }),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A number below `below` that depends on the point and a salt alone.
fn chance(point: &Point, salt: u64, below: u64) -> u64 {
    let text = format!("{point:?}{salt}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 29)) % below
}

fn evaluate(spec: &SweepSpec, record: &mut TrialRecord) {
    let point = record.point.clone();
    let number = |axis: &str| point.parameters.get(axis).and_then(Scalar::as_number).unwrap_or(0.0);
    let combined = spec.combines(&point);
    let last = spec.work.steps().unwrap_or(100);
    let every = if let Work::Finetune(settings) = &spec.work { settings.evaluate_every } else { last / 4 };
    let steps: Vec<u64> =
        if combined { vec![last] } else { (0..last).step_by(every as usize).chain([last]).collect() };
    let told = |settings: &Settings| {
        [
            Some(Method::Plain),
            settings.average.map(|_| Method::Average),
            settings.ensemble.map(|_| Method::Ensemble),
        ]
        .into_iter()
        .flatten()
        .collect()
    };
    let methods = match &spec.work {
        Work::Finetune(settings) if !combined => told(settings),
        _ => vec![Method::Plain],
    };
    let named = spec.work.domains().to_vec();
    let domains = if named.is_empty() { vec!["test".to_owned()] } else { named };
    for (method_index, method) in (0..).zip(methods) {
        for &step in &steps {
            for (d, domain) in (0_u64..).zip(&domains) {
                let progress = (4.0 * step as f64 / last as f64).min(1.0).sqrt();
                let gain = 18.0 * number("dropout") - 6.0 * number("dropout").powi(3);
                for split in [SplitName::In, SplitName::Out] {
                    let noise = chance(
                        &point,
                        step * 31 + d * 7 + method_index + u64::from(split == SplitName::In) * 1_000_003,
                        24,
                    ) as f64;
                    let (base, held_out) = (965.0, point.is_held_out(domain));
                    let value = if held_out { 700.0 + 60.0 * d as f64 + gain } else { base + gain / 4.0 };
                    let value =
                        (value + noise - 12.0 + 4.0 * method_index as f64 + if combined { 9.0 } else { 0.0 })
                            * progress
                            + 100.0 * (1.0 - progress);
                    let score = Score::Counts { n: 1_000, correct: value.clamp(0.0, 1_000.0) as u64 };
                    let row = Evaluation {
                        method,
                        step,
                        domain: domain.clone(),
                        split,
                        score: Some(score),
                        loss: None,
                        metrics: Default::default(),
                        seconds: None,
                    };
                    match (held_out, split) {
                        (true, _) => record.held_out.push(row),
                        (false, SplitName::Out) => record.validation.push(row),
                        (false, SplitName::In) => {}
                    }
                }
            }
        }
    }
}
