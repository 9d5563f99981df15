//! The commands of docs/reproduce.md and README.md, as they stand there. Of the former, each of the paper's experiments is submitted, its trials are told by a worker
//! that makes their numbers up, and each figure and table is made. Thousands of trials, so each tells two steps only.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[path = "support/link.rs"]
mod link;
#[expect(dead_code, reason = "each test file uses its part of the shared module")]
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use link::link;
use serde_json::Value;
use sortie_core::artifact::{Artifact, ArtifactKind};
use sortie_core::finetune::FinetuneSpec;
use sortie_core::lease::{Batch, Lease};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_proto::v1;
use sortie_proto::v1::complete_request::Outcome;
use sortie_proto::v1::worker_service_client::WorkerServiceClient;
use sortie_testkit::programs::isolated;
use support::World;

/// The images of each split of a domain.
const IMAGES: u64 = 1_000;

#[test]
fn every_command_of_the_paper_runs_as_it_is_written() {
    let world = World::of_commands();
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reproduce.md")).unwrap();
    let mut commands = block(&page);
    let rows = rows(&page);
    assert!(commands.len() == 3 && rows.len() > 12, "{commands:?} {rows:?}");
    // The worker needs a GPU and the datasets: ours stands for it.
    assert!(commands.remove(1).starts_with("sortie worker --data"));
    run(&world, &commands[0]);
    tell(&world);
    run(&world, &commands[1]);
    for Row { presets, trials, command } in &rows {
        for preset in presets {
            run(&world, &format!("sortie submit --preset {preset}"));
            tell(&world);
            let status = world.status(preset);
            assert_eq!(status["planned"], status["succeeded"], "{preset}: {status}");
            assert_trials(&world, preset, trials);
        }
        let output = run(&world, command);
        assert!(!output.stdout.is_empty(), "{command}");
    }
    let pictures: Vec<_> =
        fs::read_dir(world.folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
    let pictures = pictures.iter().filter(|path| path.extension().is_some_and(|ending| ending == "pdf"));
    assert!(pictures.clone().count() > 10);
    for picture in pictures {
        assert!(fs::read(picture).unwrap().starts_with(b"%PDF-"), "{}", picture.display());
    }
    // To look at them: a folder that stays.
    if let Some(folder) = std::env::var_os("SORTIE_PAPER_FIGURES") {
        fs::create_dir_all(&folder).unwrap();
        for Row { command, .. } in &rows {
            run(
                &world,
                &command.replace(".pdf", ".png").replace("-o ", &format!("-o {}/", folder.display())),
            );
        }
    }
}

/// What the README has that this test leaves out: what builds, trains, or never ends. Other tests do these.
const LEFT_OUT: [&str; 5] = ["cargo ", "sortie run", "sortie serve", "sortie worker", "sortie verify"];

#[test]
fn every_command_of_the_readme_runs_as_it_is_written() {
    let world = World::of_commands();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let mut fences = page.split("```").skip(1).step_by(2);
    let sweep = fences.clone().find_map(|block| block.strip_prefix("toml\n")).unwrap();
    fs::write(world.folder.path().join("pacs-dropout.toml"), sweep).unwrap();
    for (name, dataset) in
        [("vlcs", "VLCS"), ("pacs", "PACS"), ("office", "office_home"), ("terra", "terra_incognita")]
    {
        let named = sweep.replace("pacs-dropout", name).replace("\"PACS\"", &format!("{dataset:?}"));
        fs::write(world.folder.path().join("other.toml"), named).unwrap();
        run(&world, "sortie submit other.toml");
    }
    tell(&world);
    let (mut ran, mut left_out) = (0, 0);
    let lines = fences.by_ref().filter_map(|block| block.strip_prefix('\n')).flat_map(str::lines);
    for line in lines.filter(|line| !line.is_empty()) {
        if LEFT_OUT.iter().any(|start| line.starts_with(start)) {
            left_out += 1;
            continue;
        }
        let trials = world.json(&["trials", "pacs", "--json"]);
        let trial = trials["trials"][0]["trial"].as_str().unwrap();
        let line = line.replace("3f2a", &format!("pacs/{}", &trial[..8]));
        run(&world, &line);
        // Its results are there when the next line asks for them.
        tell(&world);
        ran += 1;
    }
    assert!(ran > 14 && left_out > 5, "{ran} commands ran, {left_out} were left out");
    for file in ["worker.toml", "rates.svg", "report.html", "evaluations.parquet"] {
        assert!(fs::metadata(world.folder.path().join(file)).unwrap().len() > 0, "{file}");
    }
}

/// The lines of the page's block of commands, without their comments.
fn block(page: &str) -> Vec<String> {
    let block = page.split("```\n").nth(1).unwrap();
    let command = |line: &str| line.split(" # ").next().unwrap().trim().to_owned();
    block.lines().map(command).filter(|line| !line.is_empty()).collect()
}

/// A row of the page's first table.
#[derive(Debug)]
struct Row {
    presets: Vec<String>,
    trials: String,
    command: String,
}

fn rows(page: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in page
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
    {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, presets, trials, command, _] = cells[..] else { panic!("{line}") };
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let command = quoted(command).swap_remove(0);
        rows.push(Row { presets: quoted(presets), trials: trials.to_owned(), command });
    }
    rows
}

