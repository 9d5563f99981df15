//! What goes over the wire arrives as it was, to the last bit.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use sortie_core::artifact::{Artifact, ArtifactKind, CheckpointRef, Resumed};
use sortie_core::combine::Member;
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::keep::{Keep, KeepWeights};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{Batch, Completion, Lease};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName, TrainingLoss};
use sortie_core::plan::SpecHasher;
use sortie_core::record::Fingerprint;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{SpecHash, TrialSpec};

use crate::v1;

/// Fine-tuning with combinations, from scratch, on a folder that is laid out in another way, and any program.
const SWEEPS: [&str; 4] = [
    include_str!("../../examples/ensemble.toml"),
    include_str!("../../examples/scratch.toml"),
    r#"
    name = "laid-out"
    [data]
    dataset = "office31"
    domains = ["amazon", "dslr", "webcam"]
    classes = ["back_pack", "C++"]
    layout = "{domain}/images/{class}"
    missing_classes = "allow"
    [model]
    backbone = "efficientnet-lite0"
    [grid]
    dropout = [0.0, 0.9]
    lr = 1e-3
    weight_decay = 0
    "#,
    include_str!("../../examples/command.toml"),
];

/// Some trial of one of these sweeps.
fn spec() -> impl Strategy<Value = TrialSpec> {
    (0..SWEEPS.len(), any::<u64>()).prop_map(|(sweep, index)| {
        let sweep = SweepSpec::parse(SWEEPS[sweep], None).unwrap();
        let hasher = SpecHasher::of(&sweep.work, sweep.protocol);
        let planned = sweep.planned_at(index % sweep.trials_planned().unwrap(), &hasher).unwrap();
        TrialSpec { work: sweep.work, point: planned.point, combination: planned.combination }
    })
}

fn spec_hash() -> impl Strategy<Value = SpecHash> {
    "[0-9a-f]{32}".prop_map(|digits| digits.parse().unwrap())
}

fn token() -> impl Strategy<Value = AttemptToken> {
    any::<i64>().prop_map(AttemptToken)
}

fn key() -> impl Strategy<Value = String> {
    "([A-Za-z0-9_+=-]{1,8}/){0,3}[A-Za-z0-9_+=-]{1,8}"
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![Just(Method::Plain), Just(Method::Average), Just(Method::Ensemble)]
}

/// Any number but NaN.
fn number() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("NaN is refused", |number| !number.is_nan())
}

fn artifact() -> impl Strategy<Value = Artifact> {
    let kind = prop_oneof![
        Just(ArtifactKind::Checkpoint),
        Just(ArtifactKind::FinalWeights),
        Just(ArtifactKind::SelectedWeights),
        Just(ArtifactKind::FinalLogits)
    ];
    let key = prop_oneof![Just(String::new()), key()];
    (kind, method(), any::<u64>(), key, "[0-9a-f]{64}", 0..1_u64 << 62).prop_map(
        |(kind, method, step, key, digest, bytes)| Artifact { kind, method, step, key, digest, bytes },
    )
}

fn evaluation() -> impl Strategy<Value = Evaluation> {
    let counts = (1..u64::MAX).prop_flat_map(|n| (Just(n), 0..=n));
    let score = prop_oneof![
        counts.prop_map(|(n, correct)| Score::Counts { n, correct }),
        (proptest::num::f64::NORMAL | proptest::num::f64::ZERO, any::<u64>())
            .prop_map(|(value, n)| Score::Value { value, n })
    ];
    let split = prop_oneof![Just(SplitName::In), Just(SplitName::Out)];
    (method(), any::<u64>(), ".{0,20}", split, score, option::of(number())).prop_map(
        |(method, step, domain, split, score, loss)| Evaluation { method, step, domain, split, score, loss },
    )
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    (".{0,9}", ".{0,9}", ".{0,9}", any::<u32>(), ".{0,9}", ".{0,9}").prop_map(
        |(software, libtorch, device, threads, dataset_digest, weights_digest)| Fingerprint {
            software,
            libtorch,
            device,
            threads,
            dataset_digest,
            weights_digest,
        },
    )
}

fn resumed() -> impl Strategy<Value = Resumed> {
    (token(), any::<u64>(), any::<bool>()).prop_map(|(token, step, exact)| Resumed { token, step, exact })
}

fn batch() -> impl Strategy<Value = Batch> {
    let loss = (any::<u64>(), number()).prop_map(|(step, loss)| TrainingLoss { step, loss });
    (
        1..1_u64 << 63,
        option::of(fingerprint()),
        vec(evaluation(), 0..4),
        vec(loss, 0..4),
        vec(any::<u8>(), 0..40),
        vec(artifact(), 0..3),
        option::of(resumed()),
    )
        .prop_map(|(sequence, fingerprint, evaluations, losses, log, artifacts, resumed)| Batch {
            sequence,
            fingerprint,
            evaluations,
            losses,
            log,
            artifacts,
            resumed,
        })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    // Only the coordinator says that a worker was lost.
    let class = prop_oneof![
        Just(ErrorClass::Transient),
        Just(ErrorClass::Preempted),
        Just(ErrorClass::OutOfMemory),
        Just(ErrorClass::BadConfig),
        Just(ErrorClass::BadData)
    ];
    prop_oneof![
        Just(Outcome::Succeeded),
        any::<u64>().prop_map(|step| Outcome::Diverged { step }),
        (class, ".{0,40}").prop_map(|(class, message)| Outcome::Failed { class, message })
    ]
}

fn lease() -> impl Strategy<Value = Lease> {
    let checkpoint = (token(), any::<u64>(), key(), "[0-9a-f]{64}")
        .prop_map(|(token, step, key, digest)| CheckpointRef { token, step, key, digest });
    let weights = prop_oneof![
        Just(KeepWeights::None),
        Just(KeepWeights::Final),
        Just(KeepWeights::Selected),
        Just(KeepWeights::Both)
    ];
    let keep = (weights, any::<bool>()).prop_map(|(weights, logits)| Keep { weights, logits });
    let member = (spec_hash(), vec(artifact(), 0..3), ".{0,9}").prop_map(|(spec_hash, files, host)| Member {
        spec_hash,
        files,
        host,
    });
    (
        (token(), any::<u32>(), spec_hash(), ".{0,20}", spec()),
        (vec(checkpoint, 0..3), keep, option::of(any::<u64>()), vec(member, 0..3)),
    )
        .prop_map(|((token, attempt, spec_hash, sweep, spec), (checkpoints, keep, kill_at, members))| {
            Lease { token, attempt, spec_hash, sweep, spec, checkpoints, keep, kill_at, members }
        })
}

/// Through the bytes that are sent.
fn sent<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_lease_arrives_as_it_was(lease in lease()) {
        let arrived: Lease = sent(&v1::Lease::from(&lease)).try_into().unwrap();
        prop_assert_eq!(arrived.spec.hash(), lease.spec.hash());
        prop_assert_eq!(arrived, lease);
    }

    #[test]
    fn reports_and_ends_arrive_as_they_were(token in token(), batch in option::of(batch()), outcome in outcome()) {
        let completion = Completion { token, batch, outcome };
        let arrived: Completion = sent(&v1::CompleteRequest::from(completion.clone())).try_into().unwrap();
        prop_assert_eq!(arrived, completion);
    }
}
