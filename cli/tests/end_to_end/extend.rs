//! More seeds, by number and until a comparison is precise enough.

use crate::support::{World, wait};

#[test]
fn seeds_are_added_until_the_comparison_is_precise_or_the_budget_is_used_up() {
    let Some(world) = World::new() else { return };
    world.submit("tiny", 4, "1");
    let mut worker = world.start_worker_with(&[]);
    let compare = |until: &str, most: &str| {
        let words = [
            "extend",
            "tiny",
            "--until-se",
            until,
            "--trials-max",
            most,
            "--paired",
            "dropout=0",
            "dropout=0.5",
            "--json",
        ];
        world.sortie(&words)
    };
    // Precise enough as soon as it is over.
    let enough = compare("0.99", "0");
    let told: serde_json::Value = serde_json::from_slice(&enough.stdout).unwrap();
    assert_eq!(
        (&told["seeds"], &told["added"], &told["difference"]["n"]),
        (&1.into(), &0.into(), &3.into()),
        "{told}"
    );
    let paired = world.json(&["results", "tiny", "--paired", "dropout=0", "dropout=0.5", "--json"]);
    assert_eq!(told["difference"], paired["ood"]["difference"]);
    // Never precise enough: one seed more, of six trials, is all that ten trials allow.
    let refused = compare("1e-9", "10");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success()
            && said.contains("with 2 seeds, and another seed needs 6 trials where 4 of --trials-max 10"),
        "{said}"
    );
    let status = world.status("tiny");
    assert_eq!((&status["planned"], &status["succeeded"]), (&12.into(), &12.into()), "{}", world.logs());
    let more = world.json(&["extend", "tiny", "--seeds", "2", "--json"]);
    assert_eq!((&more["seeds"], &more["added"]), (&2.into(), &0.into()));
    let more = world.json(&["extend", "tiny", "--seeds", "+1", "--json"]);
    assert_eq!((&more["seeds"], &more["added"]), (&3.into(), &6.into()));
    let fewer = world.sortie(&["extend", "tiny", "--seeds", "2"]);
    assert!(
        String::from_utf8_lossy(&fewer.stderr).contains("seeds = 2 is not allowed: at least 3"),
        "{fewer:?}"
    );
    worker.kill().unwrap();
    worker.wait().unwrap();
    wait(&mut world.start_worker(), &world);
    assert_eq!(world.status("tiny")["succeeded"], 18, "{}", world.logs());
}
