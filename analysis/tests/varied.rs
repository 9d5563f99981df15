//! A sweep over settings of `[train]`: one table, one figure, one comparison and one export by them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "other tests make their sweeps by hand")]
mod support;

use sortie_analysis::domainbed::runs;
use sortie_analysis::{Axis, FigureKind, FigureQuestion, Format, Question, figure, paired, results};
use sortie_core::filter::Filter;
use sortie_core::record::TrialRecord;
use sortie_core::spec::SweepSpec;
use support::succeeded;

const SWEEP: &str = "name = 's'\n[data]\ndataset = 'PACS'\n[model]\nbackbone = 'resnet50-v1'\n[train]\nsteps = 20\nevaluate_every = 10\n\
    batch_per_domain = [8, 32]\nprecision = ['fp32', 'bf16']\n[grid]\ndropout = 0\nlr = 1e-3\nweight_decay = 0\n\
    held_out = ['photo', 'sketch']\nseeds = 2\n";

/// Batches of 32 are two points better, bf16 is one worse.
fn sweep() -> (SweepSpec, Vec<TrialRecord>) {
    let sweep = SweepSpec::parse(SWEEP, None).unwrap();
    let record = |point: &sortie_core::trial::Point, work: &sortie_core::trial::Work| {
        let large = point.parameters["batch_per_domain"].as_number() == Some(32.0);
        let low = point.parameters["precision"].to_string() == "bf16";
        let ood = 700 + 20 * u64::from(large) - 10 * u64::from(low) + point.seed;
        succeeded(work, point.clone(), 900, ood)
    };
    let records = sweep.trials().map(|trial| record(&trial.point, &trial.work)).collect();
    (sweep, records)
}

#[test]
fn one_table_has_a_row_for_each_combination() {
    let (sweep, records) = sweep();
    let by = ["batch_per_domain", "precision"].map(Axis::from).to_vec();
    let table =
        results("s", &sweep.work, &records, &Question { by: by.clone(), ..Question::default() }).unwrap();
    assert_eq!((table.axes.clone(), table.means.len()), (by, 4));
    insta::assert_snapshot!(table.render(Format::Latex), @r"
    % sweep s, selection iid: 16 of 16 trials done, 0 failed, 0 diverged, 0 cancelled

    % o.o.d. accuracy (held-out domain, in split), %
    \begin{tabular}{llrrrr}
    \toprule
    batch\_per\_domain & precision & photo & sketch & mean & done \\
    \midrule
    8 & bf16 & 69.0 $\pm$ 0.1 & 69.0 $\pm$ 0.1 & 69.0 $\pm$ 0.1 & 4/4 \\
    8 & fp32 & 70.0 $\pm$ 0.1 & 70.0 $\pm$ 0.1 & 70.0 $\pm$ 0.1 & 4/4 \\
    32 & bf16 & 71.0 $\pm$ 0.1 & 71.0 $\pm$ 0.1 & 71.0 $\pm$ 0.1 & 4/4 \\
    32 & fp32 & \textbf{72.0 $\pm$ 0.1} & \textbf{72.0 $\pm$ 0.1} & \textbf{72.0 $\pm$ 0.1} & 4/4 \\
    \bottomrule
    \end{tabular}

    % i.i.d. accuracy (training domains, out split), %
    \begin{tabular}{llrrrr}
    \toprule
    batch\_per\_domain & precision & photo & sketch & mean & done \\
    \midrule
    8 & bf16 & 90.0 $\pm$ 0.0 & 90.0 $\pm$ 0.0 & 90.0 $\pm$ 0.0 & 4/4 \\
    8 & fp32 & 90.0 $\pm$ 0.0 & 90.0 $\pm$ 0.0 & 90.0 $\pm$ 0.0 & 4/4 \\
    32 & bf16 & 90.0 $\pm$ 0.0 & 90.0 $\pm$ 0.0 & 90.0 $\pm$ 0.0 & 4/4 \\
    32 & fp32 & 90.0 $\pm$ 0.0 & 90.0 $\pm$ 0.0 & 90.0 $\pm$ 0.0 & 4/4 \\
    \bottomrule
    \end{tabular}

    % selection iid reads the out splits of the training domains; in/out: train/validation split; ± standard error of the mean over trials; bold: best of a complete column, with all that are shown as equal to it
    ");
    // Without a choice of rows they are these, for nothing else varies.
    let own = results("s", &sweep.work, &records, &Question::default()).unwrap();
    assert_eq!(own.render(Format::Csv), table.render(Format::Csv));
    let [a, b] = ["batch_per_domain=8", "batch_per_domain=32"].map(|text| Filter::parse(text).unwrap());
    let found = paired("s", &sweep.work, &records, &Question::default(), [&a, &b]).unwrap();
    assert!((found.ood.difference.mean.unwrap() - 0.02).abs() < 1e-12 && found.units == 4);
    let [a, b] = ["precision=fp32", "precision=bf16"].map(|text| Filter::parse(text).unwrap());
    let found = paired("s", &sweep.work, &records, &Question::default(), [&a, &b]).unwrap();
    assert!((found.ood.difference.mean.unwrap() + 0.01).abs() < 1e-12);
}

#[test]
fn one_figure_has_a_line_for_each_precision() {
    let (sweep, records) = sweep();
    let by = ["batch_per_domain", "precision"].map(Axis::from).to_vec();
    let svg =
        figure("s", &sweep.work, &records, &FigureQuestion { by, ..FigureQuestion::of(FigureKind::Rates) })
            .unwrap();
    for text in ["batch_per_domain", "fp32", "bf16"] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
}

#[test]
fn an_exported_run_has_the_size_of_its_own_batches() {
    let (sweep, records) = sweep();
    let sizes: Vec<u64> = runs(&sweep.work, &records, &Default::default())
        .iter()
        .map(|run| run.hparams["batch_size"].as_u64().unwrap())
        .collect();
    let own = |record: &TrialRecord| record.point.parameters["batch_per_domain"].as_number().unwrap() as u64;
    assert_eq!(sizes, records.iter().map(own).collect::<Vec<_>>());
}
