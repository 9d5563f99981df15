//! Reports: what they say, what they must not, and what they load (nothing).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod html;
mod sweeps;

use html::{between, check, text};
use sortie_analysis::{Axis, OodSplit, Question, ReportQuestion, ReportSubject, report, results};
use sortie_core::job::StateName;
use sortie_core::metrics::{Method, Score};
use sortie_core::selection::Selection;
use sweeps::{COMMAND, NASTY, PACS, SINGLE, SMALL, complete, incomplete, question};

/// The page, checked, and kept for people to look at if they say where.
fn page(name: &str, subject: ReportSubject, asked: &ReportQuestion) -> String {
    let page = report(subject, asked);
    if let Ok(folder) = std::env::var("SORTIE_SHOW_REPORTS") {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.html")), &page).unwrap();
    }
    check(&page);
    page
}

#[test]
fn a_complete_sweep_reads_from_top_to_bottom() {
    let page = page("small", complete(SMALL), &question());
    let text = text(&page);
    insta::assert_snapshot!(between(&text, "Fine-tuning", "{"), @r#"
    Fine-tuning of efficientnet-lite0 on PACS, with each of 4 domains held out in turn; 2 seeds for each setting.
    Complete. All 24 planned trials have a result.
    What was run
    Dataset: PACS: domains art_painting, cartoon, photo, sketch; 7 classes; each domain split by image, 80% in, 20% out
    Images: 224 × 224 pixels; random crops, flips, colours and grayscale in training; out splits of training domains are evaluated under the training transform
    Network: efficientnet-lite0, pretrained weights efficientnet-lite0
    Trained: all weights, BatchNorm statistics frozen; dropout on the penultimate representation
    Steps: 1001 updates (steps 0 to 1000), each on 32 images of each training domain
    Optimiser: Adam with coupled weight decay (L2) of every parameter
    Learning rate: half a cosine from the full rate to zero
    Precision: fp32: single precision throughout
    Evaluation: after steps 0, 250, 500, … and 1000
    Grid
    Table 1. Axes of the grid; every combination of their values is a trial.
    axis | values | which
    dropout | 3 | 0, 0.5, 0.9
    lr | 1 | 1e-3
    weight_decay | 1 | 1e-4
    head_lr_factor | 1 | 1
    held_out | 4 | art_painting, cartoon, photo, sketch
    seed | 2 | 0, 1
    split | 1 | 0
    24 trials in all.
    Completeness
    Table 2. Trials. Only those that are done are in any mean.
    planned | done | failed | diverged | cancelled | running | waiting
    24 | 24 | 0 | 0 | 0 | 0 | 0
    Selection and models
    O.o.d. accuracy is read on the held-out domain (in split), i.i.d. accuracy on the out splits of the training domains (unweighted mean over domains). No selection method but an oracle reads the held-out domain. Settings are averaged, not chosen: no table takes the best of several settings.
    Table 3. Which step of a run counts.
    method | takes | reads to choose
    iid | the step with the best i.i.d. accuracy, the earliest of equals | the out splits of the training domains
    last | the last step | nothing
    Table 4. Models of a training trajectory that were evaluated.
    model | what it is
    plain | the weights as they stand after the step
    average | the running mean of the weights after every evaluation from step 300 on
    Results
    Accuracies are percentages: mean ± standard error over trials. Bold: the best o.o.d. mean of a column, within one model, where nothing is missing; it was found by looking at the held-out domains and describes, it does not choose. (done/planned) stands where trials are missing. The mean column averages the domains of replicates that are done for all of them.
    Selection iid
    Takes the step with the best i.i.d. accuracy, the earliest of equals; reads the out splits of the training domains to choose.
    Table 5. O.o.d. accuracy (held-out domain, in split), %: all models; selection iid. Cells: n = 2.
    dropout | art_painting | cartoon | photo | sketch | mean | n | done
    model plain
    0 | 68.9 ± 0.0 | 75.8 ± 0.6 | 81.4 ± 0.0 | 87.9 ± 0.8 | 78.5 ± 0.3 | 2 | 8/8
    0.5 | 70.4 ± 0.2 | 76.4 ± 0.3 | 82.6 ± 0.8 | 89.5 ± 0.2 | 79.7 ± 0.3 | 2 | 8/8
    0.9 | 71.4 ± 0.4 | 77.7 ± 0.5 | 82.8 ± 0.7 | 89.1 ± 0.4 | 80.3 ± 0.1 | 2 | 8/8
    model average
    0 | 70.6 ± 0.4 | 76.4 ± 0.9 | 82.5 ± 0.2 | 88.1 ± 0.4 | 79.4 ± 0.0 | 2 | 8/8
    0.5 | 71.0 ± 0.2 | 77.6 ± 0.8 | 82.7 ± 0.0 | 89.0 ± 0.9 | 80.1 ± 0.5 | 2 | 8/8
    0.9 | 71.2 ± 0.2 | 76.8 ± 0.1 | 84.0 ± 0.3 | 88.9 ± 0.5 | 80.3 ± 0.0 | 2 | 8/8
    Table 6. I.i.d. accuracy (training domains, out splits) by held-out domain, %: all models; selection iid. Cells: n = 2.
    dropout | art_painting | cartoon | photo | sketch | mean | n | done
    model plain
    0 | 96.7 ± 0.0 | 97.0 ± 0.0 | 96.9 ± 0.0 | 96.7 ± 0.0 | 96.8 ± 0.0 | 2 | 8/8
    0.5 | 97.3 ± 0.1 | 97.0 ± 0.1 | 97.1 ± 0.2 | 97.0 ± 0.0 | 97.1 ± 0.0 | 2 | 8/8
    0.9 | 97.4 ± 0.1 | 96.9 ± 0.2 | 97.2 ± 0.2 | 97.0 ± 0.3 | 97.1 ± 0.1 | 2 | 8/8
    model average
    0 | 97.3 ± 0.2 | 97.2 ± 0.3 | 97.2 ± 0.2 | 97.6 ± 0.2 | 97.3 ± 0.0 | 2 | 8/8
    0.5 | 97.5 ± 0.0 | 97.6 ± 0.0 | 97.8 ± 0.1 | 97.3 ± 0.2 | 97.6 ± 0.1 | 2 | 8/8
    0.9 | 97.7 ± 0.1 | 97.7 ± 0.1 | 97.3 ± 0.0 | 97.7 ± 0.2 | 97.6 ± 0.1 | 2 | 8/8
    Selection last
    Takes the last step; reads nothing to choose.
    Table 7. O.o.d. accuracy (held-out domain, in split), %: all models; selection last. Cells: n = 2.
    dropout | art_painting | cartoon | photo | sketch | mean | n | done
    model plain
    0 | 70.5 ± 0.3 | 75.6 ± 0.4 | 81.2 ± 0.2 | 87.0 ± 0.0 | 78.6 ± 0.0 | 2 | 8/8
    0.5 | 70.3 ± 0.3 | 76.6 ± 0.1 | 83.5 ± 0.2 | 88.5 ± 0.8 | 79.8 ± 0.2 | 2 | 8/8
    0.9 | 71.0 ± 0.8 | 77.2 ± 1.0 | 83.7 ± 0.2 | 89.3 ± 0.6 | 80.3 ± 0.3 | 2 | 8/8
    model average
    0 | 70.4 ± 0.1 | 77.2 ± 0.4 | 83.1 ± 0.4 | 88.5 ± 0.4 | 79.8 ± 0.3 | 2 | 8/8
    0.5 | 71.0 ± 0.2 | 77.6 ± 0.1 | 82.9 ± 1.0 | 88.1 ± 0.1 | 79.9 ± 0.3 | 2 | 8/8
    0.9 | 71.9 ± 0.6 | 76.5 ± 0.2 | 83.0 ± 0.7 | 89.5 ± 1.1 | 80.2 ± 0.5 | 2 | 8/8
    Table 8. I.i.d. accuracy (training domains, out splits) by held-out domain, %: all models; selection last. Cells: n = 2.
    dropout | art_painting | cartoon | photo | sketch | mean | n | done
    model plain
    0 | 96.2 ± 0.2 | 97.0 ± 0.0 | 96.8 ± 0.1 | 96.3 ± 0.3 | 96.6 ± 0.1 | 2 | 8/8
    0.5 | 96.9 ± 0.6 | 96.7 ± 0.2 | 96.6 ± 0.2 | 96.4 ± 0.1 | 96.6 ± 0.1 | 2 | 8/8
    0.9 | 96.5 ± 0.0 | 96.5 ± 0.1 | 96.7 ± 0.7 | 97.0 ± 0.3 | 96.7 ± 0.1 | 2 | 8/8
    model average
    0 | 97.2 ± 0.1 | 96.9 ± 0.1 | 97.1 ± 0.2 | 96.7 ± 0.2 | 97.0 ± 0.1 | 2 | 8/8
    0.5 | 96.8 ± 0.5 | 96.6 ± 0.1 | 96.7 ± 0.3 | 97.1 ± 0.4 | 96.8 ± 0.3 | 2 | 8/8
    0.9 | 97.5 ± 0.0 | 97.7 ± 0.2 | 96.9 ± 0.2 | 97.6 ± 0.3 | 97.4 ± 0.1 | 2 | 8/8
    Figures
    Figure 1. Accuracy against the dropout rate, all other settings averaged (model plain, selection iid).
    Figure 2. Accuracy against the dropout rate, all other settings averaged (model average, selection iid).
    Figure 3. O.o.d. against i.i.d. accuracy of every choice of one setting per held-out domain, with hull and centre; combinations across trials are single points (models plain, average, selection iid).
    Figure 4. Accuracy against the training step, all other settings averaged (model plain, selection iid).
    Figure 5. Accuracies of single trials: median, quartiles, whiskers to 1.5 interquartile ranges (model plain, selection iid).
    Noise
    How far single trials lie apart that differ in nothing but the seed: their standard deviation in points, pooled over all settings and held-out domains, under selection iid. A difference of this size between two single trials means nothing.
    Table 9. Standard deviation between seeds.
    model | o.o.d. | i.i.d.
    plain | 0.67 | 0.22
    average | 0.67 | 0.23
    Paired comparison
    Table 10. B minus A in points, pairs of trials that agree in all but dropout; ± standard error and 95% interval over units (a held-out domain with its seeds; percentile bootstrap); selection iid.
    A | B | accuracy | difference | 95% interval | better, equal, worse | SD of seeds | art_painting | cartoon | photo | sketch
    model plain, 8 units
    0 | 0.9 | o.o.d. | +1.8 ± 0.3 | +1.2 to +2.3 | 8, 0, 0 | 0.7 | +2.6 ± 0.4 | +1.9 ± 0.1 | +1.4 ± 0.7 | +1.3 ± 1.1
    0 | 0.9 | i.i.d. | +0.3 ± 0.1 | +0.0 to +0.5 | 5, 0, 3 | 0.2 | +0.6 ± 0.1 | −0.1 ± 0.2 | +0.2 ± 0.3 | +0.3 ± 0.4
    model average, 8 units
    0 | 0.9 | o.o.d. | +0.9 ± 0.3 | +0.3 to +1.4 | 7, 0, 1 | 0.6 | +0.6 ± 0.5 | +0.4 ± 1.0 | +1.6 ± 0.4 | +0.9 ± 0.1
    0 | 0.9 | i.i.d. | +0.3 ± 0.1 | +0.1 to +0.5 | 7, 0, 1 | 0.3 | +0.4 ± 0.3 | +0.5 ± 0.4 | +0.0 ± 0.2 | +0.2 ± 0.0
    Chosen after looking: B is the rate with the best mean o.o.d. accuracy of this very sweep, so its advantage is overstated and the interval does not account for the choice. It shows how large the difference is beside the noise; to test it, run new seeds.
    Environment
    Version of the numbers (protocol): 3.
    Table 11. What accepted attempts ran on: values, and how many trials have each; known of 24 of 24 trials that are done.
    fact | value | trials
    software | sortie-worker 0.1.0 | 24
    libtorch | 2.11.0 | 24
    device | NVIDIA H100 80GB HBM3 (cuda:0) | 19
    NVIDIA H200 (cuda:0) | 5
    threads | 8 | 24
    dataset digest | 5d0c0a3a2ee6d4d85c4b8e9f7f34e0a1a4f2f9f8f86b6b3f7f2f0b6a1c9d8e7f | 24
    weights digest | 11ad3fa6b0a4b86bfb0dd2d5c1a9b7d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1 | 24
    resumed inexactly | no | 23
    yes | 1
    Specification of the sweep
    "#);
    assert!(page.contains("<strong>"), "the best is marked");
    assert!(
        page.matches("<svg").count() >= 4
            && page.matches("<figcaption>").count() == page.matches("<svg").count()
    );
}

#[test]
fn what_is_missing_comes_first_and_nothing_is_best() {
    let page = page("incomplete", incomplete(PACS), &question());
    let text = text(&page);
    insta::assert_snapshot!(text.lines().take(4).collect::<Vec<_>>().join("\n"), @r#"
    Sweep pacs-dropout
    Fine-tuning of resnet50-v2 on PACS, with each of 4 domains held out in turn; 3 seeds for each setting.
    Incomplete: 672 of 784 trials have a result.
    Missing: 23 failed, 23 diverged, 22 cancelled, 22 running, 22 waiting. Means below are over what is there and may change; nothing is marked best in a column where something is missing. What is missing.
    "#);
    assert!(page.contains("class=\"banner incomplete\"") && !page.contains("<strong>"));
    assert!(text.contains("single | 0 | 5e-4 | 1e-5 | 11/12 | 1 waiting | photo (1)\n"), "{text}");
    assert!(text.contains("No two values of dropout are complete"), "{text}");
}

#[test]
fn one_missing_trial_takes_the_mark_from_its_column_and_from_the_mean() {
    let mut subject = complete(SMALL);
    let missing = subject.records.iter_mut().find(|record| record.point.held_out == ["sketch"]).unwrap();
    (missing.state, missing.validation, missing.held_out) = (StateName::Failed, Vec::new(), Vec::new());
    let page = page("one-missing", subject, &question());
    let rows: Vec<&str> = page.split("<tr").filter(|row| row.contains("<strong>")).collect();
    assert!(!rows.is_empty());
    for row in rows {
        // Of rate, four domains, mean, n and done, only the first three domains may be marked.
        let cells: Vec<&str> = row.split("<td").skip(1).collect();
        assert_eq!(cells.len(), 7, "{row}");
        assert!(cells[3..].iter().all(|cell| !cell.contains("<strong>")), "{row}");
    }
}

#[test]
fn trials_that_are_not_written_down_yet_are_missing_too() {
    let mut subject = complete(SMALL);
    subject.records.truncate(20);
    let text = text(&page("growing", subject, &question()));
    assert!(
        text.contains("Incomplete: 20 of 24 trials have a result.\n") && text.contains("4 waiting"),
        "{text}"
    );
    assert!(text.contains("4 planned trials are not written down yet"), "{text}");
}

/// The accuracy as tables show it.
fn shown(value: Option<f64>) -> String {
    format!("{:.1}", 100.0 * value.unwrap())
}

#[test]
fn every_number_of_the_summaries_is_that_of_sortie_results() {
    let subject = complete(PACS);
    let text = text(&page("pacs", subject.clone(), &question()));
    let records: Vec<_> =
        subject.records.iter().filter(|record| record.point.combine().is_none()).cloned().collect();
    for (selection, next) in [
        (Selection::Iid, "Selection loo"),
        (Selection::Loo, "Selection last"),
        (Selection::Last, "Combinations"),
    ] {
        let part = between(&text, &format!("Selection {selection}"), next);
        for method in [Method::Plain, Method::Average, Method::Ensemble] {
            let asked =
                Question { selection, method, by: vec![Axis::from("dropout")], ..Question::default() };
            let expected = results(&subject.name, &subject.spec.work, &records, &asked).unwrap();
            let (_, group) = part.split_once(&format!("\nmodel {method}\n")).unwrap();
            for (line, mean) in group.lines().zip(&expected.means) {
                let cells = expected.cells.iter().filter(|cell| cell.row == mean.row);
                let numbers: Vec<String> =
                    cells.map(|cell| shown(cell.ood.mean)).chain([shown(mean.ood.mean)]).collect();
                let found: Vec<&str> =
                    line.split(" | ").skip(1).take(5).map(|cell| cell.split(' ').next().unwrap()).collect();
                assert_eq!(found, numbers, "{selection} {method}: {line}");
                assert!(
                    line.contains(&format!("| {} ± ", shown(mean.iid.mean))) && line.ends_with("72/72"),
                    "{line}"
                );
            }
        }
    }
    // 24 settings and three models: tables of their own.
    assert!(
        text.contains("\nEvery setting, selection loo\n") && text.matches("Cells: n = 3.").count() == 18,
        "{text}"
    );
    assert!(text.contains("0 | 0.95 | o.o.d. | ") && text.contains("Chosen after looking"), "{text}");
}

#[test]
fn combinations_are_rows_of_their_own_and_in_no_other_mean() {
    let subject = complete(PACS);
    let mut changed = subject.clone();
    for row in changed
        .records
        .iter_mut()
        .filter(|record| record.point.combine().is_some())
        .flat_map(|record| &mut record.held_out)
    {
        row.score = Score::Counts { n: 1_000, correct: 123 };
    }
    let (first, second) = (text(&report(subject, &question())), text(&report(changed, &question())));
    assert_eq!(
        between(&first, "Selection iid", "Combinations"),
        between(&second, "Selection iid", "Combinations")
    );
    assert_eq!(between(&first, "Noise", "Environment"), between(&second, "Noise", "Environment"));
    let combined = between(&second, "Each is made of the final models", "Figures");
    assert!(
        combined.contains("\nensemble-across\n3 | 0 | mixed | 12.3 | 12.3 | 12.3 | 12.3 | 12.3 | 1 | 4/4\n"),
        "{combined}"
    );
    assert!(combined.contains("\nsoup\n9 | 0 | 5e-4 | 12.3"), "{combined}");
}

#[test]
fn names_stay_text() {
    let page = page("nasty", complete(NASTY), &question());
    assert!(
        page.contains("&lt;img src=http:") && page.contains("&lt;/<wbr>td&gt;&lt;script&gt;alert(1)"),
        "markup is shown, not obeyed"
    );
    // Nothing in the specification turns its lines around either.
    assert!(page.contains("\\u202eevil"));
    let text = text(&page);
    assert!(
        text.contains("Command: sh -c echo '<script>alert(1)</script>' {x} # \"quoted\" & 'more'\n"),
        "{text}"
    );
}

#[test]
fn a_command_without_domains_has_what_there_is() {
    let page = page("command", complete(COMMAND), &question());
    let text = text(&page);
    assert!(
        text.contains("holds out no domain")
            && text.contains("lr | optimiser | last step | best step | n | done\n1e-4 | adam | "),
        "{text}"
    );
    for absent in ["Selection and models", "Noise", "Figures"] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn a_single_trial_is_enough() {
    let text = text(&page("single", complete(SINGLE), &question()));
    assert!(text.contains("Complete. The only planned trial has a result."), "{text}");
    assert!(
        text.contains("nothing is known of the noise between seeds") && !text.contains("Paired"),
        "{text}"
    );
}

#[test]
fn a_sweep_without_results_says_so_and_has_a_line_for_each_figure() {
    let mut subject = complete(SMALL);
    for record in &mut subject.records {
        (record.state, record.validation, record.held_out) = (StateName::Queued, Vec::new(), Vec::new());
    }
    subject.runs.clear();
    let text = text(&page("nothing", subject, &question()));
    assert!(text.contains("Incomplete: 0 of 24 trials have a result."), "{text}");
    assert!(
        text.contains("No figure of kind rates, model plain: sweep small has no finished trial"),
        "{text}"
    );
    assert!(text.contains("What the attempts ran on is not known to this report."), "{text}");
    let mut empty = complete(SMALL);
    empty.records.clear();
    check(&report(empty, &question()));
}

#[test]
fn what_is_asked_for_is_all_that_is_shown_and_an_oracle_is_called_one() {
    let asked = ReportQuestion {
        selections: vec![Selection::Oracle],
        methods: vec![Method::Ensemble],
        ood_split: Some(OodSplit::All),
        date: Some("2025-03-01".into()),
        ..question()
    };
    let text = text(&page("oracle", complete(PACS), &asked));
    assert!(
        text.contains("\nSelection oracle (reads the held-out domain)\n")
            && text.contains("an upper bound only"),
        "{text}"
    );
    assert!(
        !text.contains("Selection iid")
            && !text.contains("model plain\n")
            && text.contains("held-out domain, all images"),
        "{text}"
    );
    assert!(text.contains("\nDate: 2025-03-01\n"), "{text}");
}

#[test]
fn many_settings_are_summed_up_and_many_domains_make_several_tables() {
    let many = |count: usize| (0..count).map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
    let domains: Vec<String> = (0..9).map(|index| format!("\"d{index}\"")).collect();
    let wide = format!(
        "name = 'wide'\n[run]\ncommand = ['x']\n[data]\ndataset = 'd'\ndomains = [{}]\n[grid]\na = [{}]\nb = [1, 2]\nheld_out = 'each'\n",
        domains.join(", "),
        many(100)
    );
    let page = page("wide", complete(&wide), &question());
    let text = text(&page);
    assert!(text.contains("Part 2 of 2.") && text.contains("40 further rows are left out"), "{text}");
    assert!(
        text.contains(
            "The 200 settings of this sweep are too many to list one by one: sortie results wide --select iid"
        ),
        "{text}"
    );
    assert!(text.contains("shows at most 40.\n") && text.contains("0, 1, 2, 3, 4"), "{text}");
    assert!(page.len() < 3_000_000, "{}", page.len());
}
