//! Averages and ensembles of a trajectory: a result with more of them is one for a sweep that asks for fewer, and no training is repeated.

use std::collections::BTreeMap;

use sortie_coordinator::store::{Preview, QueryValue, SubmitOptions, SweepAction};
use sortie_core::artifact::{Artifact, ArtifactKind};
use sortie_core::job::{Outcome, StateName};
use sortie_core::keep::LackingTrials;
use sortie_core::lease::{Batch, Lease};
use sortie_core::metrics::{Evaluation, Method};
use sortie_core::presets;

use crate::cases_queries::rows;
use crate::fixture::*;

/// [`SWEEP`] of this name that makes this.
fn making(name: &str, methods: &str) -> String {
    let text = SWEEP.replace("\"first\"", &format!("{name:?}"));
    text.replace("steps = 20", &format!("steps = 20\n{methods}"))
}

const BOTH: &str = "average = { from = 3, every = 2 }\nensemble = { from = 0 }";

/// A success with the numbers of these methods and, of each, the files that combinations are made of.
async fn succeed(f: &Fixture, lease: &Lease, methods: &[Method]) {
    let methods = if lease.members.is_empty() { methods } else { &[Method::Plain] };
    let row = |method: &Method| Evaluation { method: *method, ..evaluation("sketch", 20, 3) };
    let file = |kind, method: &Method| Artifact {
        kind,
        method: *method,
        step: 20,
        key: format!("{kind}/{method}"),
        digest: "0a".repeat(32),
        bytes: 7,
    };
    let files = methods.iter().flat_map(|method| {
        [file(ArtifactKind::FinalWeights, method), file(ArtifactKind::FinalLogits, method)]
    });
    let reported = Batch { artifacts: files.collect(), ..batch(1, methods.iter().map(row).collect()) };
    f.complete_with(lease.token, reported, Outcome::Succeeded).await.unwrap();
}

/// Of the sweep's trials, the methods that they show.
async fn shown(f: &Fixture, sweep: &str) -> Vec<Vec<Method>> {
    let records = f.store.records(sweep, 0).await.unwrap().rows;
    let of = |rows: &[Evaluation]| rows.iter().map(|row| row.method).collect::<Vec<_>>();
    records.iter().map(|record| [of(&record.validation), of(&record.held_out)].concat()).collect()
}

async fn previewed(f: &Fixture, text: &str) -> String {
    match f.store.preview(&spec(text), SubmitOptions::default()).await.unwrap() {
        Preview::New { lacking, .. } | Preview::Stored { lacking, .. } => lacking.to_string(),
    }
}

pub async fn a_result_with_more_methods_serves_a_sweep_that_asks_for_fewer(f: Fixture) {
    f.submit(&making("first", BOTH)).await;
    for lease in f.claim(8).await {
        succeed(&f, &lease, Method::ALL).await;
    }
    let plain = f.submit(&making("plain", "")).await;
    assert_eq!((plain.planned, plain.reused, plain.lacking), (4, 4, LackingTrials::default()));
    let average = making("average", "average = { from = 3, every = 2 }");
    assert_eq!(previewed(&f, &average).await, "");
    assert_eq!(f.submit(&average).await.reused, 4);
    // Nobody sees what the sweep does not ask for.
    assert_eq!(shown(&f, "first").await, vec![vec![Method::Average, Method::Ensemble, Method::Plain]; 4]);
    assert_eq!(shown(&f, "plain").await, vec![vec![Method::Plain]; 4]);
    assert_eq!(shown(&f, "average").await, vec![vec![Method::Average, Method::Plain]; 4]);
    // What was taken over is taken over again, with all that it has.
    assert_eq!(f.submit(&making("again", BOTH)).await.reused, 4);
    // Another average is another one, and whoever asks for it learns that.
    let other = making("other", &BOTH.replace("every = 2", "every = \"evaluation\""));
    assert_eq!(previewed(&f, &other).await, "4 trials lack the average of the weights");
    let submitted = f.submit(&other).await;
    assert_eq!((submitted.reused, submitted.lacking.trials, submitted.lacking.average), (0, 4, 4));
    let anyway = SubmitOptions { reuse: sortie_coordinator::store::Reuse::Anyway, priority: None };
    let submitted = f.submit_with(&making("anyway", &BOTH.replace("from = 0", "from = 5")), anyway).await;
    assert_eq!((submitted.reused, submitted.lacking.ensemble), (0, 4));
}

pub async fn fewer_methods_are_no_result_for_more_and_at_the_lease_neither(f: Fixture) {
    f.submit(&making("first", "")).await;
    let own = f.claim(1).await;
    assert_eq!(f.submit(&making("both", BOTH)).await.lacking.trials, 0);
    succeed(&f, &own[0], &[Method::Plain]).await;
    assert_eq!(
        previewed(&f, &making("both", BOTH)).await,
        "1 trial lacks the average of the weights (1), the ensemble over steps (1)"
    );
    f.act("first", SweepAction::Pause).await;
    let leases = f.claim(8).await;
    assert_eq!(leases.len(), 4);
    for lease in &leases {
        succeed(&f, lease, Method::ALL).await;
    }
    f.act("first", SweepAction::Resume).await;
    assert!(f.claim(8).await.is_empty());
    assert_eq!((f.count(StateName::Succeeded).await, f.status("first").await.reused), (4, 3));
    assert_eq!(shown(&f, "first").await, vec![vec![Method::Plain]; 4]);
}

pub async fn after_the_first_figure_the_other_presets_train_nothing_twice(f: Fixture) {
    let mut found = BTreeMap::new();
    for name in ["figure1", "weight-average", "ensemble", "dropout-rates"] {
        let submitted = f.submit(&presets::find(name).unwrap().text(None)).await;
        let mut runs = [0, 0];
        loop {
            let mut leases = f.claim(64).await;
            if leases.is_empty() {
                let status = f.status(name).await;
                if status.blocked + status.queued == 0 {
                    break;
                }
                // A look at the members lets a combination start.
                leases = within(f.wait_for_a_trial(false).await).await.unwrap().leases;
            }
            for lease in &leases {
                succeed(&f, lease, Method::ALL).await;
                runs[usize::from(!lease.members.is_empty())] += 1;
            }
        }
        let status = f.status(name).await;
        assert_eq!((status.succeeded, status.queued + status.blocked), (submitted.planned, 0), "{name}");
        found.insert(name, (submitted.planned, submitted.reused, runs));
    }
    // Planned, reused, trained, combined.
    let expected = [
        ("figure1", (160, 0, [144, 16])),
        ("weight-average", (152, 152, [0, 0])),
        ("ensemble", (168, 152, [0, 16])),
        ("dropout-rates", (288, 144, [144, 0])),
    ];
    assert_eq!(found, BTreeMap::from(expected));
}

pub async fn views_show_what_a_sweep_asks_for(f: Fixture) {
    f.submit(&making("first", BOTH)).await;
    for lease in f.claim(8).await {
        succeed(&f, &lease, Method::ALL).await;
    }
    f.submit(&making("plain", "")).await;
    for view in ["v_evaluations", "v_curves", "v_selected"] {
        let sql = format!("SELECT sweep, COUNT(DISTINCT method) FROM {view} GROUP BY sweep ORDER BY sweep");
        let counted: Vec<i64> = rows(&f, &sql)
            .await
            .into_iter()
            .filter_map(|row| if let QueryValue::Integer(count) = row[1] { Some(count) } else { None })
            .collect();
        assert_eq!(counted, [3, 1], "{view}");
    }
}
