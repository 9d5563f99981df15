//! What attempts report, to the last bit, and what is refused.

use sortie_coordinator::store::{PageRequest, Reuse, StoreError, SubmitOptions};
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{AttemptHeartbeat, Batch};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName, TrainingLoss};
use sortie_core::record::{Detail, Fingerprint, TrialRecord};

use sortie_proto::v1;

use crate::fixture::*;

pub async fn held_out_domains_never_reach_the_validation_table(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    assert_eq!(lease.spec.point.held_out, ["photo"]);
    let reports = batch(1, vec![evaluation("photo", 0, 3), evaluation("sketch", 0, 4)]);
    f.complete_with(lease.token, reports, Outcome::Succeeded).await.unwrap();
    let record = f.record(0).await;
    assert_eq!(record.state, StateName::Succeeded);
    assert_eq!(record.held_out, [evaluation("photo", 0, 3)]);
    assert_eq!(record.validation, [evaluation("sketch", 0, 4)]);
}

pub async fn reports_are_numbered_and_repeats_are_stored_once(f: Fixture) {
    f.submit(SWEEP).await;
    let token = f.claim_one().await.token;
    let first = batch(1, vec![evaluation("sketch", 0, 1)]);
    f.store.report(secret(), token, first.clone()).await.unwrap();
    f.store.report(secret(), token, first.clone()).await.unwrap();
    for early in [
        f.store.report(secret(), token, batch(3, vec![])).await,
        f.complete_with(token, batch(3, vec![]), Outcome::Succeeded).await,
    ] {
        assert!(matches!(early, Err(StoreError::Gap { expected: 2, got: 3, .. })), "{early:?}");
    }
    assert_eq!(f.count(StateName::Running).await, 1);
    let last = batch(2, vec![evaluation("sketch", 20, 2)]);
    for _ in 0..2 {
        f.complete_with(token, last.clone(), Outcome::Succeeded).await.unwrap();
    }
    assert_eq!(f.record(0).await.validation, [evaluation("sketch", 0, 1), evaluation("sketch", 20, 2)]);
    let unknown = f.store.report(secret(), AttemptToken(99), first).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no such attempt");
    assert_eq!(
        f.complete(AttemptToken(99), Outcome::Succeeded).await.unwrap_err().to_string(),
        "there is no such attempt"
    );
    assert_eq!(
        f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(AttemptToken(99), 0)]).await.unwrap(),
        [AttemptToken(99)]
    );
}

pub async fn a_batch_repeated_together_with_the_next_is_stored_once(f: Fixture) {
    f.submit(SWEEP).await;
    let token = f.claim_one().await.token;
    let first = batch(1, vec![evaluation("sketch", 0, 1)]);
    // They share a transaction.
    let parts = [first.clone(), first.clone(), batch(2, vec![evaluation("sketch", 1, 2)]), first]
        .map(|batch| f.store.report(secret(), token, batch));
    for answer in futures::future::join_all(parts).await {
        answer.unwrap();
    }
    // Whatever it holds now: that number was used. The next one is still the next one.
    f.store.report(secret(), token, batch(1, vec![evaluation("sketch", 9, 9)])).await.unwrap();
    f.complete_with(token, batch(3, vec![]), Outcome::Succeeded).await.unwrap();
    assert_eq!(f.record(0).await.validation, [evaluation("sketch", 0, 1), evaluation("sketch", 1, 2)]);
}

