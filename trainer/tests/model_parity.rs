//! The networks and their training against PyTorch: fixtures/make_model_fixtures.py made the numbers with torchvision's networks and
//! EfficientNet-Lite's original Python code and torch.optim.SGD, shares nothing with ours, and says how a movement is sketched.

#![expect(
    clippy::unwrap_used,
    reason = "only tests call the functions between them, and clippy.toml excuses only those"
)]

#[path = "common/fixtures.rs"]
mod common;

use common::{Fixture, cache_dir, copies, relative_error};
use sortie_core::finetune::{Backbone, BatchNorm, Optimizer, Precision};
use sortie_trainer::model::{self, LoadRequest, Pass, Source, StateDict};
use sortie_trainer::training::{Network, Optimiser, Parameters, Update};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

const TOLERANCE: f64 = 1e-4;
const CLASSES: i64 = 7;
const BINS: i64 = 16;

/// Integers in 0..2^32 that look random.
fn noise(count: i64, stream: i64) -> Tensor {
    let mut x = Tensor::arange(count, (Kind::Int64, Device::Cpu)) + stream * 7_919_333;
    for (factor, shift) in [(2_654_435_761_i64, 15_i64), (2_246_822_519, 13), (3_266_489_917, 16)] {
        x = (x * factor).bitwise_and(0xffff_ffff_i64);
        x = x.bitwise_xor_tensor(&x.bitwise_right_shift(&Tensor::from(shift)));
    }
    x
}

/// `shift` bits further down.
fn shifted(noise: &Tensor, shift: i64) -> Tensor {
    noise.bitwise_right_shift(&Tensor::from(shift))
}

/// Numbers in [-1, 1).
fn uniform(shape: &[i64], stream: i64) -> Tensor {
    let values = shifted(&noise(shape.iter().product(), stream), 8).to_kind(Kind::Float);
    ((values - f64::from(1 << 23)) / f64::from(1 << 23)).view(shape)
}

/// A tensor of a network, as the fixture's maker makes it.
fn weights(name: &str, shape: &[i64], stream: i64) -> Tensor {
    let values = uniform(shape, stream);
    if shape.len() > 1 && !name.contains("token") && !name.contains("pos_embedding") {
        let fan_in = shape[1..].iter().product::<i64>() as f64;
        values * f64::from((6.0 / fan_in).sqrt() as f32)
    } else if name.ends_with("running_var") {
        values * 0.25 + 0.75
    } else if name.ends_with("weight") {
        values * 0.25 + 0.5
    } else {
        values * 0.125
    }
}

/// A network of pseudorandom weights with its classifier of 1,000 classes.
fn with_pseudorandom_weights(backbone: Backbone, name: &str, pixels: i64) -> model::Pretrained {
    let fixture = Fixture::read("model_parity.safetensors");
    let prefix = format!("{name}.shape.");
    let mut names: Vec<&str> =
        fixture.names().filter_map(|name| name.strip_prefix(prefix.as_str())).collect();
    names.sort_unstable();
    let tensors = names.into_iter().enumerate().map(|(stream, name)| {
        let shape = fixture.get(&format!("{prefix}{name}")).to_kind(Kind::Int64);
        (name.to_owned(), weights(name, &Vec::<i64>::try_from(shape).unwrap(), stream as i64))
    });
    let state = StateDict::new("pseudorandom".as_ref(), tensors).unwrap();
    let (backbone, head) =
        model::assemble(backbone, Source::file(state, Device::Cpu, Precision::Fp32), pixels).unwrap();
    model::Pretrained { backbone, head, weights_digest: String::new() }
}

fn lite0() -> model::Pretrained {
    let (cache, backbone) = (cache_dir(), Backbone::EfficientNetLite0);
    let request = LoadRequest {
        cache: &cache,
        backbone,
        weights: backbone.as_str(),
        seed: 0,
        device: Device::Cpu,
        precision: Precision::Fp32,
        batch_norm: BatchNorm::Frozen,
    };
    model::load(&request).expect("`cargo xtask setup` fetches the weights")
}

fn check_logits(pretrained: &model::Pretrained, name: &str, sizes: &[(i64, i64)]) {
    let fixture = Fixture::read("model_parity.safetensors");
    let (weight, bias) = pretrained.head.as_ref().unwrap();
    for &(height, width) in sizes {
        let images = uniform(&[2, 3, height, width], 9_000);
        let features = no_grad(|| pretrained.backbone.features(&images, Pass::Evaluate)).unwrap();
        let logits = features.linear(weight, Some(bias));
        let error = relative_error(&logits, fixture.get(&format!("{name}.logits.{height}x{width}")));
        println!("{name} at {height}x{width}: relative error {error:.2e}");
        assert!(error <= TOLERANCE, "{name} at {height}x{width}: {error:e}");
    }
}

