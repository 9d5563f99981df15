use super::*;
use crate::combine::Combination;
use crate::combine::{Choice, CombinationKind};
use crate::command::CommandSettings;
use crate::finetune::{Backbone, FinetunePoint};
use crate::finetune::{Settings, SplitBy};
use crate::metrics::Method;
use crate::parameters::{Parameters, Scalar};

pub(crate) fn example() -> TrialSpec {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let dataset = DatasetSpec {
        name: "PACS".into(),
        domains: words("art_painting cartoon photo sketch"),
        classes: words("dog elephant giraffe guitar horse house person"),
        split_by: SplitBy::Image,
    };
    let settings = Settings::reference(dataset, Backbone::EfficientNetLite0);
    let (held_out, lr, weight_decay) = (words("sketch"), 1e-3, 1e-4);
    let point = FinetunePoint {
        held_out,
        dropout: 0.9,
        lr,
        weight_decay,
        head_lr_factor: 1.0,
        seed: 0,
        split_seed: 0,
    };
    TrialSpec { work: Work::Finetune(settings), point: (&point).into(), combination: None }
}

#[test]
fn the_identity_is_pinned() {
    // If this changes, stored results no longer match the trials that a sweep file plans.
    assert_eq!(example().id().to_string(), "14c2b2ccaf82d77d2ecd00acfb58823c");
}

#[test]
fn every_fact_of_a_command_is_in_its_identity() {
    let settings =
        CommandSettings { command: vec!["train".into()], dataset: None, domains: vec![], steps: None };
    let parameters = Parameters::from([("optimiser".to_owned(), Scalar::Text("adam".into()))]);
    let point = Point { held_out: vec![], parameters, seed: 0, split_seed: 0 };
    let first = TrialSpec { work: Work::Command(settings.clone()), point: point.clone(), combination: None };
    let work = |settings| TrialSpec { work: Work::Command(settings), ..first.clone() }.id();
    let with = |change: fn(&mut Point)| {
        let mut changed = first.clone();
        change(&mut changed.point);
        changed.id()
    };
    let ids = std::collections::BTreeSet::from([
        first.id(),
        work(CommandSettings { command: vec!["train".into(), String::new()], ..settings.clone() }),
        work(CommandSettings { dataset: Some("PACS".into()), ..settings.clone() }),
        work(CommandSettings { domains: vec!["photo".into()], ..settings.clone() }),
        work(CommandSettings { steps: Some(1), ..settings }),
        with(|point| point.seed = 1),
        with(|point| point.split_seed = 1),
        with(|point| point.held_out.push("photo".into())),
        with(|point| drop(point.parameters.insert("optimiser".into(), Scalar::Text("sgd".into())))),
        with(|point| drop(point.parameters.insert("lr".into(), Scalar::Number(0.1)))),
    ]);
    assert_eq!(ids.len(), 10);
}

#[test]
fn every_fact_of_a_combination_is_in_its_identity() {
    let member = example().id();
    let (kind, choice, method) = (CombinationKind::Average, Choice::Uniform, Method::Plain);
    let first = Combination { kind, choice, method, members: vec![member] };
    let all = [
        None,
        Some(Combination { kind: CombinationKind::Ensemble, ..first.clone() }),
        Some(Combination { choice: Choice::Greedy, ..first.clone() }),
        Some(Combination { method: Method::Average, ..first.clone() }),
        Some(Combination { members: vec![member, member], ..first.clone() }),
        Some(first),
    ];
    let ids: std::collections::BTreeSet<TrialId> =
        all.into_iter().map(|combination| TrialSpec { combination, ..example() }.id()).collect();
    assert_eq!(ids.len(), 6);
}

#[test]
fn an_id_reads_back_and_bad_ones_are_refused() {
    let id = example().id();
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in ["", "12", "zz", &"é".repeat(16), &"g".repeat(32)] {
        assert!(bad.parse::<TrialId>().is_err(), "{bad}");
    }
}

#[test]
fn a_stored_specification_reads_back_exactly() {
    let mut spec = example();
    for (axis, value) in [("lr", 0.1 + 0.2), ("weight_decay", 5e-324)] {
        spec.point.parameters.insert(axis.into(), Scalar::Number(value));
    }
    let stored = serde_json::to_string(&spec).unwrap();
    let read: TrialSpec = serde_json::from_str(&stored).unwrap();
    assert_eq!(read.id(), spec.id());
    assert_eq!(read, spec);
}