pub async fn numbers_are_kept_to_the_last_bit(f: Fixture) {
    f.submit(&sweep_of_all_methods()).await;
    let token = f.claim_one().await.token;
    let odd = [
        0.1 + 0.2,
        5e-324,
        f64::MIN_POSITIVE / 3.0,
        f64::MAX,
        1.0 / 3.0,
        -1e-300,
        0.0,
        -0.0,
        1.0,
        9_007_199_254_740_993.0,
        123_456.0,
    ];
    let row = |step: usize, value: f64| {
        let score =
            if step.is_multiple_of(2) { Score::Value { value, n: 0 } } else { Score::Value { value, n: 7 } };
        let loss = (!step.is_multiple_of(3)).then_some(value);
        Evaluation {
            method: Method::Ensemble,
            step: step as u64,
            domain: "cartoon".into(),
            split: SplitName::In,
            score: Some(score),
            loss,
            metrics: Default::default(),
            seconds: None,
        }
    };
    let rows: Vec<Evaluation> = odd.iter().enumerate().map(|(step, value)| row(step, *value)).collect();
    let counts = |correct| Evaluation {
        score: Some(Score::Counts { n: 3, correct }),
        loss: Some(f64::INFINITY),
        ..evaluation("sketch", 0, 0)
    };
    let losses = odd
        .iter()
        .enumerate()
        .map(|(step, loss)| TrainingLoss { step: step as u64, loss: *loss, seconds: None })
        .collect();
    let batch = Batch {
        sequence: 1,
        evaluations: [rows.clone(), vec![counts(3)]].concat(),
        losses,
        ..Batch::default()
    };
    f.complete_with(token, batch, Outcome::Succeeded).await.unwrap();
    let record = f.record(0).await;
    let bits = |row: &Evaluation| {
        (row.score.unwrap().n(), row.accuracy().unwrap().to_bits(), row.loss.map(f64::to_bits), row.step)
    };
    // Zero has no sign: adding zero takes it away, and changes nothing else.
    let parts = |row: &Evaluation| {
        (
            row.score.unwrap().n(),
            (row.accuracy().unwrap() + 0.0).to_bits(),
            row.loss.map(|loss| (loss + 0.0).to_bits()),
            row.step,
        )
    };
    assert_eq!(
        record.validation[..rows.len()].iter().map(bits).collect::<Vec<_>>(),
        rows.iter().map(parts).collect::<Vec<_>>()
    );
    assert_eq!(record.validation, [rows, vec![counts(3)]].concat());
    assert_less_detail_gives_the_same(&f, &record).await;
}

/// A request for less detail gets the same numbers without what it leaves out.
async fn assert_less_detail_gives_the_same(f: &Fixture, record: &TrialRecord) {
    let reported = async |detail| {
        f.store.records("first", PageRequest { from: 0, trials_max: 1, detail }).await.unwrap().rows.remove(0)
    };
    let scores = reported(Detail::Scores).await.validation;
    let without_loss = |row: &Evaluation| Evaluation { loss: None, seconds: None, ..row.clone() };
    assert_eq!(scores, record.validation.iter().map(without_loss).collect::<Vec<_>>());
    assert_eq!(
        scores.iter().map(|row| row.accuracy().map(f64::to_bits)).collect::<Vec<_>>(),
        record.validation.iter().map(|row| row.accuracy().map(f64::to_bits)).collect::<Vec<_>>()
    );
    let points = reported(Detail::Points).await;
    assert_eq!((points.id, points.state, points.validation.len()), (record.id, StateName::Succeeded, 0));
}

pub async fn of_two_rows_about_the_same_thing_the_first_counts(f: Fixture) {
    f.submit(SWEEP).await;
    let token = f.claim_one().await.token;
    f.store
        .report(secret(), token, batch(1, vec![evaluation("sketch", 0, 1), evaluation("sketch", 0, 2)]))
        .await
        .unwrap();
    let other_split = Evaluation { split: SplitName::In, ..evaluation("sketch", 0, 4) };
    let last = batch(
        2,
        vec![
            evaluation("sketch", 0, 3),
            other_split.clone(),
            evaluation("photo", 0, 5),
            evaluation("photo", 0, 6),
        ],
    );
    f.complete_with(token, last, Outcome::Succeeded).await.unwrap();
    let record = f.record(0).await;
    assert_eq!(record.validation, [other_split, evaluation("sketch", 0, 1)]);
    assert_eq!(record.held_out, [evaluation("photo", 0, 5)]);
}

pub async fn many_rows_in_one_batch_all_arrive_in_order(f: Fixture) {
    f.submit(&sweep_of_all_methods()).await;
    let token = f.claim_one().await.token;
    // More than one statement holds, and no power of two.
    let domains = ["art_painting", "cartoon", "sketch"];
    let rows = domains.iter().flat_map(|domain| (0..=20).map(move |step| (domain, step)));
    let mut rows: Vec<Evaluation> = rows.map(|(domain, step)| evaluation(domain, step, step % 10)).collect();
    rows.extend(rows.clone().into_iter().map(|row| Evaluation { split: SplitName::In, ..row }));
    rows.extend(rows.clone().into_iter().map(|row| Evaluation { method: Method::Average, ..row }));
    assert_eq!(rows.len(), 252);
    f.complete_with(token, batch(1, rows.clone()), Outcome::Succeeded).await.unwrap();
    rows.sort_by_key(|row| (row.method.as_str(), row.step, row.domain.clone(), row.split.as_str()));
    assert_eq!(f.record(0).await.validation, rows);
}

