//! Random sequences of everything that anybody can ask, at the model and at a real database side by side: every answer, and in the end
//! every record, history, log and count must be the same.
//!
//! `SORTIE_TEST_SEED` names other sequences, `SORTIE_TEST_CASES` more of them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sortie_coordinator::store::{
    Claim, PageRequest, Reuse, Store, StoreError, SubmitOptions, SweepAction, TrialAction, Worker,
};
use sortie_core::artifact::{Artifact, ArtifactKind, Resumed};
use sortie_core::job::{ErrorClass, Outcome, StateName};
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{AttemptHeartbeat, Batch, Completion, Lease};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName, TrainingLoss};
use sortie_core::record::{Detail, Fingerprint};

use crate::fixture::*;

const SWEEPS: [&str; 3] = ["first", "second", "nowhere"];
const WORKERS: [&str; 4] = ["w1", "w2", "w3", "stranger"];

/// What a sweep file may hold. The sweeps share trials, and grow into each other.
const GRIDS: [(&str, &str); 5] = [
    ("dropout = 0.0\nlr = 1e-3", ""),
    ("dropout = [0.0, 0.5]\nlr = 1e-3", ""),
    ("dropout = [0.5, 0.9]\nlr = 1e-3\nseeds = 2", ""),
    ("dropout = 0.5\nlr = 1e-3\nseeds = 3", "[require]\ntags = ['fast']\n"),
    ("dropout = 0.0\nlr = [1e-3, 1e-2]", ""),
];

fn sweep_text(name: &str, grid: usize) -> String {
    let (axes, rest) = GRIDS[grid];
    format!("{}{rest}", other_sweep(name, "1e-3").replace("dropout = [0.0, 0.5]\nlr = 1e-3", axes))
}

#[derive(Clone, Debug)]
enum Step {
    Register(usize),
    Leave(usize),
    Submit { sweep: usize, grid: usize, reuse: bool, priority: Option<i64> },
    Claim { worker: usize, count_max: u32, sweep: Option<usize> },
    Heartbeat { worker: usize, attempts: Vec<(usize, u64)> },
    Report { attempt: usize, choice: BatchChoice },
    Complete { attempt: usize, choice: Option<BatchChoice>, outcome: Outcome },
    Reap,
    Grace,
    Pass(u64),
    Act { sweep: usize, action: SweepAction },
    Delete { sweep: usize, only_ask: bool },
    OnTrials { sweep: usize, action: TrialAction, condition: usize, state: Option<StateName> },
    Pin(usize),
    Unpin,
    Restart,
}

/// A batch, numbered from the one that is due.
#[derive(Clone, Debug)]
struct BatchChoice {
    offset: i64,
    evaluations: Vec<Evaluation>,
    digest: Option<usize>,
    log: Vec<u8>,
}

/// What machines have under the name of the dataset.
const DIGESTS: [&str; 2] = ["right", "wrong"];
const CONDITIONS: [&str; 5] = ["", "held_out=photo", "dropout=0.5", "seed=1", "steps=2"];

fn one_of<T: Clone + Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(values)
}

