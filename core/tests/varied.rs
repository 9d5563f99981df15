//! Sweeps that vary settings of `[data]`, `[model]` and `[train]`, and those that draw at random.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::collections::BTreeSet;

use sortie_core::finetune::Settings;
use sortie_core::parameters::Scalar;
use sortie_core::spec::SweepSpec;
use sortie_core::spec::file::SweepFile;
use sortie_core::trial::{SpecHash, TrialSpec, Work};

const SWEEP: &str = "name = 's'\n[data]\ndataset = 'PACS'\n[model]\nbackbone = 'resnet50-v1'\n[train]\nsteps = 60\n\
    batch_per_domain = [8, 32]\nprecision = ['fp32', 'bf16']\n[grid]\ndropout = [0.0, 0.9]\nlr = 1e-3\nweight_decay = 0\nseeds = 2\n";

fn parse(text: &str) -> SweepSpec {
    SweepSpec::parse(text, None).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refused(text: &str) -> String {
    SweepSpec::parse(text, None).unwrap_err().to_string()
}

fn settings(trial: &TrialSpec) -> &Settings {
    let Work::Finetune(settings) = &trial.work else { panic!("a command") };
    settings
}

fn ids(sweep: &SweepSpec) -> BTreeSet<SpecHash> {
    sweep.trials().map(|trial| trial.hash()).collect()
}

#[test]
fn a_listed_setting_is_an_axis_and_trials_are_those_of_sweeps_with_one_value() {
    let sweep = parse(SWEEP);
    assert_eq!((sweep.trials_planned(), ids(&sweep).len()), (Some(64), 64));
    let mut all = BTreeSet::new();
    for batch in ["8", "32"] {
        for precision in ["fp32", "bf16"] {
            let one = parse(
                &SWEEP.replace("[8, 32]", batch).replace("['fp32', 'bf16']", &format!("'{precision}'")),
            );
            assert!(one.grid.axes.len() == 4 && one.trials_planned() == Some(16));
            all.extend(ids(&one));
        }
    }
    assert_eq!(all, ids(&sweep));
    for trial in sweep.trials() {
        let own = settings(&trial);
        let number = |name: &str| trial.point.parameters[name].as_number().unwrap();
        assert_eq!(f64::from(own.batch_per_domain), number("batch_per_domain"));
        assert_eq!(trial.point.parameters["precision"], Scalar::Text(own.precision.to_string()));
        assert!(own.following.is_empty());
    }
    // The last of the list varies the name as the first does: nothing depends on the order.
    assert_eq!(ids(&parse(&SWEEP.replace("[8, 32]", "[32, 8]"))), all);
}

#[test]
fn defaults_are_those_of_each_trials_own_settings() {
    let text = SWEEP.replace("'resnet50-v1'", "['efficientnet-lite0', 'efficientnet-lite2']").replace(
        "steps = 60",
        "steps = [60, 100]\noptimizer = ['sgd', 'adam']\nschedule = ['step', 'cosine']",
    );
    let sweep = parse(&text);
    let trials: Vec<TrialSpec> = sweep.trials().collect();
    assert_eq!(trials.len(), 64 * 16);
    for trial in &trials {
        let own = settings(trial);
        assert_eq!((own.pixels, own.weights.as_str()), (own.backbone.pixels(), own.backbone.as_str()));
        let adam = own.optimizer.as_str() == "adam";
        assert_eq!(own.momentum, if adam { 0.0 } else { 0.9 });
        let milestones =
            if own.schedule.as_str() == "cosine" { vec![] } else { vec![own.steps / 2, own.steps] };
        assert_eq!(own.milestones, milestones);
        // As one who submits it alone gets it.
        let file = sweep.trial_file(trial.hash(), &trial.point).unwrap();
        let alone = parse(&file);
        assert_eq!(ids(&alone), BTreeSet::from([trial.hash()]), "{file}");
        assert_eq!(alone.trials().next().unwrap().work, trial.work);
    }
    assert_eq!(sweep.updates_planned(), Some(512 * 61 + 512 * 101));
    let again = parse(&sweep.to_toml());
    assert_eq!(again, sweep);
    let warnings = SweepFile::parse(&text).unwrap().warnings(&sweep);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn combinations_of_settings_that_cannot_be_are_named() {
    let model = |lines: &str| SWEEP.replace("backbone = 'resnet50-v1'", lines);
    for (text, line) in [
        (
            model("backbone = ['resnet50-v1', 'vit-b-16']")
                .replace("dataset = 'PACS'", "dataset = 'PACS'\npixels = [224, 128]"),
            "with backbone = \"vit-b-16\", batch_per_domain = 8.0, pixels = 128.0, precision = \"fp32\": data.pixels = 128 is not allowed: vit-b-16 takes 224 only",
        ),
        (
            model("backbone = ['resnet50-v1', 'mnist-cnn']"),
            "with backbone = \"mnist-cnn\", batch_per_domain = 8.0, precision = \"fp32\": model.finetune = \"full\" is not allowed",
        ),
        (
            SWEEP.replace("steps = 60", "steps = 60\nmomentum = 0.5\noptimizer = ['sgd', 'adam']"),
            "with batch_per_domain = 8.0, optimizer = \"adam\", precision = \"fp32\": train.momentum = 0.5 is not allowed: only sgd has it",
        ),
        (
            SWEEP.replace("steps = 60", "steps = [60, 10]\naverage = { from = 20 }"),
            "with batch_per_domain = 8.0, precision = \"fp32\", steps = 10.0: train.average.from = 20 is not allowed: at most train.steps, 10",
        ),
        (
            SWEEP.replace("[8, 32]", "[8, 0]"),
            "with batch_per_domain = 0.0, precision = \"fp32\": train.batch_per_domain = 0",
        ),
        (
            SWEEP.replace("[8, 32]", "[8, 8]"),
            "train.batch_per_domain = 8 is not allowed: a value may stand only once",
        ),
        (
            SWEEP.replace("[8, 32]", "[]"),
            "train.batch_per_domain = [] is not allowed: an axis needs at least one value",
        ),
        (
            SWEEP.replace("lr = 1e-3", "lr = 1e-3\nsteps = [1, 2]"),
            "grid.steps is not an axis: list its values as train.steps",
        ),
        (model("finetune = 'full'"), "model.backbone is missing: allowed: resnet18,"),
        (
            format!("{SWEEP}[[combine]]\nname = 'x'\nkind = 'ensemble'\nover = ['seed', 'precision']\n"),
            "combine.x.over = \"precision\" is not allowed: dropout, head_lr_factor, lr, weight_decay, seed: members share their precision",
        ),
        (
            format!(
                "{}[keep]\nweights = 'final'\n[[combine]]\nname = 'x'\nkind = 'average'\nover = 'seed'\n",
                model("backbone = 'resnet50-v1'\nfinetune = ['full', 'scratch']")
            ),
            "combine.x.kind = \"average\" is not allowed",
        ),
    ] {
        assert!(refused(&text).starts_with(line), "{}", refused(&text));
    }
    // Those that a condition leaves out need nothing.
    let full = model("backbone = 'resnet50-v1'\nfinetune = ['full', 'scratch']");
    let combine = "[[combine]]\nname = 'x'\nkind = 'average'\nover = 'seed'\nwhere = 'finetune=full'\n";
    let sweep = parse(&format!("{full}{combine}"));
    let combined: Vec<TrialSpec> = sweep.trials().filter(|trial| trial.combination.is_some()).collect();
    assert_eq!(combined.len(), 32);
    assert!(combined.iter().all(|trial| settings(trial).finetune.as_str() == "full"));
}

#[test]
fn an_axis_of_a_setting_grows_and_what_is_no_axis_becomes_none() {
    let sweep = parse(SWEEP);
    let grown = sweep.grown_by(&parse(&SWEEP.replace("[8, 32]", "[64, 32, 8]"))).unwrap();
    assert_eq!(grown.trials_planned(), Some(96));
    assert!(ids(&grown).is_superset(&ids(&sweep)));
    assert_eq!(grown.work, sweep.work);
    // One of its values is a part of it.
    let part = parse(&SWEEP.replace("[8, 32]", "32"));
    assert_eq!(sweep.grown_by(&part).unwrap(), sweep);
    let kept = sweep.resubmission(&part).unwrap().kept;
    assert_eq!(kept, [("train.batch_per_domain".to_owned(), "8".to_owned())]);
    let shown = |old: &SweepSpec, new: &str| old.grown_by(&parse(new)).unwrap_err().to_string();
    let error = shown(&part, SWEEP);
    assert!(error.contains("train.batch_per_domain is 32 there and [8, 32] here"), "{error}");
    let error = shown(&sweep, &SWEEP.replace("[8, 32]", "16"));
    assert!(error.contains("train.batch_per_domain is [8, 32] there and 16 here"), "{error}");
    let two = SWEEP.replace("'resnet50-v1'", "['resnet50-v1', 'efficientnet-lite1']");
    let error = shown(&parse(&two), &two.replace("dataset = 'PACS'", "dataset = 'PACS'\npixels = 224"));
    assert!(error.contains("pixels is the default for each backbone there and one value here"), "{error}");
    // One of its networks is a part of it, with the input size of that one.
    let one = parse(&SWEEP.replace("'resnet50-v1'", "'efficientnet-lite1'"));
    assert_eq!(parse(&two).grown_by(&one).unwrap(), parse(&two));
    // What grows is checked as what is new.
    let wide = parse(&two.replace("dataset = 'PACS'", "dataset = 'PACS'\npixels = 128"));
    let vit = two.replace("'efficientnet-lite1'", "'vit-b-16'");
    let error = wide
        .grown_by(&parse(&vit.replace("dataset = 'PACS'", "dataset = 'PACS'\npixels = 224")))
        .unwrap_err();
    assert!(error.to_string().contains("pixels is 128 there and 224 here"), "{error}");
    let keys: Vec<String> = part.differences(&sweep).into_iter().map(|change| change.key).collect();
    assert_eq!(keys, ["train.batch_per_domain"]);
}

const RANDOM: &str = "[random]\ndraws = 5\nseed = 3\nlr = { log_uniform = [1e-5, 1e-3] }\ndropout = { choice = [0, 0.1, 0.5] }\n\
    batch_per_domain = { log_uniform = [8, 45.26], whole = true }\n";

fn random() -> String {
    SWEEP.replace("dropout = [0.0, 0.9]\nlr = 1e-3\n", "").replace("batch_per_domain = [8, 32]\n", "")
        + RANDOM
}

#[test]
fn drawn_settings_go_with_every_place_in_the_grid_and_more_draws_only_add() {
    let sweep = parse(&random());
    let trials: Vec<TrialSpec> = sweep.trials().collect();
    // Five settings, two precisions, four domains, two seeds.
    assert_eq!((trials.len(), ids(&sweep).len(), sweep.trials_planned()), (80, 80, Some(80)));
    let drawn: BTreeSet<String> = trials
        .iter()
        .map(|trial| {
            let parameters = &trial.point.parameters;
            assert_eq!(
                parameters["batch_per_domain"].as_number(),
                Some(f64::from(settings(trial).batch_per_domain))
            );
            ["lr", "dropout", "batch_per_domain"].map(|name| parameters[name].to_string()).join(" ")
        })
        .collect();
    assert_eq!(drawn.len(), 5);
    let more = parse(&random().replace("draws = 5", "draws = 8"));
    assert!(ids(&more).is_superset(&ids(&sweep)));
    assert_eq!(sweep.grown_by(&more).unwrap(), more);
    assert_eq!(more.grown_by(&sweep).unwrap(), more);
    assert_eq!(more.resubmission(&sweep).unwrap().kept, [("random.draws".to_owned(), "8".to_owned())]);
    let other = parse(&random().replace("seed = 3", "seed = 4"));
    let error = sweep.grown_by(&other).unwrap_err().to_string();
    assert!(
        error.contains(
            "random is 5 draws with seed 3, batch_per_domain = { log_uniform = [8, 45.26], whole = true }"
        ),
        "{error}"
    );
    // Stored, written and alone.
    let stored: SweepSpec = serde_json::from_str(&serde_json::to_string(&sweep).unwrap()).unwrap();
    assert_eq!(stored, sweep);
    assert_eq!(parse(&sweep.to_toml()), sweep);
    for trial in trials.iter().step_by(7) {
        let alone = parse(&sweep.trial_file(trial.hash(), &trial.point).unwrap());
        assert_eq!(ids(&alone), BTreeSet::from([trial.hash()]));
    }
    // A combination for each drawn setting.
    let combined = parse(&format!("{}[[combine]]\nname = 'e'\nkind = 'ensemble'\nover = 'seed'\n", random()));
    assert_eq!(combined.sizes(), (80, 40));
    let of_combinations = combined.trials().filter(|trial| trial.combination.is_some());
    assert!(of_combinations.into_iter().all(|trial| trial.point.parameters.contains_key("lr")));
    // Commands draw for any name.
    let text = "name = 'c'\n[run]\ncommand = ['t', '{lr}', '{depth}']\n[grid]\ndepth = [1, 2]\n[random]\ndraws = 3\nlr = { uniform = [0, 1] }\n";
    assert_eq!(parse(text).trials_planned(), Some(6));
}

#[test]
fn what_cannot_be_drawn_is_refused_by_name() {
    for (old, new, line) in [
        ("draws = 5", "", "random.draws is missing"),
        ("draws = 5", "draws = 0", "random.draws = 0 is not allowed: 1 to 10000"),
        (
            "[1e-5, 1e-3]",
            "[1e-3, 1e-5]",
            "random.lr = [0.001, 1e-5] is not allowed: two numbers, the smaller one first",
        ),
        ("[1e-5, 1e-3]", "[0, 1e-5]", "random.lr = [0.0, 1e-5] is not allowed: numbers above 0"),
        ("lr = { log_uniform = [1e-5, 1e-3] }", "lr = { }", "random.lr is missing: one of uniform"),
        ("[0, 0.1, 0.5]", "[0, 1]", "random.dropout = 1.0 is not allowed: a number, at least 0 and below 1"),
        (
            ", whole = true",
            "",
            "random.batch_per_domain = 45.26 is not allowed: what train.batch_per_domain may be",
        ),
        (
            "seed = 3",
            "backbone = { choice = ['resnet18'] }",
            "random.backbone is not allowed here: model.backbone says what it is",
        ),
        ("seed = 3", "gamma = { uniform = [0, 1] }", "random.gamma is not an axis"),
        (
            "seed = 3",
            "optimizer = { choice = ['sgd', 'lion'] }",
            "random.optimizer = \"lion\" is not allowed",
        ),
        (
            "seed = 3",
            "precision = { choice = ['fp32'] }",
            "random.precision is not allowed here: train.precision says what it is",
        ),
        (
            "seed = 3",
            "weight_decay = { uniform = [0, 1] }",
            "random.weight_decay is not allowed here: its values are listed already",
        ),
        (
            "seed = 3",
            "steps = { choice = [60] }",
            "random.steps is not allowed here: train.steps says what it is",
        ),
    ] {
        let text = random().replace(old, new);
        assert!(refused(&text).starts_with(line), "{}", refused(&text));
    }
    let few = "name = 'c'\n[run]\ncommand = ['t', '{a}']\n[random]\ndraws = 3\na = { choice = [1, 2] }\n";
    assert_eq!(refused(few), "random.draws = 3 is not allowed: 2, for no more of these settings differ");
}
