//! Combinations across trials: planned, run and shown like any other trial, and the same after their worker was killed.

use std::fs;

use serde_json::Value;

use crate::support::{World, sweep, wait};
use crate::{ACCEPTED, Accepted, query};

const COMBINE: &str = "[[combine]]\nname = \"both\"\nkind = \"ensemble\"\nover = \"seed\"\nmembers = [1, 2]\n\
    [[combine]]\nname = \"soup\"\nkind = \"average\"\nchoice = \"greedy\"\nover = [\"seed\", \"dropout\"]\n";
/// Two rates, three domains and two seeds; for each domain two ensembles per rate, and one average.
const GRID: u64 = 12;
const ALL: u64 = GRID + 12 + 3;

fn submit(world: &World) {
    let file = world.folder.path().join("combined.toml");
    fs::write(&file, sweep("combined", 4, "2") + COMBINE).unwrap();
    world.json(&["submit", file.to_str().unwrap(), "--data", world.data().to_str().unwrap(), "--json"]);
    assert_eq!(world.status("combined")["planned"], ALL);
}

#[test]
fn combinations_survive_kills_and_come_to_the_same() {
    let (Some(calm), Some(stormy)) = (World::new(), World::new()) else { return };
    submit(&calm);
    let waiting =
        calm.json(&["trials", "combined", "--where", "combine=soup", "--json"])["trials"][0]["trial"]
            .as_str()
            .unwrap()
            .to_owned();
    let story = calm.sortie(&["explain", &waiting]);
    assert!(
        String::from_utf8_lossy(&story.stdout).contains("until all its members have a result"),
        "{story:?}"
    );
    wait(&mut calm.start_worker(), &calm);
    assert_eq!(calm.status("combined")["succeeded"], ALL, "{}", calm.logs());

    submit(&stormy);
    let succeeded = |status: &Value| status["succeeded"].as_u64().unwrap();
    for kill in 0..6 {
        let mut victim = stormy.start_worker();
        // The grid is trained once; what is killed is a combination, or what comes between two.
        stormy.wait_until("combined", "the grid's end", |status| {
            (succeeded(status) >= GRID + kill && status["running"] == 1) || succeeded(status) == ALL
        });
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    wait(&mut stormy.start_worker(), &stormy);
    assert_eq!(stormy.status("combined")["succeeded"], ALL, "{}", stormy.logs());
    let lost: Vec<(i64,)> = query(
        &stormy,
        "SELECT token FROM attempts JOIN members ON members.trial = attempts.trial WHERE outcome = 'failed'",
    );
    assert!(!lost.is_empty(), "no combination was killed in the middle");
    let accepted: Vec<Accepted> = query(&calm, ACCEPTED);
    assert_eq!(accepted, query::<Accepted>(&stormy, ACCEPTED));
    // An ensemble of one member is that member, at the last step.
    let alone = "SELECT COUNT(*) FROM trials AS c JOIN members AS m ON m.trial = c.id JOIN trials AS t ON t.id = m.member
        JOIN held_out AS e ON e.token = c.result JOIN held_out AS f ON f.token = t.result
            AND f.step = 4 AND f.method = 'plain' AND f.domain = e.domain AND f.split = e.split AND f.correct = e.correct
        WHERE c.parameters ->> '$.combine' = 'both' AND c.parameters ->> '$.members' = 1.0";
    assert_eq!(query::<(i64,)>(&calm, alone), [(6 * 2,)]);
}
