//! The network and its training against PyTorch: fixtures/make_model_fixtures.py made the numbers with the network's original Python
//! code, torch.optim.SGD and MultiStepLR, and shares nothing with ours.

mod common;

use common::{Fixture, cache_dir, copies, relative_error};
use sortie_core::finetune;
use sortie_worker::model::{self, Pass, legacy_pth};
use sortie_worker::trainer::{Network, Optimiser, Parameters, Update};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

const TOLERANCE: f64 = 1e-4;

fn backbone() -> model::Pretrained {
    let cache = cache_dir();
    model::load(&cache, finetune::Backbone::EfficientNetLite0, Device::Cpu).expect("`cargo xtask setup` fetches the weights")
}

/// (x - 127) / 128, channels last as in training.
fn network_input(pixels: &Tensor) -> Tensor {
    let input = (pixels.to_kind(Kind::Float) - 127.0) / 128.0;
    input.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

#[test]
fn logits_of_the_pretrained_classifier_are_pytorchs() {
    let fixture = Fixture::read("efficientnet_lite0.safetensors");
    let mut weights = legacy_pth::read(&model::weights_path(&cache_dir(), finetune::Backbone::EfficientNetLite0)).unwrap();
    let classifier = (weights.take("_fc.weight", &[1_000, 1_280]).unwrap(), weights.take("_fc.bias", &[1_000]).unwrap());
    let backbone = backbone().backbone;
    for size in ["even", "odd"] {
        let features = no_grad(|| backbone.features(&network_input(fixture.get(&format!("{size}.pixels"))), Pass::Evaluate)).unwrap();
        let logits = features.linear(&classifier.0, Some(&classifier.1));
        let error = relative_error(&logits, fixture.get(&format!("{size}.logits")));
        println!("{size}: relative error {error:.2e}");
        assert!(error <= TOLERANCE, "{size}: {error:e}");
    }
}

#[test]
fn training_follows_pytorchs_losses_and_moves_every_tensor_as_far() {
    let fixture = Fixture::read("efficientnet_lite0.safetensors");
    let (weight, bias) = (fixture.floats("train.head.weight"), fixture.floats("train.head.bias"));
    let network = Network::new(backbone().backbone, &weight, &bias, Device::Cpu).unwrap();
    let watched = [network.body_parameters(), network.head_parameters()];
    let before = watched.each_ref().map(|tensors| copies(tensors).into_iter());
    let parameters = Parameters::gather(network.body_parameters(), network.head_parameters()).unwrap();
    let mut optimiser = Optimiser::new(Update { rule: finetune::Optimizer::Sgd, momentum: 0.9, weight_decay: 1e-2, head_lr_factor: 10.0 });

    let (pool, labels) = (fixture.get("train.pool"), fixture.get("train.labels"));
    for (step, expected) in fixture.doubles("train.losses").into_iter().enumerate() {
        let batch = fixture.get("train.batches").get(step as i64);
        let logits = network.logits(&network_input(&pool.index_select(0, &batch)), None, Pass::Train).unwrap();
        let loss = logits.cross_entropy_loss(&labels.index_select(0, &batch), None::<&Tensor>, Reduction::Mean, -100, 0.0);
        let error = (loss.double_value(&[]) / expected - 1.0).abs();
        println!("step {step}: relative error {error:.2e}");
        assert!(error <= TOLERANCE, "step {step}: {error:e}");
        optimiser.step(&parameters, &loss, if step < 3 { 1e-3 } else { 1e-3 * 0.1 }).unwrap();
    }

    let mut largest: f64 = 0.0;
    for (before, named) in before.into_iter().flatten().zip(watched.iter().flatten()) {
        let moved = (named.tensor.detach() - before).norm().double_value(&[]);
        let name = named.name.strip_prefix("head.").map_or_else(|| named.name.clone(), |part| format!("_fc.{part}"));
        let expected = f64::from(fixture.floats(&format!("moved.{name}"))[0]);
        let error = (moved / expected - 1.0).abs();
        largest = largest.max(error);
        assert!(error <= 0.01, "{name} moved by {moved:e} where PyTorch's moved by {expected:e}");
    }
    println!("largest relative difference of a tensor's way: {largest:.2e}");
}
