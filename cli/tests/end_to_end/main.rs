//! The whole system with real processes: coordinator, worker, libtorch, SIGKILL.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

mod combine;
mod evaluate;
mod extend;
mod import;
mod joint;
mod memory;
#[path = "../support/mod.rs"]
mod support;
mod varied;

use std::fs;

use serde_json::Value;
use sortie_testkit::processes::{children_of, is_alive};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use support::{World, wait};

/// The table by hand: for each trial the earliest step of the best mean accuracy on the training domains, and the held-out accuracy there.
const BY_HAND: &str = "
    WITH scores AS (SELECT token, step, AVG(1.0 * correct / n) AS iid FROM validation WHERE split = 'out' GROUP BY token, step),
         best AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY token ORDER BY round(iid, 12) DESC, step) AS place FROM scores)
    SELECT trials.parameters ->> '$.dropout', trials.held_out, best.iid, 1.0 * held_out.correct / held_out.n
    FROM trials JOIN best ON best.token = trials.result AND best.place = 1
    JOIN held_out ON held_out.token = trials.result AND held_out.step = best.step AND held_out.split = 'out'
    ORDER BY 1, 2";

/// Everything that the accepted attempts reported, to the last bit of the losses, without ids that depend on the order of events.
const ACCEPTED: &str = "
    SELECT trials.trial_id, rows.step, rows.domain, rows.split, rows.n, rows.correct, printf('%!.17g', rows.loss) FROM trials
    JOIN (SELECT * FROM validation UNION ALL SELECT * FROM held_out) AS rows ON rows.token = trials.result
    WHERE trials.state = 'succeeded' ORDER BY 1, 2, 3, 4";

type Accepted = (String, i64, String, String, i64, i64, String);

fn query<T: Send + Unpin + for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>>(
    world: &World,
    sql: &'static str,
) -> Vec<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(world.database()).read_only(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        sqlx::query_as(sql).fetch_all(&pool).await.unwrap()
    })
}

fn run_to_the_end(world: &World, sweep: &str) {
    wait(&mut world.start_worker(), world);
    let status = world.status(sweep);
    assert_eq!(status["succeeded"], status["planned"], "{status}{}", world.logs());
}

#[test]
fn the_table_is_what_sql_says_and_a_second_database_says_the_same() {
    let (Some(first), Some(second)) = (World::new(), World::new()) else { return };
    for world in [&first, &second] {
        world.submit("tiny", 4, "1");
        run_to_the_end(world, "tiny");
    }
    let results = first.json(&["results", "tiny", "--json"]);
    let by_hand: Vec<(f64, String, f64, f64)> = query(&first, BY_HAND);
    let cells = results["cells"].as_array().unwrap();
    assert_eq!((cells.len(), by_hand.len()), (6, 6));
    for (cell, (dropout, held_out, iid, ood)) in cells.iter().zip(&by_hand) {
        let close = |value: &Value, expected: f64| (value["mean"].as_f64().unwrap() - expected).abs() < 1e-12;
        assert_eq!(
            (cell["dropout"].as_f64(), cell["held_out"].as_str()),
            (Some(*dropout), Some(held_out.as_str()))
        );
        assert!(close(&cell["iid"], *iid) && close(&cell["ood"], *ood), "{cell}: {iid} {ood}");
    }
    let accepted: Vec<Accepted> = query(&first, ACCEPTED);
    // 2 rates x 3 held-out domains x 2 evaluations x (2 training domains' out + the held-out domain's in and out).
    assert_eq!(accepted.len(), 6 * 2 * 4);
    assert_eq!(accepted, query::<Accepted>(&second, ACCEPTED));
    // Another seed is another trial, with other numbers.
    first.submit("other", 4, "[1]");
    run_to_the_end(&first, "other");
    let losses = |rows: Vec<Accepted>| rows.into_iter().map(|row| row.6).collect::<Vec<_>>();
    let all = losses(query(&first, ACCEPTED));
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert!(distinct.len() > losses(accepted).len(), "the other seed repeats the first one's losses");
    let differ = first.json(&["diff", "tiny", "other", "--json"]);
    assert_eq!(
        (&differ["configuration"][0]["what"], &differ["runs"]),
        (&"grid.seeds".into(), &serde_json::json!([])),
        "{differ}"
    );
    assert_eq!(
        (&differ["shared"]["trials"], &differ["only"]),
        (&0.into(), &serde_json::json!({ "a": 6, "b": 6 }))
    );
    let same = first.json(&["diff", "tiny", "tiny", "--json"]);
    assert_eq!((&same["shared"]["identical"], &same["configuration"]), (&6.into(), &serde_json::json!([])));
    let trials = first.json(&["trials", "tiny", "--json"]);
    let [one, other] = [0, 1].map(|index| trials["trials"][index]["trial"].as_str().unwrap().to_owned());
    let differ = first.json(&["diff", &one, &format!("tiny/{}", &other[..10]), "--json"]);
    assert_eq!(
        (&differ["configuration"][0]["what"], &differ["places"]["compared"]),
        (&"held_out".into(), &1.into()),
        "{differ}"
    );
    for (words, said) in [
        (["diff", "tiny", &one], "name two sweeps or two trials"),
        (["diff", "nope", "tiny"], "there is no sweep \"nope\""),
    ] {
        let refused = first.sortie(&words);
        assert!(
            !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains(said),
            "{words:?}: {refused:?}"
        );
    }
}

