//! `[[combine]]` of a sweep file: which combinations it plans, of which members, and what it refuses.
#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::{BTreeSet, HashMap};

use sortie_core::combine::{CombinationKind, Readiness};
use sortie_core::parameters::Scalar;
use sortie_core::spec::{Resubmission, SweepSpec};
use sortie_core::trial::{Point, SpecHash, TrialSpec};

const SWEEP: &str = "name = 's'\n[data]\ndataset = 'PACS'\n[model]\nbackbone = 'efficientnet-lite0'\n[train]\nsteps = 20\n\
    average = { from = 8 }\n[grid]\ndropout = [0.0, 0.9]\nlr = [5e-4, 1e-3]\nweight_decay = [1e-4, 5e-5, 1e-5]\n\
    held_out = ['photo', 'sketch']\nseeds = SEEDS\n";

const COMBINE: &str = "[[combine]]\nname = 'soup'\nkind = 'average'\nover = ['lr', 'weight_decay', 'seed']\n\
    [[combine]]\nname = 'few'\nkind = 'ensemble'\nchoice = 'greedy'\nover = ['seed', 'lr']\nwhere = 'dropout=0.9 and weight_decay=1e-5'\n\
    members = [1, 4]\n";

const FEW: &str = "[[combine]]\nname = 'few'\nkind = 'ensemble'\nover = 'seed'\n";

fn text(seeds: u32, combine: &str) -> String {
    format!("{}{combine}", SWEEP.replace("SEEDS", &seeds.to_string()))
}

fn parse(text: &str) -> SweepSpec {
    SweepSpec::parse(text, None).unwrap()
}

fn refused(text: &str) -> String {
    SweepSpec::parse(text, None).unwrap_err().to_string()
}

#[test]
fn combinations_come_after_the_grid_and_their_members_are_among_it() {
    let sweep = parse(&text(3, COMBINE));
    // A soup per dropout rate and domain; two ensembles per domain.
    assert_eq!((sweep.grid_trials(), sweep.trials_planned()), (Some(72), Some(72 + 4 + 4)));
    let trials: Vec<TrialSpec> = sweep.trials().collect();
    let ids: Vec<SpecHash> = trials.iter().map(TrialSpec::hash).collect();
    assert_eq!((trials.len(), ids.iter().collect::<BTreeSet<_>>().len()), (80, 80));
    let by_id: HashMap<SpecHash, &TrialSpec> = ids.iter().copied().zip(&trials).collect();
    for trial in &trials[72..] {
        let combination = trial.combination.as_ref().unwrap();
        let name = trial.point.combine().unwrap();
        assert_eq!(trial.point.parameters["members"].as_number(), Some(combination.members.len() as f64));
        let mut own = BTreeSet::new();
        for member in &combination.members {
            let member = by_id[member];
            assert!(member.combination.is_none() && own.insert(member.hash()));
            assert_eq!(member.point.held_out, trial.point.held_out);
            for (axis, value) in trial
                .point
                .parameters
                .iter()
                .filter(|(axis, _)| !["combine", "members"].contains(&axis.as_str()))
            {
                assert_eq!(member.point.parameters[axis], *value, "{axis} of {name}");
            }
        }
        match name {
            "soup" => assert_eq!(
                (combination.kind, own.len(), trial.point.parameters.len()),
                (CombinationKind::Average, 18, 4)
            ),
            _ => assert_eq!((combination.kind, trial.point.parameters.len()), (CombinationKind::Ensemble, 5)),
        }
        // The trainer gets a network of the sweep's kind that has nothing to train.
        let spec = trial.finetune().unwrap();
        assert_eq!((spec.point.lr, spec.settings.average, spec.methods().len()), (0.0, None, 1));
    }
    assert_eq!(sweep.trials().nth(76).unwrap().combination.unwrap().members.len(), 1);
}

