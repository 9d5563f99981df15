//! Ensembles and averages across trials: real processes, against what their members' files give by plain arithmetic.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml excuses only functions that are tests themselves, not their helpers"
)]

#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "common/fixtures.rs"]
mod common;
#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "common/process.rs"]
mod process;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::path::Path;

use process::{Interruption, ProcessOutput, TestFolders, assignment, folders, run};
use safetensors::SafeTensors;
use sortie_core::artifact::{Artifact, ArtifactKind};
use sortie_core::combine::{Choice, Combination, CombinationKind, Member};
use sortie_core::finetune::{Average, AverageEvery, Finetune, FinetuneSpec};
use sortie_core::job::{ErrorClass, Outcome};
use sortie_core::metrics::{Evaluation, Method, Score};
use sortie_core::pipe::CombinationAssignment;
use sortie_core::trial::{SpecHash, TrialSpec, Work};
use sortie_data::{DatasetFolder, Images, NoProgress, split_domains};
use sortie_trainer::training::LoadedNetwork;
use tch::Device;

const LAST: u64 = 4;

/// Tensors by name, in double precision.
type Tensors = BTreeMap<String, Vec<f64>>;

/// Three members of seeds and rates of their own.
struct Members {
    folders: TestFolders,
    spec: FinetuneSpec,
    members: Vec<Member>,
}

impl Members {
    fn train(root: &Path, finetune: Finetune, method: Method) -> Self {
        let folders = folders(root);
        let mut spec = tiny::spec(tiny::tiny(), "pen");
        (spec.settings.steps, spec.settings.finetune) = (LAST, finetune);
        spec.settings.average = Some(Average { from: 1, every: AverageEvery::Steps(1) });
        let mut members = Vec::new();
        for (seed, dropout, lr) in [(0, 0.0, 1e-2), (1, 0.5, 3e-3), (2, 0.9, 1e-3)] {
            (spec.point.seed, spec.point.dropout, spec.point.lr) = (seed, dropout, lr);
            let output = run(&assignment(&spec, &folders, 1), Interruption::default());
            assert_eq!(output.outcome, Some(Outcome::Succeeded), "{}", output.printed);
            let is_final = |file: &&Artifact| {
                matches!(file.kind, ArtifactKind::FinalWeights | ArtifactKind::FinalLogits)
            };
            let files = output
                .artifacts
                .iter()
                .filter(|file| is_final(file) && file.method == method)
                .cloned()
                .collect();
            let trial = TrialSpec {
                work: Work::Finetune(spec.settings.clone()),
                point: (&spec.point).into(),
                combination: None,
            };
            members.push(Member { spec_hash: trial.hash(), files, host: String::new() });
        }
        // As `TrialSpec::finetune` makes it of a combination.
        spec.settings.average = None;
        (spec.point.seed, spec.point.dropout, spec.point.lr, spec.point.weight_decay) = (0, 0.0, 0.0, 0.0);
        Self { folders, spec, members }
    }

    fn combination(&self, kind: CombinationKind, choice: Choice) -> CombinationAssignment {
        let ids: Vec<SpecHash> = self.members.iter().map(|member| member.spec_hash).collect();
        let combination = Combination { kind, choice, method: Method::Plain, members: ids };
        let point = (&self.spec.point).into();
        let trial = TrialSpec {
            work: Work::Finetune(self.spec.settings.clone()),
            point,
            combination: Some(combination.clone()),
        };
        CombinationAssignment { spec_hash: trial.hash(), combination, members: self.members.clone() }
    }

    fn run(&self, combination: CombinationAssignment, interruption: Interruption) -> ProcessOutput {
        let mut assignment = assignment(&self.spec, &self.folders, 9);
        assignment.combination = Some(combination);
        run(&assignment, interruption)
    }

    fn combine(&self, kind: CombinationKind, choice: Choice) -> ProcessOutput {
        let output = self.run(self.combination(kind, choice), Interruption::default());
        assert_eq!(output.outcome, Some(Outcome::Succeeded), "{}", output.printed);
        assert!(
            output.losses.is_empty()
                && output.evaluations.iter().all(|row| (row.method, row.step) == (Method::Plain, LAST))
        );
        // `out` of two training domains, both splits of the held-out one.
        assert_eq!(output.evaluations.len(), 4);
        output
    }

