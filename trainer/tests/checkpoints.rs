//! Weights out of other tools' checkpoints: whatever stands before the tensors' names and beside them, they are found, and nothing is run.

#![expect(
    clippy::unwrap_used,
    reason = "only tests call the functions between them, and clippy.toml excuses only those"
)]

#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "common/fixtures.rs"]
mod common;
#[path = "common/pickler.rs"]
mod pickler;
#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "common/process.rs"]
mod process;
#[path = "common/tiny.rs"]
mod tiny;

use std::path::Path;
use std::process::Command;

use pickler::{Py, archive, dict, global, ordered, stream};
use process::Interruption;
use sortie_core::finetune::{Backbone, BatchNorm, Precision};
use sortie_core::job::Outcome;
use sortie_trainer::model::{self, FetchRequest, Fetched, LoadRequest, NamedTensor};
use tch::{Device, Kind, Tensor};

const BACKBONE: Backbone = Backbone::MnistCnn;

fn request<'a>(cache: &'a Path, weights: &'a str) -> LoadRequest<'a> {
    LoadRequest {
        cache,
        backbone: BACKBONE,
        weights,
        seed: 7,
        device: Device::Cpu,
        precision: Precision::Fp32,
        batch_norm: BatchNorm::Frozen,
    }
}

/// The tensors of DomainBed's network for digits.
fn network() -> Vec<NamedTensor> {
    let fresh = model::load(&request("nowhere".as_ref(), "")).unwrap().backbone;
    let detached = fresh.parameters().into_iter();
    detached.map(|NamedTensor { name, tensor }| NamedTensor { name, tensor: tensor.detach() }).collect()
}

/// The state dictionary of that network with something before each name.
fn cnn(prefix: &str) -> Py {
    ordered(
        network()
            .into_iter()
            .map(|named| (format!("{prefix}{}", named.name), Py::Tensor(named.tensor)))
            .collect(),
    )
}

fn number(value: f64) -> Py {
    Tensor::from(value).into()
}

/// The state of an optimiser: dictionaries with numbers as keys, and tensors.
fn optimiser() -> Py {
    let state = dict([
        ("momentum_buffer", Tensor::zeros([3], (Kind::Float, Device::Cpu)).into()),
        ("step", number(5.0)),
    ]);
    let group = dict([
        ("lr", 0.1.into()),
        ("betas", Py::Tuple(vec![0.9.into(), 0.999.into()])),
        ("foreach", Py::None),
        ("params", Py::List(vec![0.into()])),
    ]);
    dict([("state", Py::Dict(vec![(0.into(), state)])), ("param_groups", Py::List(vec![group]))])
}

fn namespace(state: Py) -> Py {
    Py::New(global("argparse", "Namespace"), Vec::new(), Box::new(state))
}

/// A module that was saved whole.
fn module(class: &'static str, parameters: Vec<(String, Py)>, modules: Vec<(String, Py)>) -> Py {
    let state = dict([
        ("training", 1.into()),
        ("_parameters", ordered(parameters)),
        ("_buffers", ordered(vec![("mask".into(), number(1.0))])),
        ("_non_persistent_buffers_set", Py::Set(vec!["mask".into()])),
        ("_forward_hooks", ordered(Vec::new())),
        ("_modules", ordered(modules)),
    ]);
    Py::New(global("__main__", class), Vec::new(), Box::new(state))
}

fn whole_network() -> Py {
    let layers = network().into_iter().map(|named| {
        let (layer, part) = named.name.split_once('.').unwrap();
        (layer.to_owned(), part.to_owned(), Py::Tensor(named.tensor))
    });
    let mut modules: Vec<(String, Vec<(String, Py)>)> = Vec::new();
    for (layer, part, tensor) in layers {
        if modules.last().is_none_or(|(last, _)| *last != layer) {
            modules.push((layer, Vec::new()));
        }
        modules.last_mut().unwrap().1.push((part, tensor));
    }
    let modules =
        modules.into_iter().map(|(name, parts)| (name, module("Layer", parts, Vec::new()))).collect();
    module("DataParallel", Vec::new(), vec![("module".into(), module("Net", Vec::new(), modules))])
}

/// Stages a file, and checks that the network is then the one that was saved.
fn staged(cache: &Path, file: &str, bytes: &[u8], tolerance: f64) -> Result<Fetched, String> {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join(file);
    std::fs::write(&path, bytes).unwrap();
    let name = file.split('.').next().unwrap();
    let from = Some(path.to_str().unwrap());
    let wanted = FetchRequest { cache, backbone: BACKBONE, from, sha256: None, name: Some(name) };
    let fetched = model::fetch(&wanted, &mut |_, _| ()).map_err(|error| error.to_string())?;
    let loaded = model::load(&request(cache, name)).unwrap();
    assert_eq!(loaded.weights_digest.len(), 64);
    for (read, saved) in loaded.backbone.parameters().iter().zip(network()) {
        assert_eq!(read.name, saved.name);
        let difference = (&read.tensor - &saved.tensor).abs().max().double_value(&[]);
        assert!(difference <= tolerance, "{file}: {}: {difference}", read.name);
    }
    Ok(fetched)
}