#[test]
fn a_sweep_that_grows_keeps_its_combinations_as_they_were() {
    let old = parse(&text(3, COMBINE));
    let ids = |sweep: &SweepSpec| sweep.trials().map(|trial| trial.hash()).collect::<BTreeSet<_>>();
    // Three more seeds: a soup of 18 and one of 36.
    let more_seeds = old.grown_by(&parse(&text(6, COMBINE))).unwrap();
    assert_eq!(more_seeds.combine[0].members, [18, 36]);
    assert!(ids(&more_seeds).is_superset(&ids(&old)));
    // A file that no longer has them takes nothing away, and still keeps the weights that they need.
    let without = old.grown_by(&parse(&text(3, ""))).unwrap();
    assert!(ids(&without) == ids(&old) && without.keep.weights.last());
    // A combination of what the old trials did not keep: they will not run again.
    let plain = parse(&text(3, ""));
    let error = plain.grown_by(&old).unwrap_err().to_string();
    assert!(
        error.contains("keep.weights, of which combine.soup is made, is none there and final here"),
        "{error}"
    );
    let unkept = parse(&text(3, "[keep]\nlogits = false\n"));
    assert!(
        unkept
            .grown_by(&parse(&text(3, FEW)))
            .unwrap_err()
            .to_string()
            .contains("keep.logits, of which combine.few is made")
    );
    // One that stays keeps what it needs, whatever the new file says.
    assert!(parse(&text(3, FEW)).grown_by(&unkept).unwrap().keep.logits);
    // Another learning rate: under a new name it is a combination beside the old one.
    let wider = |name: &str| {
        text(3, &COMBINE.replace("'soup'", name)).replace("lr = [5e-4, 1e-3]", "lr = [5e-4, 1e-3, 1e-2]")
    };
    let error = old.grown_by(&parse(&wider("'soup'"))).unwrap_err().to_string();
    assert!(error.contains("combine.soup") && !error.contains('\n'), "{error}");
    let renamed = wider("'wide'").replace("'few'", "'many'");
    let grown = old.grown_by(&parse(&renamed)).unwrap();
    assert!(ids(&grown).is_superset(&ids(&old)));
    assert_eq!(grown.trials_planned(), Some(108 + 4 + 4 + 4 + 4));
}

#[test]
fn a_file_that_was_made_smaller_adds_nothing() {
    let old = parse(&text(3, COMBINE));
    let ids = |sweep: &SweepSpec| sweep.trials().map(|trial| trial.hash()).collect::<BTreeSet<_>>();
    let smaller = |seeds: u32, changes: &[(&str, &str)]| {
        let changed = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
        parse(&changes.iter().fold(text(seeds, COMBINE), changed))
    };
    for new in [
        smaller(2, &[]),
        smaller(2, &[("[0.0, 0.9]", "[0.9]")]),
        smaller(3, &[("['photo', 'sketch']", "'sketch'")]),
        // An axis in which the members differ.
        smaller(3, &[("[5e-4, 1e-3]", "[1e-3]"), ("members = [1, 4]", "members = [1, 3]")]),
        smaller(1, &[("[5e-4, 1e-3]", "1e-3"), ("members = [1, 4]", "members = 1")]),
    ] {
        let grown = old.grown_by(&new).unwrap();
        assert!(ids(&grown) == ids(&old), "{:?}", grown.combine);
        let Resubmission { trials, combinations, changes, kept } = old.resubmission(&new).unwrap();
        assert_eq!((trials, combinations, changes), (0, 0, Vec::new()));
        assert!(!kept.is_empty());
    }
    // Smaller numbers that the file asks for are added, of the trials that the sweep has.
    let asked = smaller(3, &[("members = [1, 4]", "members = [2]")]);
    assert_eq!(old.grown_by(&asked).unwrap().combine[1].members, [1, 4, 2]);
    let elsewhere = smaller(3, &[("members = [1, 4]", "members = [2]"), ("[5e-4, 1e-3]", "[1e-3]")]);
    let error = old.grown_by(&elsewhere).unwrap_err().to_string();
    assert!(error.contains("combine.few"), "{error}");
}

