//! What holds for all networks, whatever their weights: fresh values, BatchNorm's two modes, number formats, the blocks' outputs.

#![expect(
    clippy::unwrap_used,
    reason = "only tests call the functions between them, and clippy.toml excuses only those"
)]

use sortie_core::finetune::{Backbone, BatchNorm, Precision};
use sortie_trainer::model::{self, LoadRequest, NamedTensor, Pass, Source, StateDict};
use tch::{Device, Kind, Tensor, no_grad};

fn scratch(backbone: Backbone, seed: u64, precision: Precision) -> Box<dyn model::Backbone> {
    fresh(backbone, seed, precision, BatchNorm::Live)
}

fn fresh(
    backbone: Backbone,
    seed: u64,
    precision: Precision,
    batch_norm: BatchNorm,
) -> Box<dyn model::Backbone> {
    let request = LoadRequest {
        cache: "nowhere".as_ref(),
        backbone,
        weights: "",
        seed,
        device: Device::Cpu,
        precision,
        batch_norm,
    };
    let fresh = model::load(&request).unwrap();
    assert!(fresh.weights_digest.is_empty() && fresh.head.is_none());
    fresh.backbone
}

/// The same values as if a file had held them: BatchNorm is frozen.
fn frozen(
    network: &dyn model::Backbone,
    backbone: Backbone,
    precision: Precision,
) -> Box<dyn model::Backbone> {
    let tensors = network.parameters().into_iter().chain(network.buffers());
    let state =
        StateDict::new("made".as_ref(), tensors.map(|named| (named.name, named.tensor.detach().copy())))
            .unwrap();
    model::assemble(backbone, Source::file(state, Device::Cpu, precision), i64::from(backbone.pixels()))
        .unwrap()
        .0
}

/// Smooth waves, different in each image and channel.
fn images(n: i64, pixels: i64) -> Tensor {
    let positions = Tensor::arange(n * 3 * pixels * pixels, (Kind::Float, Device::Cpu));
    (positions * 0.37).sin().view([n, 3, pixels, pixels])
}

fn named<'a>(tensors: &'a [NamedTensor], name: &str) -> &'a Tensor {
    &tensors.iter().find(|named| named.name == name).unwrap_or_else(|| panic!("there is no {name}")).tensor
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).norm().double_value(&[]) / b.norm().double_value(&[])
}

#[test]
fn fresh_values_are_torchvisions_and_come_from_the_seed() {
    let [one, again, other] =
        [3, 3, 4].map(|seed| scratch(Backbone::ResNet18, seed, Precision::Fp32).parameters());
    for ((one, again), other) in one.iter().zip(&again).zip(&other) {
        assert_eq!(one.tensor, again.tensor, "{}", one.name);
        assert_eq!(
            one.tensor == other.tensor,
            !one.name.contains("conv") && !one.name.contains("downsample.0"),
            "{}",
            one.name
        );
    }
    for (name, fan_out) in
        [("conv1.weight", 64 * 49), ("layer4.1.conv2.weight", 512 * 9), ("layer2.0.downsample.0.weight", 128)]
    {
        let values = named(&one, name);
        let expected = (2.0 / f64::from(fan_out)).sqrt();
        let (deviation, mean) =
            (values.std(true).double_value(&[]), values.mean(Kind::Float).double_value(&[]));
        assert!(
            (deviation / expected - 1.0).abs() < 0.03 && mean.abs() < 0.03 * expected,
            "{name}: {mean} +- {deviation}"
        );
    }
    assert_eq!(named(&one, "bn1.weight").mean(Kind::Float).double_value(&[]), 1.0);
    assert_eq!(named(&one, "bn1.bias").abs().max().double_value(&[]), 0.0);
}

#[test]
fn live_statistics_move_in_training_only_and_frozen_ones_never() {
    let live = scratch(Backbone::ResNet18, 1, Precision::Fp32);
    let frozen = frozen(live.as_ref(), Backbone::ResNet18, Precision::Fp32);
    let x = images(4, 64);
    let copies = |network: &dyn model::Backbone| {
        network.buffers().into_iter().map(|named| named.tensor.copy()).collect::<Vec<_>>()
    };
    let (before, frozen_before) = (copies(live.as_ref()), copies(frozen.as_ref()));
    let evaluated = no_grad(|| live.features(&x, Pass::Evaluate)).unwrap();
    assert_eq!(copies(live.as_ref()), before);
    let trained = live.features(&x, Pass::Train).unwrap();
    assert!(
        live.buffers().iter().zip(&before).all(|(after, before)| &after.tensor != before),
        "a statistic did not move"
    );

    let convolved = x.conv2d(named(&live.parameters(), "conv1.weight"), None::<&Tensor>, 2, 3, 1, 1);
    let expected = convolved.mean_dim([0, 2, 3].as_slice(), false, Kind::Float) * 0.1;
    assert!(distance(named(&live.buffers(), "bn1.running_mean"), &expected) < 1e-4);

    // With the statistics of the beginning, frozen BatchNorm is the live one's evaluation, in training too.
    for pass in [Pass::Train, Pass::Evaluate] {
        assert!(distance(&frozen.features(&x, pass).unwrap(), &evaluated) < 1e-5);
    }
    assert!(distance(&trained, &evaluated) > 0.1);
    assert_eq!(copies(frozen.as_ref()), frozen_before);
}

