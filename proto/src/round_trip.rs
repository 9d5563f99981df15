//! What goes over the wire arrives as it was, to the last bit.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use sortie_core::artifact::{Artifact, ArtifactKind, CheckpointRef, Resumed};
use sortie_core::code::Code;
use sortie_core::combine::Member;
use sortie_core::command::WorkerValues;
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::keep::{Keep, KeepWeights};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{Batch, Completion, Lease};
use sortie_core::limits::Limits;
use sortie_core::metrics::{Evaluation, Method, Score, SplitName, TrainingLoss, is_metric_name};
use sortie_core::parameters::{Parameters, Scalar, set_written, written_numbers};
use sortie_core::plan::SpecHasher;
use sortie_core::prerequisite::{Findings, Missing, PREREQUISITES_MAX, Prerequisite};
use sortie_core::record::Fingerprint;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{Point, SpecHash, TrialSpec, Work};

use crate::v1;

/// Fine-tuning with combinations, from scratch, on a folder that is laid out in another way, and any program.
const SWEEPS: [&str; 5] = [
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
    [train]
    micro_batch = "auto"
    [grid]
    dropout = [0.0, 0.9]
    lr = 1e-3
    weight_decay = 0
    "#,
    include_str!("../../examples/command.toml"),
    r#"
    name = "varied"
    [data]
    dataset = "PACS"
    [model]
    backbone = ["efficientnet-lite0", "resnet50-v1"]
    [train]
    steps = [10, 20]
    optimizer = ["sgd", "adam"]
    schedule = ["step", "cosine"]
    precision = ["fp32", "bf16"]
    [grid]
    dropout = [0.0, 0.9]
    lr = 1e-3
    weight_decay = 0
    "#,
];

/// Some trial of one of these sweeps.
fn spec() -> impl Strategy<Value = TrialSpec> {
    (0..SWEEPS.len(), any::<u64>()).prop_map(|(sweep, index)| {
        let sweep = SweepSpec::parse(SWEEPS[sweep], None).unwrap();
        let hasher = SpecHasher::of(&sweep.work, sweep.protocol);
        let planned = sweep.planned_at(index % sweep.trials_planned().unwrap(), &hasher).unwrap();
        // As a sweep has it: trials are sent with their own settings, which are fewer.
        TrialSpec { work: sweep.work, point: planned.point, combination: planned.combination }
    })
}

fn prerequisite() -> impl Strategy<Value = Prerequisite> {
    prop_oneof![".*".prop_map(Prerequisite::Dataset), ".*".prop_map(Prerequisite::Program)]
}

