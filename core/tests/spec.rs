//! Sweep files: what they mean, and what is refused in which words.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::collections::HashSet;

use proptest::prelude::*;
use sortie_core::finetune::Settings;
use sortie_core::metrics::{Goal, Metric};
use sortie_core::parameters::Scalar;
use sortie_core::selection::Selection;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::{DatasetSpec, Layout, MissingClasses, SplitBy, Work};

const PAPER: &str = r#"
name = "pacs-dropout"
select = ["iid"]
[data]
dataset = "PACS"
[model]
backbone = "efficientnet-lite0"
finetune = "full"
[train]
steps = 10000
batch_per_domain = 32
evaluate_every = 300
precision = "fp32"
[grid]
dropout = [0.0, 0.5, 0.9, 0.95]
lr = [5e-4, 1e-3]
weight_decay = [1e-4, 5e-5, 1e-5]
held_out = "each"
seeds = 3
"#;

fn parse(text: &str) -> SweepSpec {
    SweepSpec::parse(text, None).unwrap()
}

fn settings(sweep: &SweepSpec) -> &Settings {
    match &sweep.work {
        Work::Finetune(settings) => settings,
        Work::Command(_) => panic!("a command"),
    }
}

#[test]
fn leave_one_out_plans_each_pair_of_held_out_domains_once() {
    let with = |select: &str, held_out: &str| {
        parse(
            &PAPER
                .replace(r#"["iid"]"#, select)
                .replace(r#"held_out = "each""#, &format!("held_out = {held_out}")),
        )
    };
    let sets = |sweep: &SweepSpec| {
        let sets: HashSet<String> = sweep.trials().map(|trial| trial.point.held_out_label()).collect();
        let mut sets: Vec<String> = sets.into_iter().collect();
        sets.sort();
        sets
    };
    let plain = with(r#"["iid", "oracle", "last"]"#, r#""each""#);
    assert_eq!((plain.trials_planned(), plain.trials_for(Selection::Loo)), (Some(288), 0));
    let all = with(r#"["iid", "loo"]"#, r#""each""#);
    assert_eq!(
        (all.trials_planned(), all.trials_for(Selection::Loo), all.trials_for(Selection::Iid)),
        (Some(720), 432, 0)
    );
    assert_eq!(all.trials().count(), 720);
    assert_eq!(all.trials().map(|trial| trial.hash()).collect::<HashSet<_>>().len(), 720);
    assert_eq!(sets(&all).len(), 10);
    let scalar = with(r#"["iid"]"#, r#""photo""#);
    assert_eq!(scalar, with(r#"["iid"]"#, r#"["photo"]"#));
    let one = with(r#"["loo"]"#, r#"["photo"]"#);
    assert_eq!(sets(&one), ["art_painting+photo", "cartoon+photo", "photo", "photo+sketch"]);
    // A sweep grows by them like by any others: what was planned stays.
    let grown = plain.grown_by(&all).unwrap();
    let ids = |sweep: &SweepSpec| sweep.trials().map(|trial| trial.hash()).collect::<HashSet<_>>();
    assert!(ids(&grown) == ids(&all) && ids(&grown).is_superset(&ids(&plain)));
    let error = SweepSpec::parse(
        "name = 'x'\nselect = ['loo']\n[run]\ncommand = ['true']\n[grid]\nheld_out = ['a', 'b']",
        None,
    )
    .unwrap_err();
    assert!(error.to_string().starts_with("select = loo is not allowed here: "), "{error}");
}

#[test]
fn the_papers_grid_has_288_trials_and_starts_balanced() {
    let sweep = parse(PAPER);
    let trials: Vec<_> = sweep.trials().collect();
    assert_eq!((trials.len() as u64, sweep.trials_planned()), (288, Some(288)));
    let ids: HashSet<_> = trials.iter().map(|trial| trial.hash()).collect();
    assert_eq!(ids.len(), 288);
    let held_out: Vec<_> = trials[..4].iter().map(|trial| trial.point.held_out_label()).collect();
    assert_eq!(held_out, ["art_painting", "cartoon", "photo", "sketch"]);
    assert!(trials[..96].iter().all(|trial| trial.point.seed == 0));
    assert_eq!(settings(&sweep).milestones, [5_000, 10_000]);
}

#[test]
fn what_differs_between_two_sweeps_is_named_key_by_key() {
    let old = parse(PAPER);
    let text = PAPER
        .replace("pacs-dropout", "other")
        .replace("[5e-4, 1e-3]", "1e-3")
        .replace("steps = 10000", "steps = 9000");
    let text = text
        .replace("[grid]", "average = { from = 300, every = 2 }\n[grid]")
        .replace("seeds = 3", "seeds = 2");
    let changes = old.differences(&parse(&text));
    let message: Vec<String> = changes
        .into_iter()
        .map(|change| format!("{}: {} -> {}", change.key, change.old, change.new))
        .collect();
    let expected = [
        "average: null -> missing",
        "average.every.steps: missing -> 2",
        "average.from: missing -> 300",
        "milestones: [5000,10000] -> [4500,9000]",
        "steps: 10000 -> 9000",
        "grid.lr: [5e-4, 1e-3] -> 1e-3",
        "grid.seeds: [0,1,2] -> [0,1]",
    ];
    assert_eq!(message, expected);
    assert_eq!(old.differences(&old), []);
}

#[test]
fn further_seeds_count_on_and_take_nothing_away() {
    let sweep = parse(&PAPER.replace("seeds = 3", "seeds = [7, 2]"));
    let larger = sweep.with_seeds(4).unwrap();
    assert_eq!((larger.grid.seeds.as_slice(), larger.trials_planned()), (&[7, 2, 8, 9][..], Some(384)));
    assert_eq!(sweep.grown_by(&larger).unwrap(), larger);
    assert_eq!(larger.with_seeds(4).unwrap(), larger);
    for (count, message) in
        [(3, "seeds = 3 is not allowed: at least 4"), (20_000, "grid.seeds has 10004 values")]
    {
        let error = larger.with_seeds(count).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn notation_and_order_do_not_change_a_trials_identity() {
    let ids = |text: &str| parse(text).trials().map(|trial| trial.hash()).collect::<HashSet<_>>();
    let rewritten = PAPER
        .replace("[5e-4, 1e-3]", "[0.001, 0.0005]")
        .replace("dropout = [0.0, 0.5, 0.9, 0.95]", "dropout = [0.95, -0.0, 0.5, 0.9]")
        .replace("held_out = \"each\"", "held_out = [\"sketch\", \"photo\", \"cartoon\", \"art_painting\"]")
        .replace("seeds = 3", "seeds = [2, 1, 0]")
        .replace("pacs-dropout", "another-name");
    assert_eq!(ids(PAPER), ids(&rewritten));
    assert!(ids(PAPER).is_disjoint(&ids(&PAPER.replace("steps = 10000", "steps = 9999"))));
}

/// What is replaced in the paper's file, by what, and what the one line must say.
const REFUSED: &[(&str, &str, &[&str])] = &[
    (
        "lr = [5e-4, 1e-3]",
        "learning_rate = 1e-3",
        &["grid.learning_rate is not an axis: fine-tuning has dropout, lr, weight_decay"],
    ),
    ("dropout = [0.0, 0.5, 0.9, 0.95]", "dropout = []", &["grid.dropout", "at least one value"]),
    ("0.95]", "1.0]", &["grid.dropout = 1.0", "below 1"]),
    ("0.95]", "-0.1]", &["grid.dropout = -0.1", "at least 0"]),
    ("0.95]", "nan]", &["line 15", "NaN", "finite"]),
    ("0.95]", "0.9]", &["grid.dropout = 0.9", "only once"]),
    ("0.95]", "\"high\"]", &["grid.dropout = \"high\"", "a number"]),
    ("[5e-4, 1e-3]", "0", &["grid.lr = 0.0", "above 0"]),
    ("[5e-4, 1e-3]", "nan", &["line 16", "finite"]),
    ("[5e-4, 1e-3]", "inf", &["line 16", "finite"]),
    ("5e-5, 1e-5]", "-1e-5]", &["grid.weight_decay = -1e-5"]),
    ("efficientnet-lite0", "resnet51", &["line 7", "resnet51", "efficientnet-lite0"]),
    ("\"each\"", "[\"moon\"]", &["grid.held_out = \"moon\"", "art_painting, cartoon, photo, sketch"]),
    ("\"each\"", "\"all\"", &["grid.held_out = \"all\"", "\"each\", or domains: art_painting"]),
    ("\"each\"", "3", &["line 18", "\"each\", a domain or a list of domains"]),
    ("seeds = 3", "seeds = 0", &["grid.seeds = 0"]),
    ("seeds = 3", "seeds = -1", &["line 19", "not negative"]),
    ("seeds = 3", "seeds = 3000000", &["grid.seeds = 3000000", "1 to 10000"]),
    (
        "seeds = 3",
        "seeds = 10000\nsplits = 1000",
        &["grid has 960000000 trials: at most 10000000 are allowed"],
    ),
    ("lr = [5e-4, 1e-3]\n", "", &["grid.lr is missing: fine-tuning needs it: a finite number above 0"]),
    (
        "[model]\nbackbone = \"efficientnet-lite0\"\nfinetune = \"full\"",
        "",
        &["model is missing: a sweep needs a [model] table"],
    ),
    ("[data]\ndataset = \"PACS\"", "", &["data is missing: fine-tuning needs a [data] table"]),
    (
        "dataset = \"PACS\"",
        "dataset = \"X\"\ndomains = [\"a\", \"b\\u0007\"]\nclasses = [\"c\", \"d\"]",
        &["data.domains", "control"],
    ),
    (
        "dataset = \"PACS\"",
        "dataset = \"X\"\ndomains = [\"a\", \"b\"]\nclasses = [\"c\", \"d\\u0085\"]",
        &["data.classes", "control"],
    ),
    ("steps = 10000", "steps = -1", &["line 10"]),
    ("batch_per_domain = 32", "batch_per_domain = 0", &["train.batch_per_domain = 0", "1 to 65536"]),
    ("evaluate_every = 300", "evaluate_every = 0", &["train.evaluate_every = 0"]),
    ("evaluate_every = 300", "milestones = [5, 3]", &["train.milestones"]),
    ("dataset = \"PACS\"", "dataset = \"MyData\"", &["MyData", "--data ROOT"]),
    ("dataset = \"PACS\"", "dataset = \"../PACS\"", &["data.dataset"]),
    ("dataset = \"PACS\"", "dataset = \"X\"\ndomains = [\"a\"]\nclasses = [\"b\", \"c\"]", &["data.domains"]),
    (
        "dataset = \"PACS\"",
        "dataset = \"X\"\ndomains = [\"a\", \"rock+water\"]\nclasses = [\"b\", \"c\"]",
        &["data.domains = \"rock+water\" is not allowed", "rename the folder, for example to \"rock_water\""],
    ),
    (
        "dataset = \"PACS\"",
        "dataset = \"PACS\"\nlayout = \"{class}/{domain}\"",
        &["data.layout = \"{class}/{domain}\" is not allowed", "{domain}/images/{class}"],
    ),
    ("dataset = \"PACS\"", "dataset = \"PACS\"\nlayout = 3", &["data.layout must be one text, not 3"]),
    (
        "dataset = \"PACS\"",
        "dataset = \"PACS\"\nmissing_classes = \"ignore\"",
        &["line 6", "\"ignore\"", "refuse, allow"],
    ),
    // What is known of PACS holds for its usual layout.
    (
        "dataset = \"PACS\"",
        "dataset = \"PACS\"\nlayout = \"{domain}/full/{class}\"",
        &["PACS", "--data ROOT"],
    ),
    ("name = \"pacs-dropout\"", "name = \"a b\"", &["name = \"a b\""]),
    ("name = \"pacs-dropout\"", "", &["missing field `name`"]),
    ("[\"iid\"]", "[\"best\"]", &["best", "iid, loo, oracle, last"]),
    ("[\"iid\"]", "[\"iid\"", &["line"]),
    ("[model]", "[model", &["line"]),
    ("[model]", "[run]\ncommand = [\"x\"]\n[model]", &["run is not allowed here: ", "no [model]"]),
    ("[grid]", "[require]\ngpu_memory_gib = -1\n[grid]", &["require.gpu_memory_gib = -1.0"]),
    ("[grid]", "[require]\ntags = [\"a b\"]\n[grid]", &["require.tags = \"a b\""]),
];

const COMMAND: &str = r#"
name = "sgd-or-adam"
[run]
command = ["python", "train.py", "--lr={lr}", "--optimiser", "{optimiser}", "{held_out}", "--json={{}}"]
[grid]
lr = [0.1, 1]
optimiser = ["sgd", "adam"]
fast = true
held_out = ["a", "b"]
seeds = 2
"#;

#[test]
fn any_command_can_be_a_trial_with_axes_of_any_name() {
    let sweep = parse(COMMAND);
    let trials: Vec<_> = sweep.trials().collect();
    let ids: HashSet<_> = trials.iter().map(|trial| trial.hash()).collect();
    assert_eq!((trials.len(), ids.len(), sweep.trials_planned()), (16, 16, Some(16)));
    assert!(sweep.require.commands);
    let point = &trials[0].point;
    assert_eq!(
        (point.parameters["lr"].clone(), point.held_out_label()),
        (Scalar::Number(0.1.into()), "a".to_owned())
    );
    assert_eq!(parse("name = \"x\"\n[run]\ncommand = [\"true\"]").trials().count(), 1);
    let flagged =
        COMMAND.replace("{optimiser}", "{flag:fast}").replace("fast = true", "fast = [true, false]");
    assert_eq!(parse(&flagged).trials_planned(), Some(32));
    assert_eq!(parse(&COMMAND.replace("[run]", "[run]\ncomplete_at = 3")).work.steps(), None);
}

#[test]
fn a_command_that_could_not_be_filled_in_is_refused() {
    for (old, new, words) in [
        ("{lr}", "{rate}", &["run.command", "{rate}", "lr, optimiser"][..]),
        ("{{}}", "{", &["run.command", "brace"]),
        ("lr = [0.1, 1]", "seed = 3", &["grid.seed is not an axis: names are", "none of"]),
        ("lr = [0.1, 1]", "Lr = 3", &["grid.Lr"]),
        ("[\"a\", \"b\"]", "\"each\"", &["grid.held_out", "list the domains"]),
        ("[\"a\", \"b\"]", "[\"a+b\"]", &["grid.held_out = \"a+b\"", "'+' joins", "for example to \"a_b\""]),
        (
            "lr = [0.1, 1]",
            "lr = 1\nmodel.lr = [1, 2]",
            &["grid.model.lr is not an axis", "write model_lr = ..., and {model_lr} for it"],
        ),
        ("lr = [0.1, 1]", "lr = 1\n\"model.lr\" = 1", &["grid.model.lr is not an axis", "write model_lr"]),
        ("lr = [0.1, 1]", "lr = 1\na = { b = { c = 1 } }", &["grid.a.b.c is not an axis", "write a_b_c"]),
        (
            "lr = [0.1, 1]",
            "lr = 2001-01-01",
            &["grid.lr must be a finite number, a text, true or false, or a list of them, not a date"],
        ),
        ("lr = [0.1, 1]", "lr = {}", &["grid.lr must be a finite number", "not a table"]),
        ("{lr}", "{flag:lr}", &["run.command", "{flag:lr}, and lr is no axis of true and false"]),
        ("{lr}", "{flag:wd}", &["run.command", "wd is no axis of true and false"]),
        ("[\"python\", ", "[\"{flag:fast}\", ", &["run.command", "a program"]),
        ("[run]", "[run]\nsteps = 9\ncomplete_at = 10", &["run.complete_at = 10", "at most 9"]),
        ("[run]", "[run]\nretries = 101", &["run.retries = 101", "0 to 100"]),
        (
            "[run]",
            "[run]\ncomplete_at = -1",
            &["run.complete_at must be a whole number that is not negative, not -1"],
        ),
        ("[\"a\", \"b\"]", "[\"a\\tb\"]", &["grid.held_out", "control characters"]),
        (
            "[grid]",
            "[keep]\nlogits = true\n[grid]",
            &["keep is not allowed here: a sweep that runs a command"],
        ),
        ("[run]", "[model]\nbackbone = \"efficientnet-lite0\"\n[run]", &["no [model]"]),
        ("[run]", "[data]\ndataset = \"PACS\"\npixels = 32\n[run]", &["only `dataset` and `domains`"]),
        (
            "[run]",
            "[data]\ndataset = \"PACS\"\nlayout = \"{domain}/a/{class}\"\n[run]",
            &["only `dataset` and `domains`"],
        ),
        (
            "[run]",
            "[data]\ndataset = \"PACS\"\nmissing_classes = \"allow\"\n[run]",
            &["only `dataset` and `domains`"],
        ),
        ("[\"python\", ", "[\"\", ", &["run.command", "a program"]),
    ] {
        let text = COMMAND.replacen(old, new, 1);
        assert_ne!(text, COMMAND, "{old}");
        let message = SweepSpec::parse(&text, None).unwrap_err().to_string();
        assert!(
            words.iter().all(|word| message.contains(word)) && !message.contains('\n'),
            "{new}: {message}"
        );
    }
}

#[test]
fn a_command_sweep_grows_like_any_other_and_keeps_its_command() {
    let old = parse(COMMAND);
    let grown = old.grown_by(&parse(&COMMAND.replace("[0.1, 1]", "[1, 2]"))).unwrap();
    assert_eq!(grown.trials_planned(), Some(24));
    let axes = |from: u32| {
        let list = |axis: &str| format!("{axis} = {:?}\n", (from..from + 200).collect::<Vec<_>>());
        format!(
            "name = \"large\"\n[run]\ncommand = [\"true\"]\n[grid]\n{}{}{}",
            list("a"),
            list("b"),
            list("c")
        )
    };
    let too_large = parse(&axes(0)).grown_by(&parse(&axes(200))).unwrap_err().to_string();
    assert!(too_large.contains("grid has 64000000 trials: at most 10000000 are allowed"), "{too_large}");
    for (from, to, words) in [
        ("train.py", "other.py", "command is"),
        ("fast = true", "fast = false", "grid.fast is true there and false here"),
        ("fast = true", "slow = 1", "grid.slow is missing there"),
    ] {
        let refused = old.grown_by(&parse(&COMMAND.replace(from, to))).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

/// A plus sign joins the names of two held-out domains, and no others.
#[test]
fn only_domains_have_no_plus_sign_in_their_names() {
    let text = PAPER.replace(
        "dataset = \"PACS\"",
        "dataset = \"NICO++\"\ndomains = [\"autumn\", \"rock+water\"]\nclasses = [\"hot air balloon\", \"C++\"]",
    );
    let refused = SweepSpec::parse(&text, None).unwrap_err().to_string();
    assert_eq!(
        refused,
        "data.domains = \"rock+water\" is not allowed: '+' joins the names of held-out domains; rename the folder, for example to \"rock_water\""
    );
    let sweep = parse(&text.replace("rock+water", "rock-water"));
    assert_eq!(settings(&sweep).dataset.classes, ["C++", "hot air balloon"]);
    for bad in ["+x", "", "a/b", "a b"] {
        let refused = SweepSpec::parse(&PAPER.replace("PACS", bad), None).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("data.dataset = {bad:?} is not allowed: 1 to 100")),
            "{refused}"
        );
    }
}

#[test]
fn what_is_wrong_is_reported_in_one_line_that_names_it() {
    for (old, new, words) in REFUSED {
        let text = PAPER.replacen(old, new, 1);
        assert_ne!(text, PAPER, "{old}");
        let message = SweepSpec::parse(&text, None).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{new}: {message}");
        for word in *words {
            assert!(message.contains(word), "{new}: {message} lacks {word}");
        }
    }
}

#[test]
fn a_folder_or_the_file_can_say_what_a_dataset_holds() {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let found = DatasetSpec {
        name: "Mine".into(),
        domains: words(&["a", "b"]),
        classes: words(&["x", "y"]),
        split_by: SplitBy::Stem,
        layout: Layout::default(),
        missing_classes: MissingClasses::default(),
    };
    let text = PAPER.replace("\"PACS\"", "\"Mine\"");
    assert_eq!(settings(&SweepSpec::parse(&text, Some(&found)).unwrap()).dataset, found);
    let listed = PAPER.replace(
        "\"PACS\"",
        "\"Mine\"\ndomains = [\"b\", \"a\"]\nclasses = [\"y\", \"x\"]\ngroup = \"stem\"",
    );
    assert_eq!(settings(&parse(&listed)).dataset, found);
}

#[test]
fn a_folder_says_only_what_neither_the_file_nor_the_catalogue_does() {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let found = DatasetSpec {
        name: "PACS".into(),
        domains: words(&["photo", "sketch", "stray"]),
        classes: words(&["x", "y"]),
        split_by: SplitBy::Stem,
        layout: Layout::default(),
        missing_classes: MissingClasses::default(),
    };
    let with = |keys: &str, found: &DatasetSpec| {
        let text = PAPER.replace("\"PACS\"", &format!("\"PACS\"\n{keys}"));
        settings(&SweepSpec::parse(&text, Some(found)).unwrap()).dataset.clone()
    };
    assert_eq!(with("", &found), settings(&parse(PAPER)).dataset);
    // In another layout the dataset is not the one that the catalogue knows.
    let other = with("layout = \"{domain}/full/{class}\"\nmissing_classes = \"allow\"", &found);
    assert_eq!((&other.domains, &other.classes), (&found.domains, &found.classes));
    assert_eq!(
        (other.layout.to_string(), other.missing_classes),
        ("{domain}/full/{class}".to_owned(), MissingClasses::Allow)
    );
    let plain = with("layout = \"{domain}/{class}\"\nmissing_classes = \"refuse\"", &found);
    assert_eq!(plain, settings(&parse(PAPER)).dataset);
}

#[test]
fn a_plus_is_a_sign_like_others_in_names_of_datasets_and_classes() {
    let text = "\"NICO++\"\ndomains = [\"autumn\", \"dim grass\"]\nclasses = [\"hot air balloon\", \"C++\"]";
    let sweep = parse(&PAPER.replace("\"PACS\"", text));
    let dataset = &settings(&sweep).dataset;
    assert_eq!((dataset.name.as_str(), dataset.classes[0].as_str()), ("NICO++", "C++"));
}

#[test]
fn metrics_of_a_command_have_a_goal_and_may_have_a_unit() {
    const COMMAND: &str = "name = 's'\n[run]\ncommand = ['x']\n";
    let sweep = parse(
        &format!(
            "{COMMAND}[metrics]\nf1 = {{ goal = 'max' }}\nval.nll = {{ goal = 'min', unit = 'nats' }}\n"
        )
        .replace("val.nll", "'val/nll'"),
    );
    let nll = sweep.metric("val/nll").unwrap();
    assert_eq!((nll.name(), nll.goal(), nll.unit(), nll.score(2.0)), ("val/nll", Goal::Min, "nats", -2.0));
    assert_eq!((sweep.metric("accuracy"), sweep.metric("loss")), (Ok(Metric::ACCURACY), Ok(Metric::LOSS)));
    let unknown = sweep.metric("f2").unwrap_err();
    assert!(
        unknown.contains("allowed: accuracy, loss, f1, val/nll") && unknown.contains("[metrics] f2"),
        "{unknown}"
    );
    // They decide no number, so that they may change.
    let plain = parse(COMMAND);
    assert_eq!(plain.grown_by(&sweep).unwrap().metrics, sweep.metrics);
    assert_eq!(plain.differences(&sweep).len(), 1);
    for (metrics, reason) in [
        ("accuracy = { goal = 'max' }", "accuracy"),
        ("f1 = { goal = 'up' }", "up"),
        ("f1 = { unit = 's' }", "goal"),
        ("'1f' = { goal = 'max' }", "1f"),
        ("f1 = { goal = 'max', unit = 'far too long for a unit' }", "20 characters"),
    ] {
        let error =
            SweepSpec::parse(&format!("{COMMAND}[metrics]\n{metrics}\n"), None).unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains('\n'), "{metrics}: {error}");
    }
    let error =
        SweepSpec::parse(&format!("{PAPER}\n[metrics]\nf1 = {{ goal = 'max' }}\n"), None).unwrap_err();
    assert!(error.to_string().contains("accuracy and loss, and nothing else"), "{error}");
}

proptest! {
    /// Whatever bytes a file holds, reading it ends in a sweep or in one line.
    #[test]
    fn no_text_is_too_odd(cut in 0..PAPER.len(), junk in "[ -~\\n]{0,12}") {
        let mut text = PAPER.to_owned();
        text.insert_str(cut, &junk);
        if let Err(error) = SweepSpec::parse(&text, None) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}