fn in_the_second_trial(status: &Value) -> bool {
    status["succeeded"].as_u64() >= Some(1) && status["running"] == 1
}

#[test]
fn a_killed_worker_leaves_no_process_and_loses_nothing() {
    let Some(world) = World::new() else { return };
    world.submit("tiny", 60, "1");
    let mut victim = world.start_worker();
    // A trial is running before its process is there. Beside it, a loaded trainer may wait for the next trial.
    let trains =
        |status: &Value| in_the_second_trial(status) && !children_of(victim.id()).unwrap().is_empty();
    world.wait_until("tiny", "the second trial's training", trains);
    let processes = children_of(victim.id()).unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
    let mut polls = 0;
    while let Some(alive) = processes.iter().find(|process| is_alive(**process)) {
        polls += 1;
        // A trainer sees it only once it is loaded.
        assert!(polls < 200, "process {alive} outlives its worker{}", world.logs());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    run_to_the_end(&world, "tiny");
    let twice: Vec<(i64,)> = query(
        &world,
        "SELECT trial FROM attempts WHERE outcome = 'succeeded' GROUP BY trial HAVING COUNT(*) > 1",
    );
    assert!(twice.is_empty(), "{twice:?}");
    let lost: Vec<(i64,)> = query(&world, "SELECT token FROM attempts WHERE error_class = 'lost'");
    assert!(!lost.is_empty(), "the worker was not killed in the middle of a trial");
}

#[test]
fn a_killed_coordinator_comes_back_and_its_workers_with_it() {
    let Some(mut world) = World::new() else { return };
    world.submit("tiny", 60, "1");
    let mut worker = world.start_worker();
    world.wait_until("tiny", "the second trial's training", in_the_second_trial);
    let listen = world.url.strip_prefix("https://").unwrap().to_owned();
    world.kill_coordinator();
    let before: Vec<(String,)> =
        query(&world, "SELECT trial_id FROM trials WHERE state = 'succeeded' ORDER BY 1");
    // Longer than a lease.
    std::thread::sleep(std::time::Duration::from_secs(4));
    world.start_coordinator(&listen);
    wait(&mut worker, &world);
    let status = world.status("tiny");
    assert_eq!(status["succeeded"], 6, "{status}{}", world.logs());
    let after: Vec<(String,)> =
        query(&world, "SELECT trial_id FROM trials WHERE state = 'succeeded' ORDER BY 1");
    assert!(before.iter().all(|trial| after.contains(trial)));
    let attempts: Vec<(i64,)> = query(&world, "SELECT token FROM attempts");
    assert_eq!(attempts.len(), 6, "a running trial was thrown away{}", world.logs());
}

/// What is done to the images, what the trials must name, the class of their failures, and whether they end by it.
type Damage = (fn(&World), &'static str, &'static str, bool);

#[test]
fn what_is_wrong_with_the_data_is_named_by_path_and_a_machines_own_fault_fails_no_trial() {
    let damages: [Damage; 3] = [
        (
            |world| fs::rename(world.data().join("Tiny"), world.data().join("Gone")).unwrap(),
            "data/Tiny: the dataset's folder is missing",
            // The worker finds that before it takes a trial.
            "",
            false,
        ),
        (
            |world| fs::remove_dir_all(world.data().join("Tiny/mono/objects")).unwrap(),
            "data/Tiny/mono/objects",
            "machine: ",
            false,
        ),
        (
            |world| {
                let images = fs::read_dir(world.data().join("Tiny/noto/objects"));
                let image = images.unwrap().next().unwrap().unwrap().path();
                fs::write(image, b"\x89PNG\r\n\x1a\nand then nothing").unwrap();
            },
            "data/Tiny/noto/objects/",
            "bad-data: ",
            true,
        ),
    ];
    for (damage, path, class, ends) in damages {
        let Some(world) = World::new() else { return };
        world.submit("tiny", 4, "1");
        damage(&world);
        let mut worker = world.start_worker();
        if ends {
            // It takes all six trials, one after the other, and ends as it should.
            wait(&mut worker, &world);
        } else {
            assert!(!worker.wait().unwrap().success(), "{}", world.logs());
        }
        let status = world.status("tiny");
        let (queued, failed) = if ends { (0, 6) } else { (6, 0) };
        assert_eq!((&status["queued"], &status["failed"]), (&queued.into(), &failed.into()), "{status}");
        let trials = world.json(&["trials", "tiny", "--json"]);
        let mut errors: Vec<&str> =
            trials["trials"].as_array().unwrap().iter().filter_map(|trial| trial["error"].as_str()).collect();
        errors.retain(|error| !error.is_empty());
        assert_eq!(errors.is_empty(), class.is_empty(), "{}", world.logs());
        assert!(!class.is_empty() || world.logs().contains(path), "{}", world.logs());
        for error in errors {
            assert!(error.starts_with(class) && error.contains(path) && !error.contains('\n'), "{error}");
        }
    }
}

/// Waits until the worker has found that it reaches the coordinator's artifact store.
fn wait_for_a_shared_store(world: &World) {
    let shares = |workers: Value| {
        workers["workers"].as_array().unwrap().iter().any(|row| row["checkpoints"] == "shared")
    };
    while !shares(world.json(&["workers", "--json"])) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_run_that_was_killed_and_resumed_is_the_uninterrupted_one_to_the_byte() {
    let Some(world) = World::new() else { return };
    world.submit("small", 9, "1");
    let trial = world.json(&["trials", "small", "--json"])["trials"][0]["trial"].as_str().unwrap().to_owned();
    // A trial need not have run to be verified; nothing else shall run here.
    world.json(&["cancel", "small", "--json"]);
    let mut worker = world.start_worker_with(&[]);
    wait_for_a_shared_store(&world);
    let certificate = world.json(&["verify", &trial[..8], "--kill-at", "7", "--steps", "8", "--json"]);
    let expected = (Some(true), Some(7), Some(4), Some(8));
    let told = |name: &str| certificate[name].as_u64();
    let identical = certificate["identical"].as_bool();
    assert_eq!(
        (identical, told("kill_at"), told("resumed_at"), told("steps")),
        expected,
        "{certificate}{}",
        world.logs()
    );
    let story = world.json(&["explain", &trial, "--json"]);
    assert!(story["events"].as_array().unwrap().iter().any(|row| row["what"] == "verified"), "{story}");
    let killed =
        world.json(&["trials", &format!("verify-{}-1-b", &trial[..8]), "--json"])["trials"][0].clone();
    assert_eq!((&killed["state"], &killed["attempts"]), (&"succeeded".into(), &2.into()));
    let kept = world.json(&[
        "artifacts",
        &format!("verify-{}-1-b/{}", &trial[..8], killed["trial"].as_str().unwrap()),
        "--json",
    ]);
    let kinds: Vec<&str> =
        kept["artifacts"].as_array().unwrap().iter().filter_map(|row| row["kind"].as_str()).collect();
    assert_eq!(kinds, ["final-logits", "final-weights"], "{kept}");
    // Nobody needs a checkpoint any more.
    let left = fs::read_dir(world.folder.path().join("artifacts/checkpoints")).into_iter().flatten().count();
    assert_eq!(left, 0);
    worker.kill().unwrap();
    worker.wait().unwrap();
}