#[test]
fn a_resubmission_shows_what_it_adds_changes_and_keeps() {
    let old = parse(&text(3, FEW));
    let file = text(4, FEW).replace("[0.0, 0.9]", "[0.5, 0.9]").replace("'photo', ", "");
    let new = parse(&format!("{file}[keep]\nweights = 'final'\n[require]\ntags = ['a100']\n"));
    let Resubmission { trials, combinations, changes, kept } = old.resubmission(&new).unwrap();
    // 3 rates, 2 domains, 6 settings, 4 seeds; before 2 rates and 3 seeds. Each has an ensemble of three and one of four.
    assert_eq!((trials, combinations), (144 - 72, 2 * 36 - 24));
    let changed: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(changed, ["require", "keep", "grid.dropout", "grid.seeds", "combine.few"]);
    assert_eq!((changes[2].old.as_str(), changes[2].new.as_str()), ("[0, 0.9]", "[0, 0.9, 0.5]"));
    let held = |key: &str, values: &str| (key.to_owned(), values.to_owned());
    let expected =
        [held("grid.dropout", "0"), held("grid.held_out", "photo"), held("combine.few.members", "3")];
    assert_eq!(kept, expected);
    let error = old.resubmission(&parse(&file.replace("steps = 20", "steps = 30"))).unwrap_err().to_string();
    assert!(error.contains("steps is 20 there and 30 here"), "{error}");
}

