use proptest::prelude::*;

use super::*;

fn lines(domains: &[&str], steps: Option<u64>) -> MetricLines {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    MetricLines::new(&CommandSettings { command: vec!["train".into()], dataset: None, domains, steps })
}

fn evaluation(method: Method, step: u64, score: Score, loss: Option<f64>) -> Event {
    Event::Evaluations(vec![Evaluation {
        method,
        step,
        domain: "sketch".into(),
        split: SplitName::Out,
        score,
        loss,
    }])
}

#[test]
fn the_documented_lines_mean_what_the_document_says() {
    let mut lines = lines(&["photo", "sketch"], Some(9));
    let progress = |step| Event::Progress(Progress { step });
    for (line, events) in [
        (r#"{"step":1}"#, vec![progress(1)]),
        (r#"{"step":1,"loss":1.9}"#, vec![Event::Losses(vec![TrainingLoss { step: 1, loss: 1.9 }])]),
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
        assert_eq!(lines.read(line.as_bytes()), Ok(Some(events)), "{line}");
    }
    // What follows divergence is output.
    assert_eq!(lines.read(br#"{"step":"x"}"#), Ok(None));
}

#[test]
fn what_is_no_metric_is_output() {
    let mut lines = lines(&[], None);
    for line in [
        "",
        "epoch 3",
        "{",
        "{'step': 3}",
        "[1]",
        "3",
        r#"{"epoch":3}"#,
        r#"{"step":3"#,
        r#"{"step":3} trailing"#,
        "{}",
        "NaN",
    ] {
        assert_eq!(lines.read(line.as_bytes()), Ok(None), "{line}");
    }
    assert_eq!(lines.read(b"{\"step\":\xff}"), Ok(None));
}

#[test]
fn every_fault_is_named_in_one_line() {
    for (line, fault) in [
        (r#"{"step":10}"#, "step 10 is after the sweep's last step, 9"),
        (r#"{"step":-1}"#, "invalid value: integer `-1`"),
        (r#"{"step":1.5}"#, "invalid type: floating point `1.5`"),
        (r#"{"step":null,"loss":1}"#, "\"step\" must be an integer"),
        (r#"{"step":1,"step":2}"#, "duplicate field `step`"),
        (r#"{"step":1,"lr":0.1}"#, "unknown field `lr`"),
        (r#"{"step":1,"loss":"high"}"#, "expected a number"),
        (r#"{"step":1,"loss":1e999}"#, "number out of range"),
        (r#"{"step":1,"domain":"sketch"}"#, "an evaluation needs \"split\""),
        (r#"{"step":1,"n":5,"correct":5}"#, "an evaluation needs \"domain\""),
        (r#"{"step":1,"domain":"sketch","split":"test","n":5,"correct":5}"#, "test"),
        (
            r#"{"step":1,"domain":"ink","split":"in","n":5,"correct":5}"#,
            "domain \"ink\" is not allowed; allowed: photo, sketch",
        ),
        (r#"{"step":1,"domain":"sketch","split":"in","correct":5}"#, "\"correct\" needs \"n\""),
        (r#"{"step":1,"domain":"sketch","split":"in","n":5,"correct":6}"#, "6 of 5 correct"),
        (r#"{"step":1,"domain":"sketch","split":"in","n":0,"correct":0}"#, "0 of 0 correct"),
        (r#"{"step":1,"domain":"sketch","split":"in","n":5}"#, "or \"value\""),
        (r#"{"step":1,"domain":"sketch","split":"in","n":5,"correct":1,"value":0.2}"#, "exclude each other"),
        (r#"{"step":1,"domain":"sketch","split":"in","value":NaN}"#, "\"value\" must be finite"),
        (r#"{"step":1,"domain":"sketch","split":"in","value":1,"method":"swa"}"#, "swa"),
        (r#"{"step":1,"diverged":{"step":1}}"#, "excludes all other keys"),
        (r#"{"diverged":true}"#, "invalid type: boolean `true`"),
    ] {
        let refused = lines(&["photo", "sketch"], Some(9)).read(line.as_bytes()).unwrap_err();
        assert!(
            refused.contains(fault) && refused.ends_with(line) && refused.lines().count() == 1,
            "{line}: {refused}"
        );
    }
    let long = format!(r#"{{"step":1,"more":"{}"}}"#, "é".repeat(1_000));
    assert!(lines(&[], None).read(long.as_bytes()).unwrap_err().len() < 1_000);
}

#[test]
fn nothing_is_reported_twice() {
    let mut lines = lines(&[], None);
    let judged = |split: &str, step: u32| {
        format!(r#"{{"step":{step},"domain":"any name","split":"{split}","value":1}}"#).into_bytes()
    };
    assert!(
        lines.read(&judged("in", 4)).is_ok()
            && lines.read(&judged("out", 4)).is_ok()
            && lines.read(&judged("in", 2)).is_ok()
    );
    assert!(
        lines
            .read(&judged("in", 4))
            .unwrap_err()
            .contains("the plain evaluation of any name/in at step 4 was reported before")
    );
    assert!(lines.read(br#"{"step":4,"loss":1}"#).is_ok());
    for step in [3, 4] {
        let again = format!(r#"{{"step":{step},"loss":1}}"#);
        assert!(
            lines
                .read(again.as_bytes())
                .unwrap_err()
                .contains("comes after that of step 4; steps must ascend")
        );
    }
    assert!(
        lines
            .read(br#"{"step":1,"domain":"a+b","split":"in","value":1}"#)
            .unwrap_err()
            .contains("no leading '.'")
    );
}

#[test]
fn a_loss_that_python_prints_as_no_number_is_divergence() {
    for loss in ["NaN", "Infinity", "-Infinity", "\"NaN\""] {
        for rest in ["", r#","domain":"NaN \" {Infinity}","split":"in","value":1"#] {
            let line = format!(r#"{{"step":3{rest},"loss":{loss}}}"#);
            assert_eq!(
                lines(&[], None).read(line.as_bytes()),
                Ok(Some(vec![Event::Outcome(Outcome::Diverged { step: 3 })])),
                "{line}"
            );
        }
    }
}

proptest! {
    /// Any line is read, passed on or refused; strings are never changed.
    #[test]
    fn no_line_is_too_odd(line in ".{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut lines = lines(&[], None);
        let _ = lines.read(line.as_bytes());
        let _ = lines.read(&bytes);
        let text = serde_json::to_string(&format!("NaN{line}Infinity")).unwrap();
        prop_assert_eq!(quote_non_numbers(&text).into_owned(), text);
    }
}