pub async fn what_a_trial_does_not_evaluate_is_refused(f: Fixture) {
    f.submit(SWEEP).await;
    let token = f.claim_one().await.token;
    let with = |evaluation: Evaluation| batch(1, vec![evaluation]);
    let scored = |score| with(Evaluation { score: Some(score), ..evaluation("photo", 0, 1) });
    let timed = |seconds| Batch {
        losses: vec![TrainingLoss { step: 1, loss: 1.0, seconds: Some(seconds) }],
        ..batch(1, vec![])
    };
    let lost =
        |step, loss| Batch { losses: vec![TrainingLoss { step, loss, seconds: None }], ..batch(1, vec![]) };
    let cases = [
        (with(evaluation("moon", 0, 1)), "step 0 on domain \"moon\""),
        (with(evaluation("", 0, 1)), "step 0 on domain \"\""),
        (with(evaluation("photo+sketch", 0, 1)), "step 0 on domain \"photo+sketch\""),
        (with(evaluation("photo", 21, 1)), "step 21 on domain \"photo\""),
        (lost(21, 1.0), "loss 1 at step 21"),
        (lost(1, f64::NAN), "loss NaN"),
        (timed(f64::NAN), "seconds NaN"),
        (timed(-1.0), "seconds -1"),
        (with(Evaluation { seconds: Some(f64::INFINITY), ..evaluation("photo", 0, 1) }), "seconds inf"),
        (scored(Score::Counts { n: 0, correct: 0 }), "0 of 0 correct"),
        (scored(Score::Counts { n: 3, correct: 4 }), "4 of 3 correct"),
        (scored(Score::Value { value: f64::NAN, n: 1 }), "value NaN"),
        (with(Evaluation { loss: Some(f64::NAN), ..evaluation("photo", 0, 1) }), "loss NaN"),
    ];
    for (batch, what) in cases {
        for answer in [
            f.store.report(secret(), token, batch.clone()).await,
            f.complete_with(token, batch, Outcome::Succeeded).await,
        ] {
            let error = answer.unwrap_err();
            assert!(
                matches!(error, StoreError::Foreign { .. }) && error.to_string().contains(what),
                "{what}: {error}"
            );
        }
    }
    // Nothing came of all that, and the attempt goes on.
    f.complete_with(token, batch(1, vec![evaluation("sketch", 0, 1)]), Outcome::Succeeded).await.unwrap();
    let record = f.record(0).await;
    assert_eq!((record.validation.len(), record.held_out.len()), (1, 0));
}

pub async fn a_command_may_report_any_domain_that_has_a_plain_name(f: Fixture) {
    f.submit("name = 'first'\n[run]\ncommand = ['run', '{lr}']\n[grid]\nlr = [0.1, 0.2]\n").await;
    f.store.register(&able_worker("w2")).await.unwrap();
    assert_eq!(f.claim(1).await, [], "w1 lets no sweep run programs");
    let token = f.claim_as("w2", 1).await.leases.remove(0).token;
    for bad in ["", "a\u{7}", &"x".repeat(201)] {
        let answer = f.store.report(secret(), token, batch(1, vec![evaluation(bad, 0, 1)])).await;
        assert!(matches!(answer, Err(StoreError::Foreign { .. })), "{bad}: {answer:?}");
    }
    let rows = vec![evaluation("moon", 1_000_000, 1), evaluation("rock+water", 1_000_000, 1)];
    f.complete_with(token, batch(1, rows.clone()), Outcome::Succeeded).await.unwrap();
    assert_eq!(f.record(0).await.validation, rows);
}

