//! A file of DomainBed's records: read and imported, or refused in one line.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use sortie_analysis::domainbed::{ImportedSweep, Run, SelectionMethod, latex, read, tables};
use sortie_fuzz::is_one_line;

fuzz_target!(|data: &[u8]| {
    let root = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let folder = root.path().join("run");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("results.jsonl"), data).expect("a file");
    let folders = match read(root.path()) {
        Ok(folders) => folders,
        Err(refusal) => return is_one_line(&refusal),
    };
    let methods = &SelectionMethod::ALL;
    let _ = (tables(&folders.runs, methods), latex(&folders.runs, methods));
    let mut datasets: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    for run in folders.runs {
        datasets.entry(run.dataset.clone()).or_default().push(run);
    }
    for (dataset, runs) in datasets {
        match ImportedSweep::of("s", &dataset, runs, &BTreeSet::new()) {
            Ok(sweep) => {
                for (_, run) in sweep.trials() {
                    let _ = sweep.evaluations(run);
                }
            }
            Err(refusal) => is_one_line(&refusal),
        }
    }
});
