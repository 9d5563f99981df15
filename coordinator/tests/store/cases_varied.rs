//! Sweeps that vary settings, and those that draw at random: each trial is leased with its own.

use std::collections::BTreeSet;

use sortie_core::finetune::Settings;
use sortie_core::job::Outcome;
use sortie_core::lease::{Batch, Lease};
use sortie_core::record::Fingerprint;
use sortie_core::trial::Work;

use crate::cases_queries::{rows, text};
use crate::fixture::*;

/// [`SWEEP`] with two sizes of batches and two precisions.
fn varied() -> String {
    SWEEP.replace("steps = 20", "steps = 20\nbatch_per_domain = [8, 32]\nprecision = [\"fp32\", \"bf16\"]")
}

fn settings(lease: &Lease) -> &Settings {
    let Work::Finetune(settings) = &lease.spec.work else { panic!("a command") };
    settings
}

pub async fn every_trial_is_leased_with_its_own_settings_and_reused_where_they_are_fixed(f: Fixture) {
    f.submit(&varied()).await;
    let leases = f.claim(64).await;
    let of = |lease: &Lease| {
        let parameters = &lease.spec.point.parameters;
        assert_eq!(lease.spec.hash(), lease.spec_hash);
        assert_eq!(parameters["precision"].to_string(), settings(lease).precision.to_string());
        (settings(lease).batch_per_domain, settings(lease).precision.to_string())
    };
    assert_eq!((leases.len(), leases.iter().map(of).collect::<BTreeSet<_>>().len()), (16, 4));
    for lease in &leases {
        f.complete_with(lease.token, batch(1, vec![evaluation("sketch", 20, 3)]), Outcome::Succeeded)
            .await
            .unwrap();
    }
    let one = SWEEP.replace("\"first\"", "\"one\"").replace("steps = 20", "steps = 20\nbatch_per_domain = 8");
    assert_eq!(f.submit(&one).await.reused, 4);
    let point = &f.store.records("one", 0).await.unwrap().rows[0].point;
    assert!(!point.parameters.contains_key("batch_per_domain"));
    // And back: from one value to the list.
    let more = varied().replace("\"first\"", "\"more\"").replace("[8, 32]", "[8, 64]");
    let submitted = f.submit(&more).await;
    assert_eq!((submitted.planned, submitted.reused), (16, 8));
}

pub async fn steps_and_weights_are_those_of_the_trial(f: Fixture) {
    let networks = "[\"efficientnet-lite0\", \"resnet50-v1\"]";
    let sweep = SWEEP.replace("\"efficientnet-lite0\"", networks).replace("steps = 20", "steps = [20, 40]");
    f.submit(&sweep).await;
    assert_eq!(f.status("first").await.steps_planned, 8 * 21 + 8 * 41);
    let leases = f.claim(64).await;
    for lease in &leases {
        let own = settings(lease);
        assert_eq!(
            (own.milestones.as_slice(), own.weights.as_str()),
            (&[own.steps / 2, own.steps][..], own.backbone.as_str())
        );
        let late = batch(1, vec![evaluation("sketch", own.steps + 1, 3)]);
        assert!(f.store.report(secret(), lease.token, late).await.is_err());
        // Each network has weights of its own, whose digest is pinned by its name.
        let reported =
            Fingerprint { weights_digest: format!("digest of {}", own.backbone), ..Fingerprint::default() };
        let whole =
            Batch { fingerprint: Some(reported), ..batch(1, vec![evaluation("sketch", own.steps, 3)]) };
        f.complete_with(lease.token, whole, Outcome::Succeeded).await.unwrap();
    }
    let status = f.status("first").await;
    assert_eq!((status.succeeded, status.steps_done), (16, status.steps_planned));
}

pub async fn drawn_settings_are_stored_and_more_draws_only_add(f: Fixture) {
    let random = |draws: u64| {
        let fixed = SWEEP.replace("lr = 1e-3\n", "").replace("dropout = [0.0, 0.5]\n", "dropout = 0\n");
        format!(
            "{fixed}[random]\ndraws = {draws}\nlr = {{ log_uniform = [1e-5, 1e-3] }}\n\
            batch_per_domain = {{ log_uniform = [8, 45.26], whole = true }}\n"
        )
    };
    assert_eq!(f.submit(&random(3)).await.added, 6);
    let first = f.claim(64).await;
    let f = f.restart().await;
    assert_eq!(f.submit(&random(5)).await.added, 4);
    assert_eq!(f.submit(&random(3)).await.added, 0);
    assert_eq!(f.store.spec("first").await.unwrap().random.unwrap().draws.len(), 5);
    for lease in &first {
        let batch = lease.spec.point.parameters["batch_per_domain"].as_number().unwrap();
        assert_eq!(f64::from(settings(lease).batch_per_domain), batch);
    }
    assert_eq!(f.claim(64).await.len(), 4);
}

pub async fn views_have_the_settings_that_vary_as_parameters(f: Fixture) {
    f.submit(&varied()).await;
    for lease in f.claim(64).await {
        f.complete_with(lease.token, batch(1, vec![evaluation("sketch", 20, 3)]), Outcome::Succeeded)
            .await
            .unwrap();
    }
    let sqlite = crate::cases_queries::is_sqlite(&f);
    let of = |name: &str| match sqlite {
        true => format!("parameters ->> '$.{name}'"),
        false => format!("CAST(parameters AS JSON) ->> '{name}'"),
    };
    let (batch, precision) = (of("batch_per_domain"), of("precision"));
    for view in ["v_trials", "v_evaluations"] {
        let sql =
            format!("SELECT DISTINCT {precision} FROM {view} WHERE CAST({batch} AS REAL) = 32 ORDER BY 1");
        assert_eq!(rows(&f, &sql).await, [[text("bf16")], [text("fp32")]], "{view}");
    }
}