pub async fn what_a_program_is_given_is_what_was_submitted_first(f: Fixture) {
    f.store.register(&able_worker("w2")).await.unwrap();
    let sweep = |name: &str, values: &str| {
        format!("name = '{name}'\n[run]\ncommand = ['run', '{{lr}}']\n[grid]\nlr = {values}\nfast = true\n")
    };
    f.submit(&sweep("first", "[1e-3, 4.0]")).await;
    // The same sweep with another spelling, and another sweep with the same trials.
    f.submit(&sweep("first", "[0.001, 4, 1_000_000]")).await;
    f.submit_with(
        &sweep("second", "[0.0010, 1e6, 0.5]"),
        SubmitOptions { reuse: Reuse::Never, priority: None },
    )
    .await;
    let leases = f.claim_as("w2", 6).await.leases;
    let given = |of: &str| -> Vec<String> {
        let leases = leases.iter().filter(|lease| lease.sweep == of);
        leases.map(|lease| lease.spec.point.parameters["lr"].argument()).collect()
    };
    assert_eq!(given("first"), ["1e-3", "4.0", "1000000"]);
    assert_eq!(given("second"), ["1e-3", "1000000", "0.5"]);
    // What is shown, and what SQL reads, is the number.
    let shown = f.store.trials("first", None, 0).await.unwrap().rows;
    let shown: Vec<_> = shown.iter().map(|line| line.point.parameters["lr"].to_string()).collect();
    assert_eq!(shown, ["1e-3", "4", "1e6"]);
}

pub async fn notes_about_an_attempts_output_are_part_of_its_history(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    let notes = vec!["3 lines look\nlike metrics".to_owned(), "x".repeat(10_000)];
    let noted = Batch { notes, ..batch(1, vec![evaluation("sketch", 0, 3)]) };
    // Repeated, they are noted once.
    f.pass(1);
    f.store.report(secret(), lease.token, noted.clone()).await.unwrap();
    f.pass(1);
    f.complete_with(lease.token, noted, Outcome::Succeeded).await.unwrap();
    let events = f.store.history(&lease.spec_hash.to_string()).await.unwrap().events;
    let told: Vec<_> =
        events.iter().map(|event| (event.token, event.what.as_str(), event.detail.len())).collect();
    let token = Some(lease.token);
    assert_eq!(told[1..3], [(token, "noted", 25), (token, "noted", 4_096)], "{told:?}");
    assert_eq!((events[1].detail.as_str(), told.len()), ("3 lines look like metrics", 4));
}

fn able_worker(id: &str) -> sortie_coordinator::store::Worker {
    let mut worker = worker(id);
    worker.abilities.commands = true;
    worker
}

pub async fn absurd_numbers_and_texts_hurt_nobody_else(f: Fixture) {
    f.submit(SWEEP).await;
    let leases = f.claim(4).await;
    let fingerprint =
        Fingerprint { device: "a\0b\n\"c\"".into(), software: "\u{1}é".into(), ..Fingerprint::default() };
    let odd =
        Batch { sequence: 1, fingerprint: Some(fingerprint), log: vec![0, 255, 10], ..Batch::default() };
    let message = "tab\tnul\0bell\u{7} é".to_owned();
    let message = Outcome::Failed { class: ErrorClass::BadConfig, message };
    // They share a transaction with requests that are in order.
    let (heartbeat, report, end, claim, fine) = tokio::join!(
        f.store.heartbeat(secret(), "w1", vec![AttemptHeartbeat::at(leases[0].token, u64::MAX)]),
        f.store.report(secret(), leases[1].token, odd),
        f.complete(leases[2].token, message),
        f.store.claim(claim("w\0", 1), std::time::Duration::ZERO),
        f.complete_with(leases[3].token, batch(1, vec![evaluation("photo", 0, 1)]), Outcome::Succeeded),
    );
    fine.unwrap();
    assert_eq!(heartbeat.unwrap(), []);
    report.unwrap();
    end.unwrap();
    assert!(claim.is_err());
    assert_eq!(f.record(3).await.validation, [evaluation("photo", 0, 1)]);
    let line = f.store.trials("first", Some(StateName::Failed), 0).await.unwrap().rows.remove(0);
    assert_eq!(line.error, "bad-config: tab nul bell  é");
    assert_eq!(
        f.store.trials("first", None, 0).await.unwrap().rows[0].step,
        20,
        "no trial is further than its last step"
    );
    assert_eq!(f.store.log_text(&leases[1].spec_hash.to_string(), None).await.unwrap(), [0, 255, 10]);
}