/// Runs a line by a shell in the test's folder, as a reader would.
fn run(world: &World, line: &str) -> Output {
    let programs = Path::new(env!("CARGO_BIN_EXE_sortie")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = isolated("sh");
    command.args(["-ec", line]).current_dir(world.folder.path());
    let output = command.env("PATH", path).env("SORTIE_COORDINATOR", &world.url).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The numbers that the page gives are those of the sweep: its first number without combinations, and that of combinations or of new ones.
fn assert_trials(world: &World, preset: &str, told: &str) {
    let query = format!(
        "select combine is null as alone, count(*) as trials from v_trials where sweep = '{preset}' {} group by combine is null",
        if told.contains("are new") { "and reused = 0" } else { "" }
    );
    let counted = world.json(&["sql", &query, "--json"])["rows"].as_array().unwrap().clone();
    let of = |alone: bool| {
        let is_meant = |row: &&Value| row["alone"] == alone || row["alone"] == u8::from(alone);
        counted.iter().find(is_meant).map_or(0, |row| row["trials"].as_u64().unwrap())
    };
    let number = |text: &str| text.split(' ').next()?.parse::<u64>().ok();
    if let Some(trials) = number(told) {
        assert_eq!(of(true), trials, "{preset}: {told}");
    }
    let words: Vec<&str> = told.split(' ').collect();
    let at = words.iter().position(|word| word.starts_with("combinations"));
    let combinations = at.and_then(|at| words[at - 1].parse::<u64>().ok());
    if let Some(combinations) = combinations {
        assert_eq!(of(false), combinations, "{preset}: {told}");
    }
}

/// Runs everything that waits.
fn tell(world: &World) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work(&world.url));
}