#[test]
fn what_cannot_be_combined_is_refused_by_name() {
    let soup = |field: &str| text(3, &format!("[[combine]]\nname = 'soup'\nkind = 'average'\n{field}\n"));
    for (field, message) in [
        ("over = 'split'", "combine.soup.over = \"split\""),
        ("over = ['seed', 'held_out']", "share their held-out domain"),
        ("over = 'depth'", "axes are dropout, head_lr_factor, lr, weight_decay, seed"),
        ("over = []", "combine.soup.over = []"),
        ("over = 'seed'\nmembers = 4", "1 to 3"),
        ("over = 'seed'\nmembers = [2, 2]", "only once"),
        ("over = 'seed'\nmembers = 0", "1 to 3"),
        ("over = 'seed'\nmethod = 'ensemble'", "plain, average"),
        ("over = 'seed'\nwhere = 'dropout=0.3'", "combine.soup.where"),
        ("over = 'seed'\nwhere = 'depth=3'", "depth"),
        ("over = 'seed'\nwhere = 'held_out=photo+sketch'", "combine.soup.where"),
        ("over = 'seed'\nwhere = 'nonsense'", "AXIS=VALUE"),
        ("over = 'seed'\nchoice = 'best'", "uniform, greedy"),
        ("over = 'seed'\nweights = 1", "unknown field `weights`"),
    ] {
        let error = refused(&soup(field));
        assert!(error.contains(message) && !error.contains('\n'), "{field}: {error}");
    }
    let ensemble = "[[combine]]\nname = 'e'\nkind = 'ensemble'\nover = 'seed'\n";
    let scratch = text(3, &ensemble.replace("ensemble", "average"))
        .replace("[train]\n", "finetune = 'scratch'\n[train]\n");
    let scratch = scratch.replace("average = { from = 8 }", "");
    for (text, message) in [
        (text(3, &format!("{ensemble}{ensemble}")), "a name of its own"),
        (text(3, &format!("{ensemble}[keep]\nlogits = false\n")), "keep.logits = false"),
        (
            text(3, &ensemble.replace("ensemble", "average")) + "[keep]\nweights = 'selected'\n",
            "keep.weights = \"selected\"",
        ),
        (scratch, "combine.e.kind = \"average\""),
        (format!("name = 'c'\n[run]\ncommand = ['true']\n{ensemble}"), "combine is not allowed here"),
    ] {
        let error = refused(&text);
        assert!(error.contains(message) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn more_seeds_add_combinations_over_all_of_them_where_the_file_asks_for_all() {
    let own = |members: &str| COMBINE.replace("members = [1, 4]", members);
    let sweep = parse(&text(3, &own("members = [1, \"all\"]")));
    let counts =
        |sweep: &SweepSpec| sweep.combine.iter().map(|combine| combine.members.clone()).collect::<Vec<_>>();
    assert_eq!(counts(&sweep), [vec![18], vec![1, 6]]);
    let more = sweep.with_seeds(5).unwrap();
    assert_eq!(counts(&more), [vec![18, 30], vec![1, 6, 10]]);
    let ids = |sweep: &SweepSpec| sweep.trials().map(|trial| trial.hash()).collect::<BTreeSet<_>>();
    assert!(ids(&more).is_superset(&ids(&sweep)));
    // As a file with more seeds does; and it reads back.
    assert_eq!(sweep.grown_by(&parse(&text(5, &own("members = [1, \"all\"]")))).unwrap(), more);
    assert_eq!(parse(&more.to_toml()), more);
    // Numbers that the file names stay.
    let few = parse(&text(3, &own("members = [1, 4]")));
    assert_eq!(counts(&few.with_seeds(5).unwrap()), [vec![18, 30], vec![1, 4]]);
    let error = sweep.with_seeds(200).unwrap_err().to_string();
    assert_eq!(error, "combine.soup.members has 1200 trials to combine: at most 1000 are allowed");
    for (members, line) in [("\"some\"", "\"some\""), ("1.5", "1.5"), ("[1, true]", "true")] {
        let error = refused(&text(3, &own(&format!("members = {members}"))));
        assert!(
            error.starts_with(&format!("combine.few.members = {line} is not allowed: 1 to 6 or \"all\"")),
            "{error}"
        );
    }
}

#[test]
fn conditions_on_a_vast_grid_are_checked_at_once() {
    let list =
        |unit: f64| (1..=1_000).map(|n| format!("{:e}", unit * f64::from(n))).collect::<Vec<_>>().join(", ");
    let vast = text(3, FEW)
        .replace("lr = [5e-4, 1e-3]", &format!("lr = [{}]", list(1e-6)))
        .replace("seeds = 3", "seeds = 10000");
    let vast = vast.replace("weight_decay = [1e-4, 5e-5, 1e-5]", &format!("weight_decay = [{}]", list(1e-7)));
    let error = refused(&format!("{vast}where = 'dropout=0.3'\n"));
    assert!(error.starts_with("grid has"), "{error}");
}

#[test]
fn a_combination_is_ready_when_all_members_have_a_result() {
    assert_eq!(Readiness::of(3, 3, 0), Readiness::Ready);
    assert_eq!(Readiness::of(3, 2, 0), Readiness::Waits);
    assert_eq!(Readiness::of(3, 2, 1), Readiness::Impossible);
    assert_eq!(Readiness::of(0, 0, 0), Readiness::Waits);
}

#[test]
fn combinations_are_known_by_both_of_their_parameters() {
    let combines = |parameters: &[(&str, Scalar)]| {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Point { held_out: vec![], parameters, seed: 0, split_seed: 0 }.combine().is_some()
    };
    let (name, members) =
        (("combine", Scalar::Text("ensemble".into())), ("members", Scalar::Number(18.0.into())));
    assert!(combines(&[name.clone(), members.clone(), ("dropout", Scalar::Number(0.9.into()))]));
    assert!(!combines(std::slice::from_ref(&name)) && !combines(std::slice::from_ref(&members)));
    // A command may have axes of these names for something else.
    assert!(!combines(&[("combine", Scalar::Flag(true)), members]));
}

#[test]
fn a_stored_condition_is_parsed_where_it_is_read() {
    let sweep = parse(&text(3, COMBINE));
    let stored = serde_json::to_string(&sweep).unwrap();
    let condition = "dropout=0.9 and weight_decay=1e-5";
    assert!(stored.contains(&format!("\"filter\":\"{condition}\"")), "{stored}");
    for written in [condition, "dropout = 0.9 and weight_decay = 1e-5"] {
        let read: SweepSpec = serde_json::from_str(&stored.replace(condition, written)).unwrap();
        assert_eq!(read, sweep, "{written}");
    }
    let broken = stored.replace(condition, "dropout");
    let error = serde_json::from_str::<SweepSpec>(&broken).unwrap_err().to_string();
    assert!(error.contains("cannot read the condition \"dropout\""), "{error}");
}