fn findings() -> impl Strategy<Value = Findings> {
    let missing = (prerequisite(), ".*").prop_map(|(prerequisite, reason)| Missing { prerequisite, reason });
    (vec(prerequisite(), 0..PREREQUISITES_MAX / 2), vec(missing, 0..PREREQUISITES_MAX / 2))
        .prop_map(|(has, lacks)| Findings { has, lacks })
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

/// Times, which are absent where nobody measured them.
fn seconds() -> impl Strategy<Value = Option<f64>> {
    option::of(0.0..1e12_f64)
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
    let metrics = proptest::collection::btree_map("[a-z][a-z0-9_.-]{0,9}", -1e300..1e300_f64, 0..4);
    let metrics = metrics
        .prop_filter("no metric has such a name", |metrics| metrics.keys().all(|name| is_metric_name(name)));
    (method(), any::<u64>(), ".{0,20}", split, option::of(score), option::of(number()), metrics, seconds())
        .prop_map(|(method, step, domain, split, score, loss, metrics, seconds)| Evaluation {
            method,
            step,
            domain,
            split,
            score,
            loss,
            metrics,
            seconds,
        })
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    let code = option::of("[a-z0-9+]{1,9}".prop_map(|build| Box::new(Code::of_build(&build))));
    let micro_batch = option::of(any::<u32>());
    (".{0,9}", ".{0,9}", ".{0,9}", any::<u32>(), "[ -~]{0,9}", "[ -~]{0,9}", code, micro_batch).prop_map(
        |(software, libtorch, device, threads, dataset_digest, weights_digest, code, micro_batch)| {
            Fingerprint {
                software,
                libtorch,
                device,
                threads,
                dataset_digest,
                weights_digest,
                code,
                micro_batch,
            }
        },
    )
}

fn resumed() -> impl Strategy<Value = Resumed> {
    (token(), any::<u64>(), any::<bool>()).prop_map(|(token, step, exact)| Resumed { token, step, exact })
}

fn batch() -> impl Strategy<Value = Batch> {
    let loss = (any::<u64>(), number(), seconds()).prop_map(|(step, loss, seconds)| TrainingLoss {
        step,
        loss,
        seconds,
    });
    (
        1..1_u64 << 63,
        option::of(fingerprint()),
        vec(evaluation(), 0..4),
        vec(loss, 0..4),
        vec(any::<u8>(), 0..40),
        vec(artifact(), 0..3),
        option::of(resumed()),
        vec(".{0,9}", 0..3),
    )
        .prop_map(|(sequence, fingerprint, evaluations, losses, log, artifacts, resumed, notes)| Batch {
            sequence,
            fingerprint,
            evaluations,
            losses,
            log,
            artifacts,
            resumed,
            notes,
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
    let limit = || option::of(0.1..1e5);
    let limits = (limit(), limit(), option::of(any::<u32>()))
        .prop_map(|(hours, stall_minutes, retries)| Limits { hours, stall_minutes, retries });
    let keep = (weights, any::<bool>(), Keep::CHECKPOINT_MINUTES_ALLOWED)
        .prop_map(|(weights, logits, checkpoint_minutes)| Keep { weights, logits, checkpoint_minutes });
    let member = (spec_hash(), vec(artifact(), 0..3), ".{0,9}").prop_map(|(spec_hash, files, host)| Member {
        spec_hash,
        files,
        host,
    });
    (
        (token(), any::<u32>(), token(), spec_hash(), ".{0,20}", spec()),
        (vec(checkpoint, 0..3), keep, limits, option::of(any::<u64>()), vec(member, 0..3)),
    )
        .prop_map(
            |(
                (token, attempt, first, spec_hash, sweep, spec),
                (checkpoints, keep, limits, kill_at, members),
            )| {
                Lease {
                    token,
                    attempt,
                    first,
                    spec_hash,
                    sweep,
                    spec,
                    checkpoints,
                    keep,
                    limits,
                    kill_at,
                    members,
                }
            },
        )
}

/// Through the bytes that are sent.
fn sent<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

/// A value as a sweep file has it, and what a program is given.
fn value() -> impl Strategy<Value = (String, String)> {
    let as_it_stands = |text: String| (text.clone(), text);
    let fraction = "[0-9]{1,9}\\.[0-9]{1,9}";
    let float = (any::<bool>(), fraction, option::of("[eE][+-]?[0-9]{1,2}"))
        .prop_map(|(negative, digits, exponent)| {
            format!("{}{digits}{}", if negative { "-" } else { "" }, exponent.unwrap_or_default())
        })
        // A number has no leading zeros in TOML.
        .prop_filter("no leading zero", |text| {
            !text.trim_start_matches('-').starts_with('0') || text.trim_start_matches('-').starts_with("0.")
        });
    let whole = prop_oneof![-(1_i64 << 53)..(1_i64 << 53), -1_000..1_000_000_i64];
    prop_oneof![
        float.prop_map(as_it_stands),
        whole.clone().prop_map(|whole| whole.to_string()).prop_map(as_it_stands),
        whole.clone().prop_map(|whole| format!("{whole:+}")).prop_map(as_it_stands),
        "[1-9][eE]-?[1-9]".prop_map(as_it_stands),
        (0..1_i64 << 53).prop_map(|whole| (format!("0x{whole:x}"), whole.to_string())),
        (0..1_i64 << 53).prop_map(|whole| (format!("0b{whole:b}"), whole.to_string())),
        (1..1_000_i64, 0..1_000_i64).prop_map(|(a, b)| (format!("{a}_{b:03}"), format!("{a}{b:03}"))),
        (1..1_000_i64, 0..1_000_i64)
            .prop_map(|(a, b)| (format!("{a}_{b:03}.5e1_0"), format!("{a}{b:03}.5e10"))),
        any::<bool>().prop_map(|flag| (flag.to_string(), flag.to_string())),
        "[^\u{0}-\u{1f}\u{7f}]{0,20}".prop_map(|text| (serde_json::to_string(&text).unwrap(), text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// From the file through both of the store's forms and the wire to the command line.
    #[test]
    fn a_value_of_a_grid_arrives_as_the_text_that_stood_in_the_file(values in vec(value(), 1..9), single in value()) {
        let mut list: Vec<(String, String)> = Vec::new();
        let number = |text: &str| text.parse::<f64>().ok();
        for (file, given) in values {
            // A value stands once on an axis; the same number is the same value.
            let is_text = file.starts_with('"');
            let twice = list.iter().any(|(other, other_given)| {
                other.starts_with('"') == is_text
                    && (*other_given == given || !is_text && number(&given).is_some() && number(other_given) == number(&given))
            });
            if !twice {
                list.push((file, given));
            }
        }
        let axis: Vec<&str> = list.iter().map(|(file, _)| file.as_str()).collect();
        let text = format!(
            "name = 'x'\n[run]\ncommand = ['run', '{{a}}', 'b={{b}}']\n[grid]\na = [{}]\nb = {}\n", axis.join(", "), single.0
        );
        let submitted = SweepSpec::parse(&text, None).unwrap();
        let stored: SweepSpec = serde_json::from_str(&serde_json::to_string(&submitted).unwrap()).unwrap();
        let worker_values = WorkerValues {
            data: "/data".into(),
            device: "cpu".into(),
            threads: 1,
            checkpoints: "/checkpoints".into(),
        };
        for (trial, (_, given)) in stored.trials().zip(&list) {
            let parameters = serde_json::to_string(&trial.point.parameters).unwrap();
            let written = serde_json::to_string(&written_numbers(&trial.point.parameters)).unwrap();
            let mut parameters: Parameters = serde_json::from_str(&parameters).unwrap();
            set_written(&mut parameters, &serde_json::from_str(&written).unwrap());
            let point = Point { parameters, ..trial.point.clone() };
            let leased: TrialSpec = sent(&v1::TrialSpec::from(&TrialSpec { point, ..trial.clone() })).try_into().unwrap();
            prop_assert_eq!(leased.hash(), trial.hash());
            let Work::Command(settings) = &leased.work else { panic!() };
            let invocation = settings.invocation(leased.hash(), &leased.point, &worker_values).unwrap();
            prop_assert_eq!(&invocation.words, &["run".to_owned(), given.clone(), format!("b={}", single.1)]);
            prop_assert_eq!(&invocation.environment["SORTIE_PARAM_A"], given);
        }
    }

    #[test]
    fn a_number_that_was_written_as_another_is_refused(value in number(), written in "[0-9]{1,3}|x| 1|1 |inf|NaN") {
        let wire = v1::Scalar { value: Some(v1::scalar::Value::Number(value)), written: written.clone() };
        let read = Scalar::try_from(wire);
        prop_assert_eq!(read.is_ok(), value.is_finite() && written.parse::<f64>() == Ok(value));
    }

    #[test]
    fn findings_arrive_as_they_were(findings in findings()) {
        let arrived: Findings = sent(&v1::Findings::from(findings.clone())).try_into().unwrap();
        prop_assert_eq!(arrived, findings);
    }

    #[test]
    fn a_lease_arrives_as_it_was(lease in lease()) {
        let arrived: Lease = sent(&v1::Lease::from(&lease)).try_into().unwrap();
        prop_assert_eq!(arrived.spec.hash(), lease.spec.hash());
        // Numbers are equal however they are written.
        prop_assert_eq!(written_numbers(&arrived.spec.point.parameters), written_numbers(&lease.spec.point.parameters));
        prop_assert_eq!(arrived, lease);
    }

    #[test]
    fn reports_and_ends_arrive_as_they_were(token in token(), batch in option::of(batch()), outcome in outcome()) {
        let completion = Completion { token, batch, outcome };
        let (batch, outcome) = (completion.batch.clone().map(Into::into), Some((&completion.outcome).into()));
        let request = v1::CompleteRequest { token: token.0, batch, outcome, ..v1::CompleteRequest::default() };
        let arrived: Completion = sent(&request).try_into().unwrap();
        prop_assert_eq!(arrived, completion);
    }
}
