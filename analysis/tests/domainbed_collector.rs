//! Trees of two and of five datasets: our tables are those that DomainBed's own collector printed for the same records, averages and LaTeX
//! included. `collected/` holds what it printed. Where `SORTIE_DOMAINBED_TREES` names a folder, the trees are written
//! there for it to read, and nothing is compared.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use sortie_analysis::domainbed::{
    self, MISSING, Record, Run, SelectionMethod, latex, read, runs, tables, together, write,
};
use sortie_core::metrics::{Evaluation, Method, Score, SplitName};
use sortie_core::spec::Imported;
use sortie_core::trial::Work;
use support::{point, succeeded, work};

/// DomainBed's names and numbers of domains; the first two are the small tree.
const DATASETS: [(&str, usize); 5] =
    [("VLCS", 4), ("OfficeHome", 4), ("PACS", 4), ("TerraIncognita", 4), ("DomainNet", 6)];
/// The folders of the same datasets.
const FOLDERS: [&str; 5] = ["VLCS", "office_home", "PACS", "terra_incognita", "domain_net"];

/// A fraction that depends on these words and on nothing else.
fn accuracy(words: &str) -> f64 {
    let mut hash = words.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (1_200 + (hash >> 40) % 700) as f64 / 1_999.0
}

/// Runs of three algorithms, one of which DomainBed does not know and one of which lacks a dataset; pairs of held-out domains for the first
/// dataset, two of which are missing.
fn other_runs(datasets: &[(&str, usize)]) -> Vec<Run> {
    let mut runs = Vec::new();
    for (index, &(dataset, envs)) in datasets.iter().enumerate() {
        for algorithm in ["CORAL", "ERM", "an algorithm with a long name"] {
            if index == 1 && algorithm == "CORAL" {
                continue;
            }
            let last = if index == 0 && algorithm == "ERM" { envs } else { 0 };
            let pairs = (0..last).flat_map(|a| (a + 1..last).map(move |b| vec![a, b]));
            for test_envs in (0..envs).map(|env| vec![env]).chain(pairs) {
                for (trial_seed, hparams_seed) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)] {
                    let name = format!("{index}-{algorithm}-{test_envs:?}-{trial_seed}-{hparams_seed}");
                    // Some runs are missing.
                    if accuracy(&format!("missing {name}")) < 0.63 {
                        continue;
                    }
                    let record = |step: i64| {
                        let of = |split: &str| {
                            (0..envs).map(|env| accuracy(&format!("{name} {step} {env} {split}"))).collect()
                        };
                        Record { step, in_acc: of("in"), out_acc: of("out") }
                    };
                    let records = [0, 300, 600].map(record).to_vec();
                    runs.push(Run {
                        name: name.replace(['[', ']', ' ', ','], "_"),
                        algorithm: algorithm.to_owned(),
                        dataset: dataset.to_owned(),
                        test_envs: test_envs.clone(),
                        trial_seed,
                        hparams_seed,
                        records,
                        done: true,
                        ..Run::default()
                    });
                }
            }
        }
    }
    runs
}

/// Sweeps of Sortie's own on these datasets: two rates, two learning rates, two seeds, two models; some trials are missing.
fn own_sweep(work: &Work) -> Vec<Run> {
    let mut records = Vec::new();
    for domain in work.domains() {
        for (dropout, lr, seed) in [0.0, 0.9]
            .into_iter()
            .flat_map(|a| [1e-3, 5e-4].map(|b| (a, b)))
            .flat_map(|(a, b)| [(a, b, 0), (a, b, 1)])
        {
            let name = format!("{domain} {dropout} {lr} {seed}");
            if accuracy(&format!("missing {name}")) < 0.62 {
                continue;
            }
            let mut record = succeeded(work, point(domain, dropout, lr, seed), 900, 700);
            let rows: Vec<Evaluation> = record.validation.iter().chain(&record.held_out).cloned().collect();
            (record.validation, record.held_out) = (Vec::new(), Vec::new());
            for row in rows {
                for (step, method) in [(0, Method::Plain), (20, Method::Plain), (20, Method::Average)] {
                    let value = accuracy(&format!("{name} {} {} {step} {method}", row.domain, row.split));
                    let score = Some(Score::Value { value, n: 0 });
                    let row = Evaluation { step, method, score, ..row.clone() };
                    let held_out = record.point.is_held_out(&row.domain);
                    if held_out { &mut record.held_out } else { &mut record.validation }.push(row);
                }
            }
            // The reference code does not evaluate the training domains' `in` split.
            if lr == 1e-3 {
                record.validation.retain(|row| row.split == SplitName::Out);
            }
            records.push(record);
        }
    }
    runs(work, &records, &Imported::default())
}

fn own_runs(folders: &[&str]) -> Vec<Run> {
    let sweeps = folders.iter().map(|folder| ((*folder).to_owned(), own_sweep(&work(folder)))).collect();
    together(sweeps).unwrap()
}

/// Compares with what the collector printed, after the records went through files.
fn check(name: &str, made: &[Run]) {
    if let Some(trees) = std::env::var_os("SORTIE_DOMAINBED_TREES") {
        return write(&Path::new(&trees).join(name), made).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), made).unwrap();
    let runs = read(folder.path()).unwrap().runs;
    let printed = |ending: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/collected/{name}.{ending}"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    assert_eq!(tables(&runs, &SelectionMethod::ALL), printed("txt"), "{name}");
    assert_eq!(latex(&runs, &SelectionMethod::ALL), printed("tex"), "{name}");
}

#[test]
fn the_records_of_other_programs_give_the_collectors_tables() {
    check("other-two", &other_runs(&DATASETS[..2]));
    check("other-five", &other_runs(&DATASETS));
}

#[test]
fn exported_sweeps_give_the_collectors_tables() {
    let two = own_runs(&FOLDERS[..2]);
    assert!(two.iter().any(|run| run.records.iter().any(|record| record.in_acc.contains(&MISSING))));
    check("own-two", &two);
    check("own-five", &own_runs(&FOLDERS));
}

#[test]
fn datasets_are_exported_under_domainbeds_names() {
    let datasets: Vec<String> =
        FOLDERS.iter().map(|folder| own_sweep(&work(folder))[0].dataset.clone()).collect();
    assert_eq!(datasets, DATASETS.map(|(name, _)| name));
    assert!(FOLDERS.iter().all(|folder| domainbed::unshown(&work(folder)).is_none()));
}
