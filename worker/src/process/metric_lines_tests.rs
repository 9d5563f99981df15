use proptest::prelude::*;

use super::*;
use sortie_core::job::ErrorClass;
use sortie_core::metrics::{METRICS_MAX, Score};

fn lines(domains: &[&str], steps: Option<u64>) -> MetricLines {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    MetricLines::new(&CommandSettings {
        command: vec!["train".into()],
        dataset: None,
        domains,
        steps,
        complete_at: None,
    })
}

fn evaluation(method: Method, step: u64, score: Score, loss: Option<f64>) -> Event {
    Event::Evaluations(vec![Evaluation {
        method,
        step,
        domain: "sketch".into(),
        split: SplitName::Out,
        score: Some(score),
        loss,
        metrics: BTreeMap::new(),
        seconds: None,
    }])
}

fn progress(step: u64) -> Event {
    Event::Progress(Progress { step })
}

fn loss(step: u64, loss: f64) -> Event {
    Event::Losses(vec![TrainingLoss { step, loss, seconds: None }])
}

fn plain(line: &[u8]) -> Result<Reading, String> {
    Ok(Reading { events: Vec::new(), output: Some(line.to_vec()) })
}

fn events(events: Vec<Event>) -> Result<Reading, String> {
    Ok(Reading { events, output: None })
}

/// An evaluation of a domain on step 0.
fn good() -> &'static [u8] {
    br#"{"step":0,"domain":"sketch","split":"in","value":1.0}"#
}

