//! The runs of several sweeps, as one DomainBed sweep.

use std::collections::{BTreeMap, BTreeSet};

use super::Run;

/// Two sweeps whose different runs DomainBed would take for hyper-parameters of one algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "sweeps {first} and {second} have different runs of {algorithm} on {dataset}, which DomainBed would take for one algorithm's: name one of them, or take trials apart with --where"
)]
pub struct MixedRuns {
    first: String,
    second: String,
    algorithm: String,
    dataset: String,
}

/// The runs of sweeps, by their names. Of an algorithm on a dataset they are those of one sweep: a trial that stands in several counts once.
///
/// # Errors
/// [`MixedRuns`] where two sweeps have different runs of an algorithm on a dataset.
pub fn together(sweeps: Vec<(String, Vec<Run>)>) -> Result<Vec<Run>, MixedRuns> {
    type Names<'a> = BTreeSet<&'a str>;
    // The sweep that has all runs of an algorithm on a dataset.
    let mut owners: BTreeMap<(String, String), usize> = BTreeMap::new();
    {
        let mut all: BTreeMap<(&str, &str), BTreeMap<usize, Names<'_>>> = BTreeMap::new();
        for (index, (_, runs)) in sweeps.iter().enumerate() {
            for run in runs {
                let sweeps = all.entry((&run.dataset, &run.algorithm)).or_default();
                sweeps.entry(index).or_default().insert(&run.name);
            }
        }
        for ((dataset, algorithm), own) in all {
            let most = own.iter().max_by_key(|(index, names)| (names.len(), std::cmp::Reverse(**index)));
            let Some((&owner, names)) = most else { continue };
            if let Some((&other, _)) = own.iter().find(|(_, others)| !others.is_subset(names)) {
                return Err(MixedRuns {
                    first: sweeps[owner.min(other)].0.clone(),
                    second: sweeps[owner.max(other)].0.clone(),
                    algorithm: algorithm.to_owned(),
                    dataset: dataset.to_owned(),
                });
            }
            owners.insert((dataset.to_owned(), algorithm.to_owned()), owner);
        }
    }
    let mut together = Vec::new();
    for (index, (_, runs)) in sweeps.into_iter().enumerate() {
        let owns = |run: &Run| owners.get(&(run.dataset.clone(), run.algorithm.clone())) == Some(&index);
        together.extend(runs.into_iter().filter(owns));
    }
    Ok(together)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(name: &str, dataset: &str, runs: &[(&str, &str)]) -> (String, Vec<Run>) {
        let run = |(name, algorithm): &(&str, &str)| Run {
            name: (*name).to_owned(),
            algorithm: (*algorithm).to_owned(),
            dataset: dataset.to_owned(),
            ..Run::default()
        };
        (name.to_owned(), runs.iter().map(run).collect())
    }

    #[test]
    fn a_run_of_several_sweeps_counts_once_and_different_ones_are_not_mixed() {
        let names = |sweeps: Vec<_>| {
            together(sweeps).map(|runs| runs.iter().map(|run| run.name.clone()).collect::<Vec<_>>().join(" "))
        };
        let some = || sweep("some", "PACS", &[("1", "ERM")]);
        let all = || sweep("all", "PACS", &[("1", "ERM"), ("2", "ERM"), ("3", "IRM")]);
        let other = |name, dataset| sweep(name, dataset, &[("4", "ERM")]);
        assert_eq!(names(vec![some(), all()]), Ok("1 2 3".to_owned()));
        assert_eq!(names(vec![all(), some(), other("vlcs", "VLCS")]), Ok("1 2 3 4".to_owned()));
        let error = names(vec![some(), all(), other("third", "PACS")]).unwrap_err().to_string();
        assert!(
            error.starts_with("sweeps all and third have different runs of ERM on PACS, ")
                && !error.contains('\n'),
            "{error}"
        );
    }
}