/// A worker that makes its numbers up, until nothing waits.
async fn work(url: &str) {
    let mut service = WorkerServiceClient::new(link(url).await);
    // The same worker comes back.
    let secret = format!("sortie_{}", "5".repeat(64));
    let register = v1::RegisterRequest {
        secret: secret.clone(),
        version: Some(v1::Version::ours("test")),
        machine: "w".to_owned(),
        worker_id: "w".to_owned(),
        devices: vec!["cuda:0".to_owned()],
        gpu_memory_gib: 80.0,
        slots: 64,
        checkpoints: "shared".to_owned(),
        ..Default::default()
    };
    let incarnation = service.register(register).await.unwrap().into_inner().incarnation;
    let mut findings = v1::Findings::default();
    loop {
        let request = v1::LeaseRequest {
            worker_id: "w".to_owned(),
            count_max: 64,
            wait_ms: 1_000,
            return_when_idle: true,
            findings: Some(std::mem::take(&mut findings)),
            incarnation,
            secret: secret.clone(),
            ..Default::default()
        };
        let answer = service.lease(request).await.unwrap().into_inner();
        assert_eq!((answer.quarantined.as_str(), answer.unfit.as_str()), ("", ""));
        findings.has = answer.look_for;
        if answer.idle && answer.leases.is_empty() {
            return;
        }
        for lease in answer.leases {
            let lease = Lease::try_from(lease).unwrap();
            let spec = lease.spec.finetune().unwrap();
            let artifacts = if lease.spec.combination.is_some() { Vec::new() } else { logits(&spec) };
            let batch = Batch { sequence: 1, evaluations: evaluations(&spec), artifacts, ..Batch::default() };
            let (token, batch) = (lease.token.0, Some(batch.into()));
            let outcome = Some(Outcome::Succeeded(v1::Succeeded {}));
            service
                .complete(v1::CompleteRequest { token, batch, outcome, incarnation, secret: secret.clone() })
                .await
                .unwrap();
        }
    }
}

/// Accuracies as they may be: dropout helps where the domain is held out and costs where it is not, and no two trials are equal.
fn evaluations(spec: &FinetuneSpec) -> Vec<Evaluation> {
    let last = spec.settings.steps;
    let mut rows = Vec::new();
    for step in [last / 2 / spec.settings.evaluate_every * spec.settings.evaluate_every, last] {
        for method in spec.methods() {
            for domain in &spec.settings.dataset.domains {
                let held_out = spec.is_held_out(domain);
                for split in [SplitName::In, SplitName::Out]
                    .into_iter()
                    .filter(|split| held_out || *split == SplitName::Out)
                {
                    let correct = correct(spec, method, step, domain, split);
                    rows.push(Evaluation {
                        method,
                        step,
                        domain: domain.clone(),
                        split,
                        score: Some(Score::Counts { n: IMAGES, correct }),
                        loss: Some(1.0),
                        metrics: BTreeMap::new(),
                        seconds: None,
                    });
                }
            }
        }
    }
    rows
}

fn correct(spec: &FinetuneSpec, method: Method, step: u64, domain: &str, split: SplitName) -> u64 {
    let (dropout, lr) = (spec.point.dropout, spec.point.lr);
    let base = if spec.is_held_out(domain) { 600.0 + 80.0 * dropout } else { 850.0 - 40.0 * dropout };
    let gain = match method {
        Method::Plain => 0.0,
        _ => 15.0,
    };
    let text = format!("{:?} {method} {step} {domain} {split}", spec.point);
    let noise = f64::from(blake3::hash(text.as_bytes()).as_bytes()[0]) / 8.0;
    // Combinations of trials with several rates have none.
    let lost = if lr > 0.0 { 10.0 * (lr.log10() + 4.0).abs() } else { 0.0 };
    (base + gain + noise - lost) as u64
}

/// What combinations need of their members.
fn logits(spec: &FinetuneSpec) -> Vec<Artifact> {
    let file = |kind: ArtifactKind, method: Method| {
        let digest =
            blake3::hash(format!("{kind} {method} {:?}", spec.point).as_bytes()).to_hex().to_string();
        let key = format!("{kind}/{method}/{digest}");
        Artifact { kind, method, step: spec.settings.steps, key, digest, bytes: 1 }
    };
    let mut files: Vec<Artifact> =
        spec.methods().into_iter().map(|method| file(ArtifactKind::FinalLogits, method)).collect();
    let weights = spec.methods().into_iter().filter(|method| *method != Method::Ensemble);
    files.extend(weights.map(|method| file(ArtifactKind::FinalWeights, method)));
    files
}