fn batch_choice() -> impl Strategy<Value = BatchChoice> {
    let number = prop_oneof![9 => any::<f64>().prop_filter("a value is finite", |value| value.is_finite()), 1 => Just(-0.0)];
    let score = prop_oneof![
        (1..9_u64).prop_flat_map(|n| (Just(n), 0..=n)).prop_map(|(n, correct)| Score::Counts { n, correct }),
        (number.clone(), 0..3_u64).prop_map(|(value, n)| Score::Value { value, n }),
    ];
    let domain = prop_oneof![12 => one_of(&["photo", "sketch", "cartoon"]), 1 => Just("moon")];
    let place =
        (one_of(Method::ALL), prop_oneof![12 => 0..21_u64, 1 => Just(21)], domain, one_of(SplitName::ALL));
    let evaluation =
        (place, score, prop::option::of(number)).prop_map(|((method, step, domain, split), score, loss)| {
            Evaluation {
                method,
                step,
                domain: domain.to_owned(),
                split,
                score: Some(score),
                loss,
                metrics: Default::default(),
                seconds: None,
            }
        });
    let offset = prop_oneof![8 => Just(0_i64), 1 => Just(-1), 1 => Just(1)];
    let digest = prop_oneof![5 => Just(None), 1 => (0..8_usize).prop_map(|digest| Some(digest / 6))];
    let parts =
        (offset, prop::collection::vec(evaluation, 0..3), digest, prop::collection::vec(any::<u8>(), 0..3));
    parts.prop_map(|(offset, evaluations, digest, log)| BatchChoice { offset, evaluations, digest, log })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Succeeded),
        1 => (0..30_u64).prop_map(|step| Outcome::Diverged { step }),
        4 => (one_of(ErrorClass::ALL), "[a-z\n\u{0}é]{0,5}").prop_map(|(class, message)| Outcome::Failed { class, message }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let (sweep, worker, attempt) = (0..SWEEPS.len(), 0..WORKERS.len(), 0..40_usize);
    let submission =
        (sweep.clone(), 0..GRIDS.len(), prop::bool::weighted(0.7), prop::option::weighted(0.3, -1..3_i64));
    let action = prop_oneof![1 => Just(SweepAction::Pause), 3 => Just(SweepAction::Resume), 1 => (-2..3_i64).prop_map(SweepAction::Priority),
        1 => Just(SweepAction::Archive), 3 => Just(SweepAction::Unarchive),
        1 => sweep.clone().prop_map(|sweep| SweepAction::Rename(SWEEPS[sweep].to_owned()))];
    let trial_action = one_of(&[TrialAction::Cancel, TrialAction::Retry, TrialAction::Retry]);
    let (states, conditions) = (prop::option::weighted(0.3, one_of(StateName::ALL)), 0..CONDITIONS.len());
    prop_oneof![
        1 => worker.clone().prop_filter("a stranger", |worker| WORKERS[*worker] != "stranger").prop_map(Step::Register),
        1 => worker.clone().prop_map(Step::Leave),
        2 => submission.prop_map(|(sweep, grid, reuse, priority)| Step::Submit { sweep, grid, reuse, priority }),
        6 => (worker.clone(), 0..4_u32, prop::option::weighted(0.2, sweep.clone()))
            .prop_map(|(worker, count_max, sweep)| Step::Claim { worker, count_max, sweep }),
        3 => (worker, prop::collection::vec((attempt.clone(), 0..30_u64), 0..4))
            .prop_map(|(worker, attempts)| Step::Heartbeat { worker, attempts }),
        5 => (attempt.clone(), batch_choice()).prop_map(|(attempt, choice)| Step::Report { attempt, choice }),
        6 => (attempt, prop::option::of(batch_choice()), outcome())
            .prop_map(|(attempt, choice, outcome)| Step::Complete { attempt, choice, outcome }),
        3 => Just(Step::Reap),
        1 => Just(Step::Grace),
        4 => prop_oneof![3 => 0..4_u64, 2 => 5..12_u64, 1 => Just(700)].prop_map(Step::Pass),
        1 => (sweep.clone(), action).prop_map(|(sweep, action)| Step::Act { sweep, action }),
        1 => (sweep.clone(), any::<bool>()).prop_map(|(sweep, only_ask)| Step::Delete { sweep, only_ask }),
        1 => (sweep, trial_action, conditions, states)
            .prop_map(|(sweep, action, condition, state)| Step::OnTrials { sweep, action, condition, state }),
        2 => (0..2_usize).prop_map(Step::Pin),
        1 => Just(Step::Unpin),
        1 => Just(Step::Restart),
    ]
}

/// The model and a real database, to which the same happens.
struct Pair {
    clock: Arc<MockClock>,
    databases: [Database; 2],
    stores: Option<[Store; 2]>,
    /// All attempts so far, the newest last, each with the number of its last batch.
    attempts: Vec<AttemptToken>,
    sequences: HashMap<AttemptToken, u64>,
    seen: HashMap<&'static str, u64>,
}

type Shown = String;

fn shown<T: Debug>(answer: Result<T, StoreError>) -> Shown {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("refused: {error}"),
    }
}

