//! Reports: what they say, what they must not, and what they load (nothing).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod html;
mod sweeps;

use html::{between, check, text};
use sortie_analysis::{
    Axis, OodSplit, Question, ReportQuestion, ReportSubject, SweepRecords, joint_report, report, results,
};
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
    insta::assert_snapshot!(between(&text, "Fine-tuning", "{"));
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
fn several_sweeps_are_one_page_and_different_trials_are_not_averaged() {
    let of = |name: &str| {
        let ReportSubject { spec, records, .. } = complete(SMALL);
        SweepRecords::of(name, spec, records)
    };
    let sweeps = [of("first"), of("second & <last>")];
    let by = [Axis::from("sweep"), Axis::from("dropout")];
    let page = joint_report(&sweeps, &by, &question()).unwrap();
    check(&page);
    let text = text(&page);
    assert!(text.starts_with("Sweeps first, second & <last>\n"), "{text}");
    assert!(text.contains("second & <last> | PACS | 24/24 | 0 | 0 | 0\n"), "{text}");
    assert!(text.contains("first | 0 | ") && page.matches("<svg").count() == 1, "{text}");
    // The same trials count once where nothing tells the sweeps apart.
    let once = joint_report(&sweeps, &[], &question()).unwrap();
    assert!(!html::text(&once).contains("second & <last> | 0"), "{once}");
    let mut others = sweeps.clone();
    for record in &mut others[1].records {
        record.point.seed += 10;
        record.id = sortie_core::trial::TrialSpec {
            work: others[1].spec.work.clone(),
            point: record.point.clone(),
            combination: None,
        }
        .hash();
    }
    let error = joint_report(&others, &[], &question()).unwrap_err().to_string();
    assert!(error.contains("trials of different sweeps are not averaged"), "{error}");
}

#[test]
fn trials_that_are_not_stored_yet_are_missing_too() {
    let mut subject = complete(SMALL);
    subject.records.truncate(20);
    let text = text(&page("growing", subject, &question()));
    assert!(
        text.contains("Incomplete: 20 of 24 trials have a result.\n") && text.contains("4 waiting"),
        "{text}"
    );
    assert!(text.contains("4 planned trials are not stored yet"), "{text}");
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
            let (_, group) = part.split_once(&format!("\nweights used: {method}\n")).unwrap();
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
        text.contains("\nEvery setting, selection loo\n")
            && text.matches("Cells: mean ± standard error, n = 3.").count() == 18,
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
        row.score = Some(Score::Counts { n: 1_000, correct: 123 });
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
    assert!(
        text.contains("Figure 1. The training loss of the step's batch against the step, mean over "),
        "{text}"
    );
    for absent in ["Selection and models", "Noise"] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn a_single_trial_is_enough() {
    let text = text(&page("single", complete(SINGLE), &question()));
    assert!(text.contains("Complete. The only planned trial has a result."), "{text}");
    assert!(text.contains("the noise across seeds is not known") && !text.contains("Paired"), "{text}");
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
        text.contains("No figure of kind rates (weights used: plain): sweep small has no finished trial"),
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
            && !text.contains("weights used: plain\n")
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
