use super::*;
use crate::finetune::{Backbone, FinetunePoint, Settings};
use crate::parameters::Scalar;

pub(crate) fn example() -> TrialSpec {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let dataset = DatasetSpec {
        name: "PACS".into(),
        domains: words("art_painting cartoon photo sketch"),
        classes: words("dog elephant giraffe guitar horse house person"),
        split_by: SplitBy::Image,
        layout: Layout::default(),
        missing_classes: MissingClasses::default(),
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
fn an_id_reads_back_and_bad_ones_are_refused() {
    let id = example().hash();
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in ["", "12", "zz", &"é".repeat(16), &"g".repeat(32)] {
        assert!(bad.parse::<SpecHash>().is_err(), "{bad}");
    }
}

#[test]
fn a_stored_specification_reads_back_exactly() {
    let mut spec = example();
    for (axis, value) in [("lr", 0.1 + 0.2), ("weight_decay", 5e-324)] {
        spec.point.parameters.insert(axis.into(), Scalar::Number(value.into()));
    }
    let stored = serde_json::to_string(&spec).unwrap();
    let read: TrialSpec = serde_json::from_str(&stored).unwrap();
    assert_eq!(read.hash(), spec.hash());
    assert_eq!(read, spec);
}