#[test]
fn fresh_values_with_frozen_statistics_are_those_of_a_file() {
    for (backbone, pixels) in [(Backbone::ResNet18, 64), (Backbone::EfficientNetLite0, 64)] {
        let ours = fresh(backbone, 1, Precision::Fp32, BatchNorm::Frozen);
        let other = frozen(ours.as_ref(), backbone, Precision::Fp32);
        let live = scratch(backbone, 1, Precision::Fp32);
        let x = images(2, pixels);
        let trained = ours.features(&x, Pass::Train).unwrap();
        assert_eq!(trained, other.features(&x, Pass::Train).unwrap(), "{backbone}");
        assert!(distance(&trained, &live.features(&x, Pass::Train).unwrap()) > 0.1, "{backbone}");
        for NamedTensor { name, tensor } in ours.buffers() {
            let initial = if name.ends_with("running_var") { 1.0 } else { 0.0 };
            assert!((tensor - initial).abs().max().double_value(&[]) == 0.0, "{backbone}: {name} moved");
        }
    }
}

#[test]
fn bf16_is_near_and_keeps_everything_else_in_single_precision() {
    for (backbone, pixels) in
        [(Backbone::ResNet18, 64), (Backbone::EfficientNetLite0, 65), (Backbone::MnistCnn, 28)]
    {
        let fresh = scratch(backbone, 1, Precision::Fp32);
        let [single, half] =
            [Precision::Fp32, Precision::Bf16].map(|precision| frozen(fresh.as_ref(), backbone, precision));
        let x = images(2, pixels);
        let features = [&single, &half].map(|network| network.features(&x, Pass::Train).unwrap());
        assert_eq!((features[1].kind(), features[1].size()), (Kind::Float, vec![2, single.width()]));
        let error = distance(&features[1], &features[0]);
        assert!(error > 1e-6 && error < 0.05, "{backbone}: {error}");
        let parameters = half.parameters();
        let tensors: Vec<&Tensor> = parameters.iter().map(|named| &named.tensor).collect();
        let gradients =
            Tensor::run_backward(&[features[1].square().mean(Kind::Float)], &tensors, false, false);
        for (named, gradient) in parameters.iter().zip(gradients) {
            assert_eq!(
                (named.tensor.kind(), gradient.kind(), gradient.size()),
                (Kind::Float, Kind::Float, named.tensor.size())
            );
        }
        // Live BatchNorm keeps its statistics in single precision beside products in bf16.
        let live = scratch(backbone, 1, Precision::Bf16);
        let trained = live.features(&x, Pass::Train).unwrap();
        assert!(
            trained.isfinite().all().int64_value(&[]) == 1
                && live.buffers().iter().all(|named| named.tensor.kind() == Kind::Float)
        );
    }
}

#[test]
fn the_last_three_wide_blocks_come_last_one_first() {
    for (backbone, width) in [
        (Backbone::ResNet50V2, 2_048),
        (Backbone::EfficientNetLite0, 192),
        (Backbone::EfficientNetLite2, 208),
    ] {
        let network = scratch(backbone, 1, Precision::Fp32);
        let x = images(1, 64);
        let blocks = no_grad(|| network.block_features(&x)).unwrap().unwrap();
        assert_eq!((blocks.size(), network.block_width()), (vec![3, 1, width], Some(width)), "{backbone}");
        if backbone == Backbone::ResNet50V2 {
            assert_eq!(blocks.get(0), no_grad(|| network.features(&x, Pass::Evaluate)).unwrap());
        }
        assert_ne!(blocks.get(1), blocks.get(2));
    }
    for backbone in [Backbone::ResNet18, Backbone::MnistCnn] {
        let network = scratch(backbone, 1, Precision::Fp32);
        let blocks = network.block_features(&images(1, 32)).unwrap();
        assert!(blocks.is_none() && network.block_width().is_none(), "{backbone}");
    }
}
