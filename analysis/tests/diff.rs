//! What differs between two sweeps or trials, by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sortie_analysis::{DiffSide, Question, RunFacts, diff};
use sortie_core::job::StateName;
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;
use sortie_core::trial::Work;
use support::{point, record, succeeded, work};

fn spec(name: &str, lr: &str) -> SweepSpec {
    let text = format!(
        "name = '{name}'\n[data]\ndataset = 'PACS'\n[model]\nbackbone = 'efficientnet-lite0'\n[train]\nsteps = 20\n[grid]\ndropout = 0.0\n\
         lr = {lr}\nweight_decay = 1e-4\nheld_out = ['photo', 'sketch']\nseeds = 2\n"
    );
    SweepSpec::parse(&text, None).unwrap()
}

fn side(name: &str, lr: &str, records: Vec<TrialRecord>, device: &str) -> DiffSide {
    let run = |id| {
        let facts = [("device", device), ("software", "sortie-trainer 0.1.0")];
        (
            id,
            facts.iter().map(|(what, value)| ((*what).to_owned(), (*value).to_owned())).collect::<RunFacts>(),
        )
    };
    let runs = records.iter().map(|record| run(record.id)).collect();
    DiffSide { name: name.to_owned(), spec: spec(name, lr), records, runs, trial: None }
}

/// One shared trial with other results, one with the same, one unfinished; one place with different trials, and trials of one side alone.
fn sides() -> [DiffSide; 2] {
    let work = work("PACS");
    let done = |held_out: &str, lr, seed, ood| succeeded(&work, point(held_out, 0.0, lr, seed), 900, ood);
    let first = vec![
        done("photo", 1e-3, 0, 700),
        done("photo", 1e-3, 1, 710),
        done("sketch", 1e-3, 0, 500),
        record(&work, point("sketch", 0.0, 1e-3, 1), StateName::Failed),
    ];
    let mut second =
        vec![done("photo", 1e-3, 0, 700), done("photo", 1e-3, 1, 712), done("sketch", 1e-3, 1, 520)];
    // Another rate on a place where the first has its own trial.
    second.push(done("sketch", 5e-4, 0, 530));
    [side("one", "1e-3", first, "cpu"), side("two", "[5e-4, 1e-3]", second, "cuda:0")]
}

#[test]
fn two_sweeps_differ_in_configuration_environment_and_results() {
    let [one, two] = sides();
    insta::assert_snapshot!(diff(&one, &two, &Question::default()).text(), @r"
    one against two

     configuration   one    two
    ─────────────────────────────────────
     grid.lr         1e-3   [5e-4, 1e-3]

     environment of attempts   one   two
    ────────────────────────────────────────
     device                    cpu   cuda:0

    trials: 3 on both sides (1 with identical results, 1 with different results, 1 without a result on one side or both), 1 only in one, 1 only in two
      fa0eceea8de7037218bc0a54ef00b443 at step 20 plain photo/in: accuracy 0.71, loss 1 against accuracy 0.712, loss 1
    ");
    let same = diff(&one, &one, &Question::default());
    assert!(same.configuration.is_empty() && same.runs.is_empty() && same.shared.different == 0);
}

#[test]
fn different_trials_at_one_grid_point_are_compared_by_their_accuracies() {
    let [one, _] = sides();
    let mut longer = one.clone();
    let Work::Finetune(settings) = &mut longer.spec.work else { panic!("a command") };
    settings.steps = 40;
    let places = [("photo", 0, 720), ("photo", 1, 710), ("sketch", 0, 530), ("sketch", 1, 500)];
    longer.records = places
        .map(|(held_out, seed, ood)| succeeded(&longer.spec.work, point(held_out, 0.0, 1e-3, seed), 890, ood))
        .into();
    let found = diff(&one, &longer, &Question::default());
    // 0.02, 0 and 0.03; the last grid point has no result on one side.
    assert_eq!((found.shared.trials, found.only.a, found.only.b, found.places.compared), (0, 4, 4, 3));
    assert!(
        (found.places.ood.mean.unwrap() - 0.05 / 3.0).abs() < 1e-12
            && (found.places.iid.mean.unwrap() + 0.01).abs() < 1e-12
    );
    let line = "3 compared; one minus one: o.o.d. +1.67 ± 0.88, i.i.d. -1.00 ± 0.00 points (± standard error over pairs of trials)";
    assert!(found.text().contains(line), "{}", found.text());
}

#[test]
fn sweeps_that_differ_in_a_fixed_value_of_an_axis_are_compared_across_it() {
    let [one, mut two] = sides();
    let places = [("photo", 0, 720), ("photo", 1, 710)];
    two.records = places
        .map(|(held_out, seed, ood)| succeeded(&two.spec.work, point(held_out, 0.0, 7e-3, seed), 890, ood))
        .into();
    let found = diff(&one, &two, &Question::default());
    assert_eq!((found.shared.trials, found.places.compared), (0, 2));
    // 0.02 and 0.
    assert!((found.places.ood.mean.unwrap() - 0.01).abs() < 1e-12);
}

#[test]
fn two_trials_are_compared_at_any_grid_points() {
    let [mut one, mut two] = sides();
    (one.trial, two.trial) = (Some(one.records[2].id), Some(two.records[3].id));
    insta::assert_snapshot!(diff(&one, &two, &Question::default()).text(), @r"
    one against two

     configuration   one    two
    ─────────────────────────────
     lr              1e-3   5e-4

     environment of attempts   one   two
    ────────────────────────────────────────
     device                    cpu   cuda:0

    trials: 0 on both sides (0 with identical results, 0 with different results, 0 without a result on one side or both), 1 only in one, 1 only in two

    the two trials; two minus one: o.o.d. +3.00, i.i.d. +0.00 points
    ");
}