/// Files, what was saved in them, and what is said of each.
type Cases = Vec<(&'static str, Py, &'static str)>;

fn prefixes() -> Cases {
    vec![
        ("plain.pth", cnn(""), "16 tensors, no prefix"),
        ("dataparallel.pth.tar", cnn("module."), "16 tensors, prefix \"module.\""),
        ("compiled.pt", cnn("_orig_mod."), "16 tensors, prefix \"_orig_mod.\""),
        ("lightning.ckpt", cnn("model."), "16 tensors, prefix \"model.\""),
        ("twice.pth", cnn("module.module."), "16 tensors, prefix \"module.module.\""),
        ("all.bin", cnn("_orig_mod.module.backbone."), "16 tensors, prefix \"_orig_mod.module.backbone.\""),
        ("whole.pth", whole_network(), "16 tensors, prefix \"module.\""),
        ("pair.pth", Py::Tuple(vec![cnn(""), 3.into()]), "16 tensors, prefix \"0.\""),
    ]
}

fn nests() -> Cases {
    let imagenet = dict([
        ("epoch", 90.into()),
        ("arch", "resnet50".into()),
        ("state_dict", cnn("module.")),
        ("best_acc1", number(76.1)),
        ("optimizer", optimiser()),
    ]);
    let counter =
        Py::Call(global("collections", "Counter"), vec![Py::Dict(vec![(30.into(), 1.into())])], Vec::new());
    let reference = dict([
        ("model", cnn("")),
        ("optimizer", optimiser()),
        ("lr_scheduler", dict([("milestones", counter)])),
        ("args", namespace(dict([("lr", 0.1.into()), ("output_dir", ".".into())]))),
    ]);
    let domainbed = dict([
        ("args", dict([("algorithm", "ERM".into())])),
        ("model_input_shape", Py::Tuple(vec![3.into(), 28.into(), 28.into()])),
        ("model_dict", cnn("featurizer.")),
    ]);
    let two = "16 tensors, prefix \"state_dict.\"; other tensors in the file, not read: 16; also complete, not read: prefix \"state_dict_ema.\"";
    vec![
        (
            "imagenet.pth.tar",
            imagenet,
            "16 tensors, prefix \"state_dict.module.\"; other tensors in the file, not read: 3",
        ),
        ("reference.pth", reference, "16 tensors, prefix \"model.\"; other tensors in the file, not read: 2"),
        (
            "net.pth",
            dict([("net", cnn("module.")), ("acc", 95.1.into())]),
            "16 tensors, prefix \"net.module.\"",
        ),
        ("msd.pth", dict([("model_state_dict", cnn(""))]), "16 tensors, prefix \"model_state_dict.\""),
        ("domainbed.pkl", domainbed, "16 tensors, prefix \"model_dict.featurizer.\""),
        ("both.pth", dict([("state_dict", cnn("")), ("state_dict_ema", cnn(""))]), two),
    ]
}

/// Values of classes that nobody here knows, beside the tensors.
fn classes() -> Cases {
    let object = |module, class, state| Py::New(global(module, class), Vec::new(), Box::new(state));
    let call = |module, function, arguments| Py::Call(global(module, function), arguments, Vec::new());
    let number_of_numpy = call(
        "numpy.core.multiarray",
        "scalar",
        vec![call("numpy", "dtype", vec!["f8".into()]), Py::Bytes(vec![0; 8])],
    );
    let kind_of_dict = Py::Call(
        global("collections", "defaultdict"),
        vec![*global("__builtin__", "list")],
        vec![("loss".into(), Py::List(vec![0.5.into()]))],
    );
    let attributes =
        Py::New(global("yacs.config", "CfgNode"), vec![("lr".into(), 0.1.into())], Box::new(dict([])));
    let beside = [
        ("set.pth", Py::Set(vec!["a".into(), "üüüüüüüüüü".into()])),
        ("numpy.pth", number_of_numpy),
        ("omegaconf.pth", object("omegaconf.dictconfig", "DictConfig", dict([("_content", dict([]))]))),
        ("defaultdict.pth", kind_of_dict),
        ("yacs.pth", attributes),
        ("average.pth", object("ema", "Average", dict([("shadow", cnn(""))]))),
        ("namespace.pth", namespace(dict([("weight", number(1.0))]))),
        ("sparse.pth", call("torch._utils", "_rebuild_sparse_tensor", vec![number(1.0)])),
        ("device.pth", call("torch", "device", vec!["cuda".into(), 0.into()])),
        ("endless.pth", Py::List(vec![1.into(), Py::Itself, Py::Itself])),
    ];
    let said = "16 tensors, prefix \"state_dict_ema.\"";
    let case = |(file, beside)| {
        let counted = if file == "sparse.pth" {
            "16 tensors, prefix \"state_dict_ema.\"; other tensors in the file, not read: 1"
        } else {
            said
        };
        (file, dict([("before", Py::None), ("beside", beside), ("state_dict_ema", cnn(""))]), counted)
    };
    beside.into_iter().map(case).collect()
}

