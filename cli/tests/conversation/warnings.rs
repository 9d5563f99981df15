//! What `plan` and `submit` warn of, and what cannot be selected by.

use std::fs;

use serde_json::json;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Work;
use sortie_proto::v1;

use crate::script::{Coordinator, Script};

const SHORT: &str = "name = \"s\"\n[data]\ndataset = \"PACS\"\n[model]\nbackbone = \"resnet50-v2\"\n[train]\nsteps = 100\n\
                     milestones = [200]\n[require]\ntags = [\"a100\"]\n[grid]\ndropout = 0\nlr = 1e-3\nweight_decay = 0\n";

#[test]
fn plan_and_submit_warn_of_the_file_and_of_the_workers_and_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.toml");
    fs::write(&file, SHORT).unwrap();
    let path = file.to_str().unwrap();
    let of_file = "warning: train.evaluate_every is 300, the default, and train.steps 100: a trial is evaluated at steps 0 and 100 only\n\
                   warning: train.milestones has 200, after the last step, 100: the learning rate does not change there\n";
    let of_workers = "warning: no worker may run its trials now: no worker has tag a100\n\
                      warning: machine b was quarantined for dataset PACS: the dataset of PACS on this worker has digest 1\n";
    let outlook = v1::OutlookResponse {
        waits_for: "no worker has tag a100".into(),
        faults: vec![
            "machine b was quarantined for dataset PACS: the dataset of PACS on this worker has digest 1"
                .into(),
        ],
    };
    let progress = |reused| v1::SubmitProgress {
        sweep: "s".into(),
        planned: 4,
        expanded: 4,
        added: 4,
        reused,
        done: true,
        lacking: None,
    };
    let script = Script { outlook, progress: vec![progress(1)], ..Script::default() };
    let coordinator = Coordinator::start(script.clone());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    for (words, first) in
        [(["plan", path], "sweep s: 4 trials\n"), (["submit", path], "sweep s: 4 trials submitted")]
    {
        let output = coordinator.run(&words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(text(output.stdout).starts_with(first), "{words:?}");
        assert_eq!(text(output.stderr), format!("{of_file}{of_workers}"), "{words:?}");
    }
    let lines: Vec<&str> = of_file
        .lines()
        .chain(of_workers.lines())
        .map(|line| line.strip_prefix("warning: ").unwrap())
        .collect();
    assert_eq!(coordinator.json(&["plan", path])["warnings"], json!(lines));
    // What has succeeded elsewhere waits for nobody.
    let reused = Coordinator::start(Script { progress: vec![progress(4)], ..script });
    assert_eq!(text(reused.run(&["submit", path]).stderr), of_file);
    // A coordinator that is not there is no fault of the plan.
    let mut nowhere = reused.command(&["plan", path, "--coordinator", "http://127.0.0.1:1"]);
    let output = nowhere.output().unwrap();
    assert_eq!((output.status.code(), text(output.stderr).as_str()), (Some(0), of_file));
}

#[test]
fn leave_one_out_without_its_trials_is_refused_with_the_line_that_plans_them() {
    let sweep = SweepSpec::parse(SHORT, None).unwrap();
    let spec = serde_json::to_string(&sweep).unwrap();
    let results = vec![v1::ResultsChunk { work: Some((&sweep.work).into()), trials: vec![] }];
    let coordinator = Coordinator::start(Script { spec, results, ..Script::default() });
    let expected = "error: sweep s has no trials for --select loo: submit its file again with the line select = [\"iid\", \"loo\"], \
                    which plans 6 more\n";
    for words in [
        &["results", "s", "--select", "loo"][..],
        &["results", "s", "--select", "iid,loo,oracle"],
        &["report", "s", "--select", "loo", "-o", "r.html"],
        &["figure", "s", "--select", "loo", "--kind", "rates", "-o", "x.svg"],
        &[
            "extend",
            "s",
            "--select",
            "loo",
            "--until-se",
            "0.01",
            "--trials-max",
            "4",
            "--paired",
            "lr=1",
            "lr=2",
        ],
    ] {
        assert_eq!(coordinator.refuses(words, 1), expected, "{words:?}");
    }
    // DomainBed's collector prints its table all the same.
    let table = coordinator.says(&["results", "s", "--select", "loo", "--format", "domainbed"]);
    assert!(table.starts_with("Total records: 0\n"), "{table}");
    let Work::Finetune(mut settings) = sweep.work.clone() else { panic!("a command") };
    settings.dataset.domains.truncate(2);
    let two = SweepSpec { work: Work::Finetune(settings), ..sweep };
    let two = Coordinator::start(Script { spec: serde_json::to_string(&two).unwrap(), ..Script::default() });
    let error = two.refuses(&["results", "s", "--select", "loo"], 1);
    assert!(
        error.ends_with("--select loo: it needs held-out domains and a dataset of at least three\n"),
        "{error}"
    );
}