/// A tensor's movement summed with random signs into random bins.
fn sketch(movement: &Tensor, stream: i64) -> Tensor {
    let movement = movement.to_kind(Kind::Double).contiguous().flatten(0, -1);
    let bits = noise(movement.size()[0], 1_000 + stream);
    let signed = movement * (shifted(&bits, 20).bitwise_and(1) * 2 - 1);
    shifted(&bits, 8).bitwise_and(BINS - 1).bincount(Some(&signed), BINS)
}

fn check_training(pretrained: model::Pretrained, name: &str, pixels: i64, head_factor: f64) {
    let fixture = Fixture::read("model_parity.safetensors");
    let width = pretrained.backbone.width();
    let bound = f64::from((1.0 / (width as f64).sqrt()) as f32);
    let head = [uniform(&[CLASSES * width], 9_001) * bound, uniform(&[CLASSES], 9_002) * bound];
    let [weight, bias] = head.map(|values| Vec::<f32>::try_from(values).unwrap());
    let network = Network::new(pretrained.backbone, &weight, &bias, Device::Cpu).unwrap();
    let all = || network.body_parameters().into_iter().chain(network.head_parameters());
    let before = copies(&all().collect::<Vec<_>>());
    let parameters = Parameters::gather(network.body_parameters(), network.head_parameters()).unwrap();
    let mut optimiser = Optimiser::new(Update {
        rule: Optimizer::Sgd,
        momentum: 0.9,
        weight_decay: 1e-2,
        head_lr_factor: head_factor,
    });

    let (pool, labels) = (uniform(&[6, 3, pixels, pixels], 9_003), noise(6, 9_004).remainder(CLASSES));
    let losses = fixture.doubles(&format!("{name}.losses"));
    let batches = noise(losses.len() as i64 * 4, 9_005).remainder(6).view([-1, 4]);
    for (step, expected) in losses.into_iter().enumerate() {
        let batch = batches.get(step as i64);
        let logits = network.logits(&pool.index_select(0, &batch), None, Pass::Train).unwrap();
        let loss = logits.cross_entropy_loss(
            &labels.index_select(0, &batch),
            None::<&Tensor>,
            Reduction::Mean,
            -100,
            0.0,
        );
        let error = (loss.double_value(&[]) / expected - 1.0).abs();
        println!("{name}, step {step}: relative error {error:.2e}");
        assert!(error <= TOLERANCE, "{name}, step {step}: {error:e}");
        let gradient = parameters.gradient(&loss).unwrap();
        optimiser.step(&parameters, gradient, 1e-3).unwrap();
    }

    check_movements(&fixture, name, all().map(|named| (named.name, named.tensor)).zip(before).collect());
}

fn check_movements(fixture: &Fixture, name: &str, tensors: Vec<((String, Tensor), Tensor)>) {
    let prefix = format!("{name}.moved.");
    let mut expected: Vec<&str> =
        fixture.names().filter_map(|name| name.strip_prefix(prefix.as_str())).collect();
    expected.sort_unstable();
    assert_eq!(expected.len(), tensors.len());
    let classifier = expected
        .iter()
        .find_map(|name| name.strip_suffix("fc.bias").map(|part| format!("{part}fc.")))
        .unwrap_or("heads.head.".into());
    let mut largest: f64 = 0.0;
    for ((name, after), before) in tensors {
        let name = name.strip_prefix("head.").map_or(name.clone(), |part| format!("{classifier}{part}"));
        let stream = expected
            .iter()
            .position(|candidate| *candidate == name)
            .unwrap_or_else(|| panic!("the fixture holds no {name}"));
        let theirs = fixture.get(&format!("{prefix}{name}"));
        let ours = sketch(&(after.detach() - before), stream as i64);
        let length = theirs.double_value(&[BINS]);
        let error = (ours - theirs.narrow(0, 0, BINS)).norm().double_value(&[]) / length;
        largest = largest.max(error);
        assert!(error <= 0.01, "{name} ended {error:e} of its way from where PyTorch's did");
    }
    println!("{name}: largest distance of a tensor from PyTorch's, relative to its way: {largest:.2e}");
}

#[test]
fn efficientnet_lite0_follows_pytorch() {
    let pretrained = lite0();
    check_logits(&pretrained, "efficientnet-lite0", &[(64, 64), (97, 65)]);
    check_training(pretrained, "efficientnet-lite0", 64, 2.0);
}

#[test]
fn resnet_follows_pytorch() {
    check_logits(&with_pseudorandom_weights(Backbone::ResNet18, "resnet18", 64), "resnet18", &[(64, 64)]);
    let pretrained = with_pseudorandom_weights(Backbone::ResNet50V2, "resnet50-v2", 64);
    check_logits(&pretrained, "resnet50-v2", &[(64, 64), (97, 65)]);
    check_training(pretrained, "resnet50-v2", 64, 1.0);
}

#[test]
fn vit_follows_pytorch() {
    let pretrained = with_pseudorandom_weights(Backbone::VitB16, "vit-b-16", 32);
    check_logits(&pretrained, "vit-b-16", &[(32, 32)]);
    check_training(pretrained, "vit-b-16", 32, 1.0);
}
