//! Sweeps made by hand: no store, no worker.

use sortie_core::catalogue;
use sortie_core::finetune::{Backbone, FinetunePoint, Settings};
use sortie_core::job::StateName;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::record::TrialRecord;
use sortie_core::trial::{Point, TrialSpec, Work};

/// Fine-tuning on a dataset of the catalogue.
pub fn work(dataset: &str) -> Work {
    let settings = Settings::reference(catalogue::find(dataset).unwrap(), Backbone::EfficientNetLite0);
    Work::Finetune(Settings { steps: 20, evaluate_every: 10, milestones: Vec::new(), ..settings })
}

/// A place in the grid; what is not given is fixed.
pub fn point(held_out: &str, dropout: f64, lr: f64, seed: u64) -> Point {
    let held_out = held_out.split('+').map(str::to_owned).collect();
    (&FinetunePoint { held_out, dropout, lr, weight_decay: 1e-4, head_lr_factor: 1.0, seed, split_seed: 0 })
        .into()
}

/// A trial without results.
pub fn record(work: &Work, point: Point, state: StateName) -> TrialRecord {
    let spec = TrialSpec { work: work.clone(), point, combination: None };
    TrialRecord { id: spec.hash(), point: spec.point, state, validation: Vec::new(), held_out: Vec::new() }
}

/// One evaluation of the weights as they stand.
pub fn evaluation(step: u64, domain: &str, split: SplitName, correct: u64, n: u64) -> Evaluation {
    Evaluation {
        method: Method::Plain,
        step,
        domain: domain.to_owned(),
        split,
        score: Some(Score::Counts { n, correct }),
        loss: Some(1.0),
        metrics: Default::default(),
        seconds: None,
    }
}

/// A succeeded trial with one step: `iid` of 1,000 right on every training domain, `ood` of 1,000 on both splits of the held-out one.
pub fn succeeded(work: &Work, point: Point, iid: u64, ood: u64) -> TrialRecord {
    let mut record = record(work, point, StateName::Succeeded);
    for domain in work.domains() {
        let held_out = record.point.held_out.contains(domain);
        for split in [SplitName::In, SplitName::Out] {
            if held_out {
                record.held_out.push(evaluation(20, domain, split, ood, 1_000));
            } else {
                record.validation.push(evaluation(20, domain, split, iid, 1_000));
            }
        }
    }
    record
}