#[test]
fn the_documented_lines_mean_what_the_document_says() {
    let mut lines = lines(&["photo", "sketch"], Some(9));
    for (line, expected) in [
        (r#"{"step":1}"#, vec![progress(1)]),
        (r#"{"step":1,"loss":1.9}"#, vec![loss(1, 1.9)]),
        (
            r#"  {"step":3,"domain":"sketch","split":"out","n":100,"correct":20} "#,
            vec![evaluation(Method::Plain, 3, Score::Counts { n: 100, correct: 20 }, None), progress(3)],
        ),
        (
            r#"{"value":0.2,"step":3,"domain":"sketch","split":"out","method":"average","loss":2}"#,
            vec![evaluation(Method::Average, 3, Score::Value { value: 0.2, n: 0 }, Some(2.0))],
        ),
        (
            r#"{"value":0.2,"n":5,"step":3,"domain":"sketch","split":"out","method":"ensemble"}"#,
            vec![evaluation(Method::Ensemble, 3, Score::Value { value: 0.2, n: 5 }, None)],
        ),
        (r#"{"diverged":{"step":7}}"#, vec![Event::Outcome(Outcome::Diverged { step: 7 })]),
    ] {
        assert_eq!(lines.read(line.as_bytes()), events(expected), "{line}");
    }
    // What follows divergence is output.
    assert_eq!(lines.read(br#"{"step":"x"}"#), plain(br#"{"step":"x"}"#));
    assert_eq!(lines.notes(), [""; 0]);
}

#[test]
fn numbers_may_be_spelled_as_programs_do() {
    let mut lines = lines(&[], None);
    assert_eq!(lines.read(br#"{"step": 10.0, "loss": "2.5"}"#), events(vec![loss(10, 2.5), progress(10)]));
    assert_eq!(lines.read(br#"{"step": "11", "loss": 2}"#), events(vec![loss(11, 2.0), progress(11)]));
    assert_eq!(
        lines.read(br#"{"step": "12.0", "domain": "sketch", "split": "out", "n": 1e2, "correct": "20"}"#),
        events(vec![
            evaluation(Method::Plain, 12, Score::Counts { n: 100, correct: 20 }, None),
            progress(12)
        ])
    );
    assert_eq!(lines.notes(), [""; 0]);
}

#[test]
fn a_metric_is_found_beside_whatever_else_stands_on_its_line() {
    let bar = "\x1b[32m 33%|###   | 100/300 [00:01<00:02, 90.1it/s]\x1b[0m";
    let metric = r#"{"step":1,"loss":1.5}"#;
    for (line, output) in [
        (format!("\x1b[1m{metric}\x1b[0m"), None),
        (format!("{bar}{metric}"), Some(" 33%|###   | 100/300 [00:01<00:02, 90.1it/s]")),
        (format!("[rank 0 {{a}}] INFO it's \"{metric} ok"), Some("[rank 0 {a}] INFO it's \" ok")),
        (format!("{metric} {{\"epoch\":1}}"), Some(" {\"epoch\":1}")),
    ] {
        let read = lines(&[], None).read(line.as_bytes()).unwrap();
        assert_eq!(read.events, [loss(1, 1.5), progress(1)], "{line}");
        assert_eq!(read.output.map(|output| String::from_utf8(output).unwrap()).as_deref(), output, "{line}");
    }
    let read = lines(&[], None).read(br#"{"step":1,"loss":1.5} {"step":2,"loss":1.25}"#);
    assert_eq!(read, events(vec![loss(1, 1.5), progress(1), loss(2, 1.25), progress(2)]));
}

#[test]
fn what_is_no_metric_is_output() {
    let mut lines = lines(&[], None);
    for line in [
        "",
        "epoch 3",
        "{",
        "[1]",
        "3",
        "{}",
        "NaN",
        r#"{"epoch":3}"#,
        r#"{"loss":"ce","steps":5}"#,
        "in step: 3 {x}",
        r#"the "step": 3"#,
        "caf\u{e9}",
        "\x1b[34mhello\x1b[0m",
    ] {
        assert_eq!(lines.read(line.as_bytes()), plain(line.as_bytes()), "{line}");
    }
    assert_eq!(lines.read(b"caf\xe9 \xff\xfe"), plain(b"caf\xe9 \xff\xfe"));
    assert_eq!(lines.notes(), [""; 0]);
    let Some(Outcome::Failed { class: ErrorClass::BadConfig, message }) = lines.lacks() else { panic!() };
    assert!(message.contains("printed no metrics"), "{message}");
}

#[test]
fn what_looks_like_a_metric_and_cannot_be_read_is_counted_and_is_the_reason_where_nothing_else_comes() {
    for (line, fault) in [
        (r#"{"step":-1}"#, "invalid value: integer `-1`, expected a whole number, at least 0"),
        (r#"{"step":1.5}"#, "invalid value: floating point `1.5`"),
        (r#"{"step":null,"loss":1}"#, "\"step\" must be a whole number"),
        (r#"{"step":1,"step":2}"#, "duplicate field `step`"),
        (r#"{"step":1,"loss":"high"}"#, "expected a number"),
        (r#"{"step":1,"domain":"sketch"}"#, "an evaluation needs \"split\""),
        (r#"{"metric":"accuracy","value":0.985,"step":3}"#, "an evaluation needs \"domain\""),
        (
            r#"{"step":1,"domain":"sketch","split":"val","n":5,"correct":5}"#,
            "\"val\" is not a split; allowed: in, out",
        ),
        (r#"{"step":1,"domain":"sketch","split":"in","correct":5}"#, "\"correct\" needs \"n\""),
        (r#"{"step":1,"domain":"sketch","split":"in","n":5,"correct":6}"#, "6 of 5 correct"),
        (r#"{"step":1,"domain":"sketch","split":"in","n":0,"correct":0}"#, "0 of 0 correct"),
        (r#"{"step":1,"domain":"sketch","split":"in","n":5}"#, "or \"metrics\""),
        (
            r#"{"step":1,"domain":"sketch","split":"in","n":5,"correct":1,"value":0.2}"#,
            "\"correct\" excludes \"value\"",
        ),
        (r#"{"step":1,"domain":"sketch","split":"in","value":NaN}"#, "\"value\" must be finite"),
        (r#"{"step":1,"domain":"sketch","split":"in","value":1,"method":"swa"}"#, "swa"),
        (r#"{"domain":"sketch","split":"in","value":1}"#, "\"step\" is missing"),
        ("{'loss': 1.2, 'step': 10}", "it is no JSON object"),
        (r#"{"step":3"#, "it is no JSON object"),
        (r#""step": 3,"#, "it is no JSON object"),
        (r#"{"step":1,"loss":1e999}"#, "number out of range"),
    ] {
        let mut lines = lines(&["photo", "sketch"], Some(9));
        assert_eq!(lines.read(line.as_bytes()), plain(line.as_bytes()), "{line}");
        let Some(Outcome::Failed { class: ErrorClass::BadConfig, message }) = lines.lacks() else { panic!() };
        assert!(message.contains(fault) && message.ends_with(line), "{line}: {message}");
        // With an evaluation the line is counted, and the trial succeeds.
        assert!(lines.read(good()).is_ok() && lines.lacks().is_none());
        let notes = lines.notes();
        assert!(
            notes.len() == 1
                && notes[0].starts_with("1 line looks like a metric and cannot be read; the first: ")
                && notes[0].contains(fault)
                && notes[0].ends_with(line),
            "{notes:?}"
        );
    }
    let mut odd = lines(&[], None);
    assert!(
        odd.read(b"{\"step\":1,\"domain\":\"caf\xe9\",\"split\":\"in\",\"value\":1}")
            .unwrap()
            .events
            .is_empty()
    );
    assert!(odd.notes()[0].contains("it is no UTF-8"));
    let long = format!(r#"{{"step":-1,"more":"{}"}}"#, "é".repeat(1_000));
    let mut lines = lines(&[], None);
    assert!(lines.read(long.as_bytes()).is_ok() && lines.notes()[0].len() < 1_000);
}

#[test]
fn what_contradicts_the_sweep_file_or_ends_a_run_in_an_unreadable_way_fails_the_trial() {
    for (line, fault) in [
        (r#"{"step":10}"#, "step 10 is after the sweep's last step, 9"),
        (
            r#"{"step":1,"domain":"ink","split":"in","n":5,"correct":5}"#,
            "domain \"ink\" is not allowed; allowed: photo, sketch",
        ),
        (r#"{"step":1,"diverged":{"step":1}}"#, "excludes all other keys"),
        (r#"{"diverged":true}"#, "invalid type: boolean `true`"),
    ] {
        let refused = lines(&["photo", "sketch"], Some(9)).read(line.as_bytes()).unwrap_err();
        assert!(
            refused.contains(fault) && refused.ends_with(line) && refused.lines().count() == 1,
            "{line}: {refused}"
        );
    }
}

fn named(step: u64, score: Option<Score>, loss: Option<f64>, metrics: &[(&str, f64)]) -> Event {
    let metrics = metrics.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
    let (method, domain, split) = (Method::Plain, "sketch".to_owned(), SplitName::Out);
    Event::Evaluations(vec![Evaluation { method, step, domain, split, score, loss, metrics, seconds: None }])
}

#[test]
fn an_evaluation_may_have_named_numbers() {
    let mut lines = lines(&[], None);
    let value = |value| Some(Score::Value { value, n: 0 });
    for (step, numbers, expected) in [
        (1, r#""value":0.5,"f1":0.25"#, named(1, value(0.5), None, &[("f1", 0.25)])),
        (
            2,
            r#""metrics":{"accuracy":0.81,"f1":0.7,"nll":0.9}"#,
            named(2, value(0.81), None, &[("f1", 0.7), ("nll", 0.9)]),
        ),
        (3, r#""metrics":{"rmse":3},"loss":0.5"#, named(3, None, Some(0.5), &[("rmse", 3.0)])),
        (
            4,
            r#""accuracy":1,"train/loss":2,"metrics":{"loss":0.25}"#,
            named(4, value(1.0), Some(0.25), &[("train/loss", 2.0)]),
        ),
    ] {
        let line = format!(r#"{{"step":{step},"domain":"sketch","split":"out",{numbers}}}"#);
        assert_eq!(lines.read(line.as_bytes()), events(vec![expected, progress(step)]), "{line}");
    }
    assert_eq!(lines.notes(), [""; 0]);
    // The same again is nothing new, other numbers for the same evaluation are refused.
    let again = |f1: f64| format!(r#"{{"step":1,"domain":"sketch","split":"out","value":0.5,"f1":{f1}}}"#);
    assert_eq!(lines.read(again(0.25).as_bytes()), events(vec![]));
    assert_eq!(lines.read(again(0.5).as_bytes()), events(vec![]));
    assert_eq!(lines.notes(), ["1 value on a metric line was passed over: f1 (1)"]);
    let refused =
        lines.read(br#"{"step":3,"domain":"sketch","split":"out","metrics":{"rmse":4}}"#).unwrap_err();
    assert!(refused.contains("reported before, with other numbers"), "{refused}");
    let many: Vec<String> = (0..70).map(|index| format!(r#""m{index:02}":1"#)).collect();
    let line = format!(r#"{{"step":5,"domain":"sketch","split":"out","value":1,{}}}"#, many.join(","));
    let read = lines.read(line.as_bytes()).unwrap().events;
    assert!(matches!(&read[0], Event::Evaluations(rows) if rows[0].metrics.len() == METRICS_MAX));
    for (numbers, reason) in [
        (r#""value":1,"accuracy":1"#, "exclude each other"),
        (r#""correct":1,"n":2,"accuracy":0.5"#, "excludes"),
        (r#""metrics":{"f1":"high"}"#, "an evaluation needs"),
    ] {
        let line = format!(r#"{{"step":9,"domain":"sketch","split":"out",{numbers}}}"#);
        let mut lines = self::lines(&[], None);
        assert_eq!(lines.read(line.as_bytes()), plain(line.as_bytes()));
        assert!(lines.notes()[0].contains(reason), "{:?}", lines.notes());
    }
}

#[test]
fn what_is_no_number_is_counted_and_passed_over() {
    let mut lines = lines(&[], None);
    let line =
        br#"{"step":3,"domain":"sketch","split":"out","value":0.5,"f1":NaN,"lr":"0.1","time":[1],"auc":0.5,"metrics":{"loss":NaN}}"#;
    let expected = named(3, Some(Score::Value { value: 0.5, n: 0 }), None, &[("auc", 0.5)]);
    assert_eq!(lines.read(line), events(vec![expected, progress(3)]));
    let line = br#"{"step":4,"domain":"sketch","split":"out","metrics":{"accuracy":NaN,"auc":0.25}}"#;
    assert_eq!(lines.read(line), events(vec![named(4, None, None, &[("auc", 0.25)]), progress(4)]));
    assert_eq!(lines.read(br#"{"train/loss":0.04,"step":1740,"f1":0}"#), events(vec![progress(1740)]));
    assert_eq!(
        lines.read(br#"{"diverged":{"step":1741,"why":"x"},"f1":1}"#),
        events(vec![Event::Outcome(Outcome::Diverged { step: 1741 })])
    );
    assert_eq!(
        lines.notes(),
        [
            "8 values on metric lines were passed over: accuracy, no finite number (1), f1 (2), f1, no finite number (1), loss, no finite number (1), lr (1), time (1), train/loss (1)"
        ]
    );
}

#[test]
fn a_line_that_lacks_only_its_step_is_shown_where_nothing_was_reported() {
    let mut lines = lines(&[], None);
    assert!(lines.read(br#"{"config":"a"}"#).is_ok());
    let line = br#"{"epoch":3,"acc":0.9}"#;
    assert_eq!(lines.read(line), plain(line));
    assert_eq!(lines.notes(), [""; 0]);
    let Some(Outcome::Failed { message, .. }) = lines.lacks() else { panic!() };
    assert!(message.contains(r#"; this line has no "step": {"epoch":3,"acc":0.9}; docs"#), "{message}");
}

#[test]
fn of_two_training_losses_the_first_counts_and_an_evaluation_has_one_value() {
    let mut lines = lines(&[], None);
    let judged = |split: &str, step: u32, value: &str| {
        format!(r#"{{"step":{step},"domain":"any + name","split":"{split}","value":{value}}}"#).into_bytes()
    };
    for line in [judged("in", 4, "1"), judged("out", 4, "1"), judged("in", 2, "1")] {
        assert_eq!(
            lines
                .read(&line)
                .unwrap()
                .events
                .iter()
                .filter(|event| matches!(event, Event::Evaluations(_)))
                .count(),
            1
        );
    }
    assert_eq!(lines.read(&judged("in", 4, "1.0")), events(vec![]));
    let refused = lines.read(&judged("in", 4, "0.5")).unwrap_err();
    assert!(
        refused.contains("the plain evaluation of any + name/in at step 4 was reported before, as 1"),
        "{refused}"
    );
    assert_eq!(lines.notes(), [""; 0]);

    assert_eq!(lines.read(br#"{"step":4,"loss":1}"#), events(vec![loss(4, 1.0)]));
    for step in [4, 3] {
        assert_eq!(lines.read(format!(r#"{{"step":{step},"loss":0.5}}"#).as_bytes()), events(vec![]));
    }
    assert_eq!(lines.read(br#"{"step":5,"loss":0.5}"#), events(vec![loss(5, 0.5), progress(5)]));
    assert_eq!(
        lines.notes(),
        ["2 training losses were passed over; the first: step 4 has one already, which counts"]
    );
    let mut lines = self::lines(&[], None);
    assert!(lines.read(br#"{"step":1,"domain":"a/b","split":"in","value":1}"#).is_ok());
    assert!(lines.notes()[0].contains("no leading '.'"));
}

#[test]
fn a_trial_that_must_reach_a_step_is_incomplete_below_it() {
    let mut lines = lines(&[], None);
    lines.complete_at = Some(30);
    let incomplete = |lines: &MetricLines, newest: &str| {
        let Some(Outcome::Failed { class: ErrorClass::Transient, message }) = lines.lacks() else { panic!() };
        assert!(
            message.starts_with("incomplete: ") && message.contains(newest) && message.ends_with("is 30"),
            "{message}"
        );
    };
    incomplete(&lines, "no step");
    assert!(lines.read(good()).is_ok());
    incomplete(&lines, "step 0");
    assert!(lines.read(br#"{"step":29}"#).is_ok());
    incomplete(&lines, "step 29");
    assert!(lines.read(br#"{"step":30.0}"#).is_ok());
    assert_eq!(lines.lacks(), None);
}

#[test]
fn a_loss_that_python_prints_as_no_number_is_divergence() {
    for loss in ["NaN", "Infinity", "-Infinity", "\"NaN\"", "\"inf\""] {
        for rest in ["", r#","domain":"NaN \" {Infinity}","split":"in","value":1"#] {
            let line = format!(r#"{{"step":3{rest},"loss":{loss}}}"#);
            assert_eq!(
                lines(&[], None).read(line.as_bytes()),
                events(vec![Event::Outcome(Outcome::Diverged { step: 3 })]),
                "{line}"
            );
        }
    }
}

proptest! {
    /// Any line is read, passed on or refused.
    #[test]
    fn no_line_is_too_odd(line in ".{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut lines = lines(&[], None);
        let _ = lines.read(line.as_bytes());
        let _ = lines.read(&bytes);
    }

    /// Whatever stands around it, a metric is read, and nothing of the rest is lost.
    #[test]
    fn no_neighbour_hides_a_metric(before in "[^{}\u{1b}\r\n]{0,40}", after in "[^{}\u{1b}\r\n]{0,40}", value in 0.0..1.0_f64) {
        let line = format!(r#"{before}{{"step":1,"loss":{value}}}{after}"#);
        let read = lines(&[], None).read(line.as_bytes()).unwrap();
        prop_assert_eq!(read.events, vec![loss(1, value), progress(1)]);
        let rest = format!("{before}{after}").trim_end().to_owned();
        prop_assert_eq!(read.output, Some(rest.into_bytes()).filter(|rest| !rest.is_empty()));
    }
}

/// What an attempt printed up to the evaluation after step 2.
fn earlier() -> Option<Earlier> {
    let score = |step| evaluation(Method::Plain, step, Score::Counts { n: 10, correct: step }, None);
    let events = vec![loss(0, 0.5), score(0), loss(1, 0.25), loss(2, 0.125), score(2)];
    Some(Earlier { attempt: AttemptToken(7), events })
}

fn resumed(step: u64) -> Event {
    Event::Resumed(Resumed { token: AttemptToken(7), step, exact: true })
}

#[test]
fn what_earlier_attempts_printed_before_the_first_step_is_part_of_the_result() {
    let score = evaluation(Method::Plain, 0, Score::Counts { n: 10, correct: 0 }, None);
    let losses = |steps: &[(u64, f64)]| {
        Event::Losses(
            steps
                .iter()
                .map(|(step, loss)| TrainingLoss { step: *step, loss: *loss, seconds: None })
                .collect(),
        )
    };
    let Event::Evaluations(first) = score else { panic!() };
    let mut going_on = lines(&["sketch"], Some(9)).after(earlier());
    assert_eq!(going_on.read(b"loading"), plain(b"loading"));
    let said = going_on.read(br#"{"step":2,"loss":0.125}"#).unwrap().events;
    let taken = [resumed(1), losses(&[(0, 0.5), (1, 0.25)]), Event::Evaluations(first.clone())];
    assert_eq!(said, [&taken[..], &[loss(2, 0.125), progress(2)]].concat());
    assert_eq!(going_on.read(br#"{"step":3}"#), events(vec![progress(3)]), "they are given once");
    // It was evaluated already, so nothing is lacking; a repeated evaluation must have the same accuracy.
    assert_eq!(going_on.lacks(), None);
    let other = br#"{"step":0,"domain":"sketch","split":"out","value":0.5}"#;
    assert!(going_on.read(other).unwrap_err().contains("was reported before"));
    assert_eq!(going_on.notes(), [""; 0]);

    // A line that cannot be read is no first step.
    let mut going_on = lines(&["sketch"], Some(9)).after(earlier());
    let summary = going_on.read(br#"{"step":2,"accuracy":0.5}"#).unwrap();
    assert_eq!(summary.events, []);
    let said = going_on.read(br#"{"step":2,"loss":0.125}"#).unwrap().events;
    assert_eq!(said, [&taken[..], &[loss(2, 0.125), progress(2)]].concat());

    // A program that begins again, and one that had nothing left to print.
    let mut again = lines(&["sketch"], Some(9)).after(earlier());
    assert_eq!(again.read(br#"{"step":0,"loss":1.5}"#), events(vec![loss(0, 1.5), progress(0)]));
    assert_eq!(again.take_up(None), []);
    let mut done = lines(&["sketch"], Some(9)).after(earlier());
    let rest = done.take_up(None);
    assert_eq!((rest.len(), &rest[0], done.lacks()), (3, &resumed(2), None));
}