    fn tensors(&self, files: &[Artifact], kind: ArtifactKind) -> Tensors {
        let file = files.iter().find(|file| file.kind == kind).unwrap();
        let bytes = std::fs::read(self.folders.store.join(&file.key)).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let values = |data: &[u8]| {
            data.chunks_exact(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap()))).collect()
        };
        read.tensors().into_iter().map(|(name, view)| (name, values(view.data()))).collect()
    }

    /// The mean over some members, summed in their order.
    fn mean(&self, chosen: &[usize], kind: ArtifactKind) -> Tensors {
        let mut sum = self.tensors(&self.members[chosen[0]].files, kind);
        for &index in &chosen[1..] {
            for (name, values) in self.tensors(&self.members[index].files, kind) {
                sum.get_mut(&name).unwrap().iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        sum.values_mut().flatten().for_each(|value| *value /= chosen.len() as f64);
        sum
    }

    /// The classes of the images of each `domain/split`, in the order of their logits.
    fn labels(&self) -> BTreeMap<String, Vec<usize>> {
        let dataset = &self.spec.settings.dataset;
        let folder = DatasetFolder::scan(&self.folders.data, dataset).unwrap();
        let images = Images::open(folder, &self.folders.data.join("cache"), None, &NoProgress).unwrap();
        let splits = split_domains(&images, 3, dataset.split_by, 0);
        let mut labels = BTreeMap::new();
        for (domain, (name, split)) in dataset.domains.iter().zip(&splits).enumerate() {
            for (part, indices) in [("in", &split.in_), ("out", &split.out)] {
                labels.insert(
                    format!("{name}/{part}"),
                    indices.iter().map(|&index| images.label(domain, index)).collect(),
                );
            }
        }
        labels
    }
}

fn name(row: &Evaluation) -> String {
    format!("{}/{}", row.domain, row.split)
}

/// Correct images and mean cross entropy of logits of two classes.
fn evaluate(logits: &[f64], labels: &[usize]) -> (u64, f64) {
    let rows = logits.chunks_exact(2).zip(labels);
    let correct = rows.clone().filter(|(row, label)| usize::from(row[1] > row[0]) == **label).count() as u64;
    let loss: f64 = rows.map(|(row, label)| (row[0].exp() + row[1].exp()).ln() - row[*label]).sum();
    (correct, loss / labels.len() as f64)
}

fn check(output: &ProcessOutput, logits: &Tensors, labels: &BTreeMap<String, Vec<usize>>, tolerance: f64) {
    for row in &output.evaluations {
        let (correct, loss) = evaluate(&logits[&name(row)], &labels[&name(row)]);
        assert_eq!(row.score, Some(Score::Counts { n: labels[&name(row)].len() as u64, correct }), "{row:?}");
        assert!((row.loss.unwrap() - loss).abs() <= tolerance, "{row:?}: {loss}");
    }
}

/// The members that a greedy choice takes, by logits.
fn greedy(members: &Members, labels: &BTreeMap<String, Vec<usize>>) -> Vec<usize> {
    let iid = |chosen: &[usize]| {
        let logits = members.mean(chosen, ArtifactKind::FinalLogits);
        let accuracy =
            |part: &str| evaluate(&logits[part], &labels[part]).0 as f64 / labels[part].len() as f64;
        (accuracy("ink/out") + accuracy("oil/out")) / 2.0
    };
    let mut order = [0, 1, 2];
    order.sort_by(|a, b| iid(&[*b]).total_cmp(&iid(&[*a])).then(a.cmp(b)));
    let mut taken = vec![order[0]];
    for &next in &order[1..] {
        let with: Vec<usize> = taken.iter().copied().chain([next]).collect();
        if iid(&with) >= iid(&taken) {
            taken = with;
        }
    }
    taken
}

#[test]
fn an_ensemble_is_the_mean_of_its_members_logits() {
    let root = tempfile::tempdir().unwrap();
    let members = Members::train(root.path(), Finetune::Full, Method::Plain);
    let labels = members.labels();
    let uniform = members.combine(CombinationKind::Ensemble, Choice::Uniform);
    let mean = members.mean(&[0, 1, 2], ArtifactKind::FinalLogits);
    check(&uniform, &mean, &labels, 1e-12);
    // Its logits are saved in single precision, and no weights.
    let saved = members.tensors(&uniform.artifacts, ArtifactKind::FinalLogits);
    assert_eq!(
        saved,
        mean.into_iter()
            .map(|(name, values)| (name, values.iter().map(|&value| f64::from(value as f32)).collect()))
            .collect()
    );
    assert_eq!(uniform.artifacts.len(), 1);

    let taken = greedy(&members, &labels);
    let chosen = members.combine(CombinationKind::Ensemble, Choice::Greedy);
    check(&chosen, &members.mean(&taken, ArtifactKind::FinalLogits), &labels, 1e-12);
    assert_eq!(chosen.printed.matches(": taken").count(), taken.len(), "{}", chosen.printed);
}

#[test]
fn an_average_is_the_network_with_the_mean_of_its_members_weights() {
    for (finetune, method) in [
        (Finetune::Full, Method::Plain),
        (Finetune::Linear, Method::Plain),
        (Finetune::Full, Method::Average),
    ] {
        let root = tempfile::tempdir().unwrap();
        let members = Members::train(root.path(), finetune, method);
        for choice in [Choice::Uniform, Choice::Greedy] {
            let output = members.combine(CombinationKind::Average, choice);
            let taken: Vec<usize> = match choice {
                Choice::Uniform => vec![0, 1, 2],
                Choice::Greedy => taken(&members, &output.printed),
            };
            let saved = members.tensors(&output.artifacts, ArtifactKind::FinalWeights);
            let mean = members.mean(&taken, ArtifactKind::FinalWeights);
            assert_eq!(saved.keys().collect::<Vec<_>>(), mean.keys().collect::<Vec<_>>());
            for (name, values) in &mean {
                // What no member trains is the same in all of them, and is the network's own.
                let rounded: Vec<f64> = values.iter().map(|&value| f64::from(value as f32)).collect();
                assert!(saved[name] == rounded, "{name}");
            }
            check(
                &output,
                &members.tensors(&output.artifacts, ArtifactKind::FinalLogits),
                &members.labels(),
                1e-6,
            );
            check_saved_network(&members, &output);
        }
    }
}

/// The members that the log says were taken, in its order.
fn taken(members: &Members, printed: &str) -> Vec<usize> {
    let lines = printed.lines().filter(|line| line.ends_with(": taken"));
    let id = |line: &str| line.split([' ', ':']).nth(1).unwrap().to_owned();
    let position =
        |id: String| members.members.iter().position(|member| member.spec_hash.short() == id).unwrap();
    lines.map(|line| position(id(line))).collect()
}

/// Reads the saved network from its file, and evaluates it on the held-out domain, whose images are not augmented.
fn check_saved_network(members: &Members, output: &ProcessOutput) {
    let file = output.artifacts.iter().find(|file| file.kind == ArtifactKind::FinalWeights).unwrap();
    let cache = members.folders.data.join("cache");
    let network = LoadedNetwork::read(&members.folders.store.join(&file.key), &cache, Device::Cpu).unwrap();
    let found = network.logits(&members.folders.data, &members.spec.settings.dataset, &[2], &cache).unwrap();
    let rows = found[0].logits.chunks_exact(2).zip(&found[0].labels);
    let correct = rows.filter(|(row, label)| usize::from(row[1] > row[0]) == **label).count() as u64;
    let held_out = output.evaluations.iter().filter(|row| row.domain == "pen");
    let counted: u64 = held_out
        .map(|row| if let Some(Score::Counts { correct, .. }) = row.score { correct } else { 0 })
        .sum();
    assert_eq!(counted, correct);
}

#[test]
fn a_combination_that_is_killed_starts_again_with_the_same_result() {
    let root = tempfile::tempdir().unwrap();
    let members = Members::train(root.path(), Finetune::Full, Method::Plain);
    for (kind, choice) in
        [(CombinationKind::Average, Choice::Greedy), (CombinationKind::Ensemble, Choice::Uniform)]
    {
        let uninterrupted = members.combine(kind, choice);
        let killed = members.run(
            members.combination(kind, choice),
            Interruption { kill_at_start: true, ..Interruption::default() },
        );
        assert_eq!((killed.outcome, killed.evaluations.len()), (None, 0));
        assert_eq!(members.combine(kind, choice).result(), uninterrupted.result());
    }
}

#[test]
fn a_member_whose_file_is_not_there_is_named() {
    let root = tempfile::tempdir().unwrap();
    let members = Members::train(root.path(), Finetune::Full, Method::Plain);
    let combination = members.combination(CombinationKind::Ensemble, Choice::Uniform);
    let id = combination.members[1].spec_hash.short();
    let failed = |combination: CombinationAssignment| match members
        .run(combination, Interruption::default())
        .outcome
    {
        Some(Outcome::Failed { class, message }) if message.contains(&id) && !message.contains('\n') => {
            (class, message)
        }
        other => panic!("{other:?}"),
    };
    let mut without = combination.clone();
    without.members[1].files.retain(|file| file.kind != ArtifactKind::FinalLogits);
    let (class, message) = failed(without);
    assert!(class == ErrorClass::BadConfig && message.contains("--no-reuse"), "{message}");
    let mut elsewhere = combination.clone();
    elsewhere.members[1].host = "other".to_owned();
    let logits =
        elsewhere.members[1].files.iter_mut().find(|file| file.kind == ArtifactKind::FinalLogits).unwrap();
    logits.key = format!("final-logits/{id}/gone.safetensors");
    let (class, message) = failed(elsewhere);
    assert!(class == ErrorClass::BadConfig && message.contains("other's own disk"), "{message}");
    let mut damaged = combination;
    let file = damaged.members[1].files.iter().find(|file| file.kind == ArtifactKind::FinalLogits).unwrap();
    std::fs::write(members.folders.store.join(&file.key), b"damaged").unwrap();
    damaged.members[1].host.clear();
    let (class, message) = failed(damaged);
    assert!(class == ErrorClass::Transient && message.contains("truncated"), "{message}");
}