impl Pair {
    async fn new(real: Database) -> Self {
        let (clock, databases) = (MockClock::new(), [Database::Model(Default::default()), real]);
        let stores =
            Some([databases[0].open(&clock).await.unwrap(), databases[1].open(&clock).await.unwrap()]);
        Self {
            clock,
            databases,
            stores,
            attempts: Vec::new(),
            sequences: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    /// Counts from the newest attempt: old ones speak up more rarely.
    fn token(&self, index: usize) -> AttemptToken {
        let index = index * index / 40;
        if self.attempts.is_empty() {
            AttemptToken(5)
        } else {
            self.attempts[self.attempts.len() - 1 - index % self.attempts.len()]
        }
    }

    fn batch(&self, token: AttemptToken, choice: &BatchChoice) -> Batch {
        let due = self.sequences.get(&token).copied().unwrap_or(0) + 1;
        let digest = choice.digest.map(|digest| DIGESTS[digest].to_owned());
        let fingerprint = |dataset_digest| Fingerprint {
            dataset_digest,
            device: "GPU".to_owned(),
            ..Fingerprint::default()
        };
        Batch {
            sequence: due.saturating_add_signed(choice.offset),
            fingerprint: digest.map(fingerprint),
            evaluations: choice.evaluations.clone(),
            losses: vec![TrainingLoss { step: due.min(20), loss: 1.0 / due as f64, seconds: None }],
            log: choice.log.clone(),
            artifacts: choice.digest.map(|digest| self.checkpoint(token, due, digest)).into_iter().collect(),
            resumed: choice.digest.map(|digest| Resumed {
                token: AttemptToken(token.0 - 1),
                step: due.min(20),
                exact: digest == 0,
            }),
            notes: choice.digest.map(|digest| format!("note {digest}")).into_iter().collect(),
        }
    }

    fn checkpoint(&self, token: AttemptToken, step: u64, digest: usize) -> Artifact {
        let (kind, method, step) = (ArtifactKind::Checkpoint, Method::Plain, step.min(20));
        Artifact {
            kind,
            method,
            step,
            key: format!("checkpoints/{token}-{step}"),
            digest: format!("{digest:064}"),
            bytes: step,
        }
    }

    /// Does a step to both and compares their answers.
    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Pass(seconds) => self.clock.pass(Duration::from_secs(*seconds)),
            Step::Restart => {
                drop(self.stores.take());
                let model = self.databases[0].open_again(&self.clock).await;
                self.stores = Some([model, self.databases[1].open_again(&self.clock).await]);
            }
            _ => {
                let Some(stores) = &self.stores else { return Ok(()) };
                let (model, leases) = self.ask(&stores[0], step).await;
                let (real, _) = self.ask(&stores[1], step).await;
                prop_assert_eq!(&model, &real);
                self.note(step, &model, leases);
            }
        }
        Ok(())
    }

    fn note(&mut self, step: &Step, answer: &Shown, leases: Vec<Lease>) {
        self.attempts.extend(leases.iter().map(|lease| lease.token));
        let accepted = !answer.starts_with("refused");
        let kind = match (step, accepted) {
            (Step::Report { .. }, true) => "reports",
            (Step::Report { .. }, false) => "refused reports",
            (Step::Complete { .. }, true) => "ends",
            (Step::Complete { .. }, false) => "refused ends",
            _ => "others",
        };
        *self.seen.entry(kind).or_default() += 1;
        *self.seen.entry("leases").or_default() += leases.len() as u64;
        if let Step::Report { attempt, choice } | Step::Complete { attempt, choice: Some(choice), .. } = step
            && accepted
            && choice.offset == 0
        {
            let token = self.token(*attempt);
            *self.sequences.entry(token).or_default() += 1;
        }
    }

    async fn ask(&self, store: &Store, step: &Step) -> (Shown, Vec<Lease>) {
        let mut leases = Vec::new();
        let answer = match step {
            Step::Register(index) => {
                let mut worker = Worker { ..worker(WORKERS[*index]) };
                worker.abilities.tags = if *index == 1 { vec!["fast".to_owned()] } else { Vec::new() };
                shown(store.register(&worker).await)
            }
            Step::Leave(worker) => shown(store.leave(secret(), WORKERS[*worker]).await),
            Step::Submit { sweep, grid, reuse, priority } => {
                let reuse = if *reuse { Reuse::Complete } else { Reuse::Never };
                let text = sweep_text(SWEEPS[*sweep], *grid);
                shown(submit(store, &text, SubmitOptions { reuse, priority: *priority }).await)
            }
            Step::Claim { worker, count_max, sweep } => {
                let sweep = sweep.map(|sweep| SWEEPS[sweep].to_owned());
                let claimed =
                    store.claim(Claim { sweep, ..claim(WORKERS[*worker], *count_max) }, Duration::ZERO).await;
                leases.extend(claimed.iter().flat_map(|claimed| claimed.leases.clone()));
                shown(claimed)
            }
            Step::Heartbeat { worker, attempts } => {
                let attempts = attempts
                    .iter()
                    .map(|(attempt, step)| AttemptHeartbeat::at(self.token(*attempt), *step))
                    .collect();
                shown(store.heartbeat(secret(), WORKERS[*worker], attempts).await)
            }
            Step::Report { attempt, choice } => {
                let token = self.token(*attempt);
                shown(store.report(secret(), token, self.batch(token, choice)).await)
            }
            Step::Complete { attempt, choice, outcome } => {
                let token = self.token(*attempt);
                let batch = choice.as_ref().map(|choice| self.batch(token, choice));
                shown(store.complete(secret(), Completion { token, batch, outcome: outcome.clone() }).await)
            }
            Step::Reap => shown(store.reap().await),
            Step::Grace => shown(store.grant_grace().await),
            Step::Act { sweep, action } => shown(store.act(SWEEPS[*sweep], action.clone()).await),
            Step::Delete { sweep, only_ask } => shown(store.delete(SWEEPS[*sweep], *only_ask).await),
            Step::OnTrials { sweep, action, condition, state } => shown(
                store.act_on_trials(SWEEPS[*sweep], *action, &filter(CONDITIONS[*condition]), *state).await,
            ),
            Step::Pin(digest) => shown(store.pin("PACS", None, DIGESTS[*digest]).await),
            Step::Unpin => shown(store.unpin("PACS", None).await),
            Step::Pass(_) | Step::Restart => String::new(),
        };
        (answer, leases)
    }