/// The first batch of an attempt whose machine has these.
pub fn reported(dataset: &str, weights: &str) -> Batch {
    let fingerprint = Fingerprint {
        dataset_digest: dataset.into(),
        weights_digest: weights.into(),
        ..Fingerprint::default()
    };
    Batch { sequence: 1, fingerprint: Some(fingerprint), ..Batch::default() }
}

pub async fn other_data_under_the_same_name_is_the_machines_fault(f: Fixture) {
    f.submit(&large_sweep(2)).await;
    let mut leases = f.claim(5).await.into_iter();
    let (first, concurrent) = (leases.next().unwrap().token, leases.next().unwrap().token);
    f.store.report(secret(), first, reported("a", "w")).await.unwrap();
    // Nothing is pinned before an attempt is accepted.
    f.store.report(secret(), concurrent, reported("b", "w")).await.unwrap();
    f.succeed(first).await;
    f.succeed(concurrent).await;
    let late = leases.next().unwrap().token;
    assert!(is_stale(&f.store.report(secret(), late, reported("c", "w")).await));
    let other_weights = leases.next().unwrap().token;
    assert!(
        f.complete_with(other_weights, reported("a", "x"), Outcome::Succeeded).await.is_ok(),
        "the attempt has nothing to correct"
    );
    // It is the machine's fault: the trials wait for another one.
    assert_eq!((f.count(StateName::Succeeded).await, f.count(StateName::Failed).await), (1, 0));
    let lines = f.store.trials("first", Some(StateName::Queued), 0).await.unwrap().rows;
    let why = |what: &str, digest: &str, pinned: &str| {
        format!(
            "machine: the {what} on this worker has digest {digest}, but earlier results were made with {pinned}"
        )
    };
    let expected = [
        why("dataset of PACS", "b", "a"),
        why("dataset of PACS", "c", "a"),
        why("weights of efficientnet-lite0", "x", "w"),
    ];
    let errors: Vec<String> =
        lines.into_iter().map(|line| line.error).filter(|error| !error.is_empty()).collect();
    assert_eq!(errors, expected);
    // One that ended before it read anything has nothing to compare; one with the right data is fine; it is known after a restart.
    let f = f.restart().await;
    let last = leases.next().unwrap().token;
    f.complete_with(last, reported("a", "w"), Outcome::Succeeded).await.unwrap();
    // That the machine succeeded shows that it is fit again.
    f.succeed(f.claim_one().await.token).await;
    assert_eq!(f.count(StateName::Succeeded).await, 3);
}

pub async fn of_two_that_would_pin_a_name_at_once_one_does(f: Fixture) {
    f.submit(SWEEP).await;
    let leases = f.claim(2).await;
    let ends = [("a", &leases[0]), ("b", &leases[1])]
        .map(|(digest, lease)| f.complete_with(lease.token, reported(digest, ""), Outcome::Succeeded));
    for answer in futures::future::join_all(ends).await {
        answer.unwrap();
    }
    assert_eq!((f.count(StateName::Succeeded).await, f.count(StateName::Queued).await), (1, 3));
}

pub async fn logs_are_read_in_order_by_attempt(f: Fixture) {
    f.submit(SWEEP).await;
    let printed =
        |sequence, text: &str| Batch { sequence, log: text.as_bytes().to_vec(), ..Batch::default() };
    let first = f.claim_one().await;
    let name = first.spec_hash.to_string();
    for (sequence, text) in (1..).zip(["one ", "", "two ", "three"]) {
        f.store.report(secret(), first.token, printed(sequence, text)).await.unwrap();
    }
    f.fail(first.token, ErrorClass::Preempted).await;
    let second = f.claim_one().await;
    assert_eq!(f.store.log_text(&name, None).await.unwrap(), b"");
    f.store.report(secret(), second.token, printed(1, "four")).await.unwrap();
    let log = f.store.log(&name, None).await.unwrap();
    assert_eq!(
        (log.token, log.worker.as_str(), f.store.log_text(&name, None).await.unwrap().as_slice()),
        (Some(second.token), "host:7", b"four".as_slice())
    );
    assert_eq!(f.store.log_text(&name, Some(first.token)).await.unwrap(), b"one two three");
    assert!(matches!(
        f.store.log(&name, Some(AttemptToken(1))).await,
        Err(StoreError::UnknownToken(AttemptToken(1)))
    ));
    let never = f.store.trials("first", Some(StateName::Queued), 0).await.unwrap().rows[0].spec_hash;
    assert_eq!(
        f.store.log(&never.to_string(), None).await.unwrap(),
        sortie_coordinator::store::Log::default()
    );
}