#[test]
fn prefixes_and_what_lies_beside_the_tensors_are_no_obstacle() {
    let cache = tempfile::tempdir().unwrap();
    for (file, saved, expected) in [prefixes(), nests(), classes()].into_iter().flatten() {
        let formats =
            [("archive", archive(&saved, 2)), ("protocol 4", archive(&saved, 4)), ("stream", stream(&saved))];
        for (format, bytes) in formats {
            let fetched = staged(cache.path(), file, &bytes, 0.0);
            let fetched = fetched.unwrap_or_else(|error| panic!("{file}, {format}: {error}"));
            assert_eq!(fetched.contents, expected, "{file}, {format}");
        }
    }
}

#[test]
fn other_widths_become_single_precision() {
    let cache = tempfile::tempdir().unwrap();
    for (kind, tolerance) in [(Kind::Half, 1e-3), (Kind::Double, 0.0)] {
        let tensors =
            network().into_iter().map(|named| (named.name, Py::Tensor(named.tensor.to_kind(kind)))).collect();
        staged(cache.path(), "width.pth", &archive(&ordered(tensors), 2), tolerance).unwrap();
    }
}

#[test]
fn what_a_checkpoint_calls_is_not_called() {
    let cache = tempfile::tempdir().unwrap();
    let mark = cache.path().join("called");
    let command = format!("touch {}", mark.display());
    let call = || Py::Call(global("os", "system"), vec![command.as_str().into()], Vec::new());
    let saved = dict([("first", call()), ("state_dict", cnn("")), ("last", call())]);
    staged(cache.path(), "call.pth", &archive(&saved, 2), 0.0).unwrap();
    assert!(!mark.exists());
    // The command is a good one.
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success() && mark.exists());
}

#[test]
fn what_does_not_fit_is_one_line_with_numbers_and_names() {
    let cache = tempfile::tempdir().unwrap();
    let refused = |saved: &Py| {
        let reason = staged(cache.path(), "w.pth", &archive(saved, 2), 0.0).unwrap_err();
        assert_eq!(
            (reason.lines().count(), std::fs::read_dir(cache.path().join("weights")).unwrap().count()),
            (1, 0)
        );
        reason
    };
    let mut tensors: Vec<(String, Py)> = network()
        .into_iter()
        .map(|named| (format!("module.{}", named.name), Py::Tensor(named.tensor)))
        .collect();
    for renamed in &mut tensors[4..8] {
        renamed.0 = renamed.0.replace("module.", "module.old_");
    }
    let reason = refused(&dict([("state_dict", ordered(tensors))]));
    assert!(
        reason.ends_with(
            "w.pth: these are no weights of mnist-cnn: missing: 4 of the network's 16 tensors (conv2.weight, conv2.bias, bn1.weight, ...); left over: 4 (old_conv2.weight, old_conv2.bias, old_bn1.weight, ...); the prefix \"state_dict.module.\" fits best"
        ),
        "{reason}"
    );
    assert!(refused(&dict([("epoch", 3.into())])).ends_with("it holds no tensors"));
    let mut tensors: Vec<(String, Py)> =
        network().into_iter().map(|named| (named.name, Py::Tensor(named.tensor))).collect();
    tensors[0].1 = Py::Tensor(Tensor::zeros([64, 1, 3, 3], (Kind::Float, Device::Cpu)));
    assert!(
        refused(&ordered(tensors))
            .ends_with("tensor conv1.weight: it has size [64, 1, 3, 3] where [64, 3, 3, 3] belongs")
    );
}

#[test]
fn the_log_of_a_trial_says_what_was_read() {
    let root = tempfile::tempdir().unwrap();
    let folders = process::folders(root.path());
    let mut spec = tiny::spec(tiny::tiny(), "pen");
    (spec.settings.backbone, spec.settings.weights) = (BACKBONE, "wrapped".to_owned());
    let mut assignment = process::assignment(&spec, &folders, 1);
    assignment.cache = root.path().join("own cache");
    let bytes = archive(&dict([("state_dict", cnn("module."))]), 2);
    staged(&assignment.cache, "wrapped.pth", &bytes, 0.0).unwrap();
    let output = process::run(&assignment, Interruption::default());
    assert_eq!(output.outcome, Some(Outcome::Succeeded), "{}", output.printed);
    let expected = format!(
        "weights {}: 16 tensors, prefix \"state_dict.module.\"",
        assignment.cache.join("weights/wrapped.pth").display()
    );
    assert!(output.printed.lines().any(|line| line == expected), "{}", output.printed);
    // A plain file is nothing to talk about.
    staged(&assignment.cache, "wrapped.pth", &archive(&cnn(""), 2), 0.0).unwrap();
    let output = process::run(&assignment, Interruption::default());
    assert_eq!(output.outcome, Some(Outcome::Succeeded), "{}", output.printed);
    assert!(!output.printed.contains("tensors"), "{}", output.printed);
}