    async fn compare_everything(&self) -> Result<(), TestCaseError> {
        let Some([model, real]) = &self.stores else { return Ok(()) };
        prop_assert_eq!(shown(model.status(None).await), shown(real.status(None).await));
        prop_assert_eq!(shown(model.status_of_all().await), shown(real.status_of_all().await));
        prop_assert_eq!(shown(model.workers(true).await), shown(real.workers(true).await));
        for status in model.status_of_all().await.unwrap() {
            let sweep = status.sweep.as_str();
            let lines = model.trials(sweep, None, 0).await;
            prop_assert_eq!(shown(real.trials(sweep, None, 0).await), shown(Ok(lines.as_ref().unwrap())));
            for detail in [Detail::All, Detail::Scores] {
                let portion = PageRequest { from: 0, trials_max: PageRequest::TRIALS, detail };
                prop_assert_eq!(
                    shown(model.records(sweep, portion).await),
                    shown(real.records(sweep, portion).await)
                );
            }
            for line in lines.unwrap().rows {
                let name = format!("{sweep}/{}", line.spec_hash);
                prop_assert_eq!(shown(model.history(&name).await), shown(real.history(&name).await));
                prop_assert_eq!(shown(model.log(&name, None).await), shown(real.log(&name, None).await));
                prop_assert_eq!(
                    shown(model.log_text(&name, None).await),
                    shown(real.log_text(&name, None).await)
                );
            }
        }
        Ok(())
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn compare(cases: u32, real: impl Fn() -> Option<Database>) {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&setting("SORTIE_TEST_SEED").unwrap_or(0).to_le_bytes());
    let cases = setting("SORTIE_TEST_CASES").map_or(cases, |cases| u32::try_from(cases).unwrap());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let seen = std::cell::RefCell::new(HashMap::<&'static str, u64>::new());
    let ran = runner.run(&prop::collection::vec(step(), 20..90), |steps| {
        let Some(database) = real() else { return Ok(()) };
        // One for each case: with it go the connections of stores that were dropped.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new(database).await;
            let first = [0, 1].map(Step::Register).into_iter().chain([Step::Submit {
                sweep: 0,
                grid: 1,
                reuse: true,
                priority: None,
            }]);
            for step in first.chain(steps) {
                pair.step(&step).await?;
            }
            pair.compare_everything().await?;
            for (kind, count) in &pair.seen {
                *seen.borrow_mut().entry(kind).or_default() += count;
            }
            Ok(())
        })
    });
    println!("{:?}", seen.borrow());
    if let Err(error) = ran {
        panic!("{error}");
    }
    // Sequences in which nothing is accepted would prove nothing.
    for kind in ["leases", "reports", "refused reports", "ends", "refused ends"] {
        let count = seen.borrow().get(kind).copied().unwrap_or(0);
        assert!(seen.borrow().is_empty() || count >= u64::from(cases), "{kind}: {count} in {cases} cases");
    }
}

#[test]
fn sqlite_answers_as_the_model_does() {
    compare(30, || Some(Database::sqlite()));
}

#[test]
fn postgres_answers_as_the_model_does() {
    compare(8, Database::postgres);
}