/// The beginning and the end are kept, and a line says how much is missing between them.
pub async fn of_a_log_without_end_the_middle_is_left_out(f: Fixture) {
    f.submit(SWEEP).await;
    let lease = f.claim_one().await;
    let name = lease.spec_hash.to_string();
    let printed = |sequence: u64| {
        let line = format!("{sequence:09}\n");
        Batch { sequence, log: line.repeat((1 << 18) / 10).into_bytes(), ..Batch::default() }
    };
    for sequence in 1..=110 {
        f.store.report(secret(), lease.token, printed(sequence)).await.unwrap();
    }
    let log = f.store.log(&name, None).await.unwrap();
    // A little less than 256 KiB each: 64 of them are the first 16 MiB, and the last 32 are kept.
    assert_eq!((log.cut, log.left_out), (Some(64), (110 - 64 - 32) * 262_140));
    let text = String::from_utf8(f.store.log_text(&name, None).await.unwrap()).unwrap();
    let (head, tail) = text.split_once("\n\n[3669960 bytes of output are left out here]\n").unwrap();
    assert!(head.starts_with("000000001\n") && head.ends_with("000000064") && head.len() == 64 * 262_140 - 1);
    assert!(tail.starts_with("000000079\n") && tail.ends_with("000000110\n") && tail.len() == 32 * 262_140);
    let part = f.store.log_part(&log, 0).await.unwrap().unwrap();
    assert_eq!((part.text.len(), part.last), (16 * 262_140, 16));
}

/// Named metrics come back to the last bit, on training domains and on held-out ones apart; accuracy may be missing.
pub async fn named_metrics_are_kept_apart_and_to_the_last_bit(f: Fixture) {
    f.submit(SWEEP).await;
    let token = f.claim_one().await.token;
    let metrics = |first: f64| [("f1".to_owned(), first), ("train/nll".to_owned(), 1e-310)].into();
    let named = |domain: &str, first| Evaluation { metrics: metrics(first), ..evaluation(domain, 0, 4) };
    let bare = Evaluation { score: None, loss: None, ..named("cartoon", -0.0) };
    let odd = f64::from_bits(0.1_f64.to_bits() + 1);
    let evaluations = vec![bare, named("photo", 0.5), named("sketch", odd)];
    let losses = vec![TrainingLoss { step: 0, loss: odd, seconds: None }];
    let batch = Batch { sequence: 1, evaluations, losses, ..Batch::default() };
    f.complete_with(token, batch, Outcome::Succeeded).await.unwrap();
    let record = f.record(0).await;
    assert_eq!(record.held_out, [named("photo", 0.5)]);
    assert_eq!(
        record.validation,
        [
            Evaluation { metrics: metrics(0.0), score: None, loss: None, ..evaluation("cartoon", 0, 4) },
            named("sketch", odd)
        ]
    );
    assert_eq!(record.validation[0].metrics["f1"].to_bits(), 0, "zero has no sign");
    let page = PageRequest { from: 0, trials_max: 1, detail: Detail::Scores };
    let scores = f.store.records("first", page).await.unwrap().rows.remove(0);
    assert_eq!(scores.validation, record.validation.iter().map(plain).collect::<Vec<_>>());
    // What tables are made of goes over the wire, also where nothing of an evaluation is left.
    let sent = v1::Evaluation::from(&scores.validation[0]);
    assert_eq!(Evaluation::try_from(sent).unwrap(), plain(&record.validation[0]));
    let token = f.claim_one().await.token;
    let nothing = Evaluation { score: None, loss: None, ..evaluation("cartoon", 0, 4) };
    let batch = Batch { sequence: 1, evaluations: vec![nothing], ..Batch::default() };
    let refused = f.store.report(secret(), token, batch).await.unwrap_err().to_string();
    assert!(refused.contains("no number"), "{refused}");
}

fn plain(row: &Evaluation) -> Evaluation {
    Evaluation { loss: None, metrics: Default::default(), seconds: None, ..row.clone() }
}
