//! Where paper, reference code and our own choices differ, each has a name: what the presets take, what a file gets without saying so, and
//! that a trial's identity tells them apart.

use std::collections::HashSet;

use sortie_core::finetune::{BatchNorm, BlockNorm, Finetune, Precision, Settings};
use sortie_core::presets::PRESETS;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Work;

/// A sweep with these lines under `[model]` and `[train]`.
fn text(model: &str, train: &str) -> String {
    format!(
        "name = 's'\n[data]\ndataset = 'PACS'\n[model]\n{model}\n[train]\nsteps = 40\n{train}\n[grid]\ndropout = 0\nlr = 1e-3\nweight_decay = 0\n"
    )
}

fn settings(text: &str) -> Settings {
    match SweepSpec::parse(text, None).unwrap_or_else(|error| panic!("{error}\n{text}")).work {
        Work::Finetune(settings) => settings,
        Work::Command(_) => panic!("a command"),
    }
}

#[test]
fn the_presets_take_what_the_reference_code_does() {
    for preset in PRESETS {
        let Settings { precision, block_norm, batch_norm, .. } = settings(&preset.text(None));
        let expected = (Precision::Reference, BlockNorm::None, BatchNorm::Frozen);
        assert_eq!((precision, block_norm, batch_norm), expected, "{}", preset.name);
    }
    for example in
        [include_str!("../../examples/quickstart.toml"), include_str!("../../examples/linear-pacs.toml")]
    {
        assert_eq!(settings(example).block_norm, BlockNorm::Batch);
    }
}

#[test]
fn a_file_that_says_nothing_gets_what_fits() {
    for (model, finetune, block_norm, batch_norm) in [
        ("backbone = 'resnet50-v2'", Finetune::Full, BlockNorm::None, BatchNorm::Frozen),
        (
            "backbone = 'resnet50-v2'\nfinetune = 'linear'",
            Finetune::Linear,
            BlockNorm::None,
            BatchNorm::Frozen,
        ),
        (
            "backbone = 'resnet50-v2'\nfinetune = 'scratch'",
            Finetune::Scratch,
            BlockNorm::None,
            BatchNorm::Live,
        ),
        (
            "backbone = 'vit-b-16'\nfinetune = 'scratch'",
            Finetune::Scratch,
            BlockNorm::None,
            BatchNorm::Frozen,
        ),
    ] {
        let found = settings(&text(model, ""));
        assert_eq!(
            (found.finetune, found.block_norm, found.batch_norm),
            (finetune, block_norm, batch_norm),
            "{model}"
        );
        assert_eq!(found.precision, Precision::Fp32);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_is_allowed() {
    let scratch = "backbone = 'resnet50-v2'\nfinetune = 'scratch'";
    for (model, train, message) in [
        ("backbone = 'resnet50-v2'\nblock_norm = 'batch'", "", "model.block_norm = \"batch\" is not allowed"),
        ("backbone = 'resnet50-v2'\nblock_norm = 'layer'", "", "none, batch"),
        ("backbone = 'resnet50-v2'\nbatch_norm = 'live'", "", "model.finetune is full"),
        (
            "backbone = 'resnet50-v2'\nfinetune = 'linear'\nbatch_norm = 'live'",
            "",
            "model.finetune is linear",
        ),
        ("backbone = 'vit-b-16'\nfinetune = 'scratch'\nbatch_norm = 'live'", "", "has no BatchNorm layers"),
        ("backbone = 'resnet50-v2'", "precision = 'tf16'", "fp32, reference, tf32, bf16"),
        (scratch, "average = { from = 3 }", "model.batch_norm = \"frozen\""),
        (scratch, "micro_batch = 8", "train.micro_batch is not allowed here"),
        (
            "backbone = 'resnet50-v2'\nfinetune = 'linear'\nblock_norm = 'batch'",
            "micro_batch = 'auto'",
            "train.micro_batch is not allowed here",
        ),
        ("backbone = 'resnet50-v2'", "micro_batch = 0", "1 to 65536, or \"auto\""),
        ("backbone = 'resnet50-v2'", "micro_batch = 1.5", "1 to 65536, or \"auto\""),
        ("backbone = 'resnet50-v2'", "micro_batch = 'all'", "1 to 65536, or \"auto\""),
    ] {
        let error = SweepSpec::parse(&text(model, train), None).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{model} {train}: {error}");
    }
    let frozen = settings(&text(&format!("{scratch}\nbatch_norm = 'frozen'"), "average = { from = 3 }"));
    assert!(frozen.average.is_some() && frozen.batch_norm == BatchNorm::Frozen);
}

#[test]
fn averages_across_trials_are_refused_where_statistics_are_live_only() {
    let average = "[[combine]]\nname = 'soup'\nkind = 'average'\nover = 'seed'\n";
    let with = |model: &str| SweepSpec::parse(&(text(model, "") + "seeds = 2\n" + average), None);
    let scratch = "backbone = 'resnet50-v2'\nfinetune = 'scratch'";
    let error = with(scratch).unwrap_err().to_string();
    assert!(error.contains("live BatchNorm") && error.contains("frozen"), "{error}");
    for model in
        [&format!("{scratch}\nbatch_norm = 'frozen'"), "backbone = 'mnist-cnn'\nfinetune = 'scratch'"]
    {
        assert_eq!(with(model).unwrap().combine.len(), 1, "{model}");
    }
}

#[test]
fn every_choice_is_another_trial() {
    let linear = "backbone = 'resnet50-v2'\nfinetune = 'linear'";
    let scratch = "backbone = 'resnet50-v2'\nfinetune = 'scratch'";
    let texts = [
        text(linear, ""),
        text(&format!("{linear}\nblock_norm = 'batch'"), ""),
        text(scratch, ""),
        text(&format!("{scratch}\nbatch_norm = 'frozen'"), ""),
        text(scratch, "precision = 'reference'"),
        text(scratch, "precision = 'tf32'"),
        text(linear, "micro_batch = 8"),
        text(linear, "micro_batch = 9"),
        text(linear, "micro_batch = 'auto'"),
    ];
    let ids: HashSet<_> = texts
        .iter()
        .map(|text| SweepSpec::parse(text, None).unwrap().trials().next().unwrap().hash())
        .collect();
    assert_eq!(ids.len(), texts.len());
}
