//! A comparison as JSON and as text.

use comfy_table::Table;
use sortie_core::metrics::Method;

use super::comparison::{Comparison, DomainDifference, Paired, SideChoice};
use crate::chosen::{self, Chosen};
use crate::render::STYLE;
use crate::scale::Scale;
use crate::statistics::Estimate;

impl Paired {
    /// The comparison as JSON, unrounded.
    pub fn json(&self) -> String {
        // Numbers and texts always encode.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The comparison for people; of fractions in points of a hundred.
    pub fn text(&self) -> String {
        let Self { sweep, selection, method, a, b, units, planned, .. } = self;
        let model =
            if *method == Method::Plain { String::new() } else { format!(", weights used: {method}") };
        let best = if self.best { ", each with its best setting" } else { "" };
        let mut text = format!(
            "sweep {sweep}{model}, selection {selection}: {b} against {a}{best}, {units} of {planned} pairs (held-out domain and seeds) complete\n\n"
        );
        text.push_str(&format!("{}\n\n{}\n", self.differences(), self.verdict()));
        if !self.domains.is_empty() {
            text.push_str(&format!("\n{}\n", self.by_domain()));
        }
        let by_ood = |a: &&DomainDifference, b: &&DomainDifference| {
            let score = |own: &DomainDifference| self.metric.score(own.ood.mean.unwrap_or_default());
            score(a).total_cmp(&score(b))
        };
        if let Some(DomainDifference { held_out, ood, .. }) = self.domains.iter().min_by(by_ood) {
            text.push_str(&format!(
                "\nworst held-out domain: {held_out}, {}\n",
                with_error(&self.scale, ood)
            ));
        }
        if !self.chosen.is_empty() {
            text.push_str(&format!("\n{}\n", self.settings()));
        }
        text.push_str(&format!("\n{}\n", self.legend()));
        text
    }

    /// The mean o.o.d. difference with its standard error and their unit.
    pub fn ood_difference(&self) -> String {
        let Estimate { mean, se, .. } = self.ood.difference;
        let mean = mean.map_or_else(|| "-".to_owned(), |mean| self.scale.fine_difference(mean));
        let se = se.map_or_else(|| "-".to_owned(), |se| self.scale.fine_text(se));
        format!("{mean} ± {se} {}", self.scale.points())
    }

    /// Whether the difference of o.o.d. accuracies is more than noise between seeds, in one sentence.
    pub fn verdict(&self) -> String {
        self.verdict_on(&self.a, &self.b)
    }

    /// The same, where the settings have other names.
    pub(crate) fn verdict_on(&self, a: &str, b: &str) -> String {
        let ood = &self.ood;
        let (Some(mean), Some([low, high])) = (ood.difference.mean, ood.interval_by_domain) else {
            return "whether the o.o.d. difference is more than noise between seeds is not known: that takes two complete pairs with \
                    every held-out domain"
                .to_owned();
        };
        // Finer than in the table, where an end close to 0 looks like it.
        let fine = |end: f64| self.scale.fine_difference(end);
        let interval = format!("the 95% interval by domain, {} to {},", fine(low), fine(high));
        match (low > 0.0, high < 0.0) {
            (true, _) | (_, true) => {
                let is = if self.metric.score(mean) > 0.0 { "better" } else { "worse" };
                format!(
                    "o.o.d., {b} is {is} than {a} by more than noise between seeds: {interval} excludes 0"
                )
            }
            _ => format!(
                "o.o.d., the difference between {b} and {a} is not more than noise between seeds: {interval} includes 0"
            ),
        }
    }

    fn differences(&self) -> String {
        let points = self.scale.points();
        let header = [
            points.as_str(),
            "difference",
            "95% interval by domain",
            "95% interval over pairs",
            "better",
            "equal",
            "worse",
            "SD of one run across seeds",
        ];
        let mut table = Table::new();
        table.load_style(STYLE).set_header(header).add_rows(
            [("o.o.d.", &self.ood), ("i.i.d.", &self.iid)].map(|(name, comparison)| {
                let Comparison { difference, better, equal, worse, between_seeds, .. } = comparison;
                let noise = between_seeds.map_or_else(|| "-".to_owned(), |noise| self.scale.text(noise));
                [
                    name.to_owned(),
                    with_error(&self.scale, difference),
                    range(&self.scale, comparison.interval_by_domain),
                    range(&self.scale, comparison.interval),
                    better.to_string(),
                    equal.to_string(),
                    worse.to_string(),
                    noise,
                ]
            }),
        );
        table.trim_fmt()
    }

    fn by_domain(&self) -> String {
        let mut table = Table::new();
        table.load_style(STYLE).set_header(["held out", "o.o.d.", "i.i.d.", "pairs"]).add_rows(
            self.domains.iter().map(|DomainDifference { held_out, ood, iid }| {
                [
                    held_out.clone(),
                    with_error(&self.scale, ood),
                    with_error(&self.scale, iid),
                    ood.n.to_string(),
                ]
            }),
        );
        table.trim_fmt()
    }

    /// The settings that were taken as the best of each side.
    fn settings(&self) -> String {
        let mut rows = Vec::new();
        let mut sides: Vec<&str> = self.chosen.iter().map(|choice| choice.side.as_str()).collect();
        sides.dedup();
        for side in sides {
            let own = self.chosen.iter().filter(|choice| choice.side == side);
            let choices: Vec<(&str, &[Chosen])> = own
                .map(|SideChoice { held_out, chosen, .. }| (held_out.as_str(), chosen.as_slice()))
                .collect();
            let lines = chosen::lines(&choices).into_iter();
            rows.extend(lines.map(|(domain, setting, seeds)| [side.to_owned(), domain, setting, seeds]));
        }
        let mut table = Table::new();
        table.load_style(STYLE).set_header(["side", "held out", "best setting", "pairs of seeds"]);
        table.add_rows(rows).trim_fmt()
    }

    /// Explains the columns.
    fn legend(&self) -> String {
        let mut notes = vec![
            self.selected_by.clone(),
            "± standard error of the mean over pairs".to_owned(),
            "95% interval by domain: of the spread between seeds within each held-out domain (Student's t); over pairs: of all pairs \
             alike (bootstrap), which differences between domains widen"
                .to_owned(),
        ];
        notes.push(if self.best {
            "SD of one run across seeds: standard deviation over seeds of the best runs".to_owned()
        } else {
            "SD of one run across seeds: standard deviation of trials that differ only in the seed".to_owned()
        });
        notes.extend(self.steps.iter().cloned());
        notes.extend(self.missing_classes.note().map(str::to_owned));
        notes.join("; ")
    }
}

fn range(scale: &Scale, interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(
        || "-".to_owned(),
        |[low, high]| format!("{} to {}", scale.difference(low), scale.difference(high)),
    )
}

fn with_error(scale: &Scale, estimate: &Estimate) -> String {
    let mean = estimate.mean.map_or_else(|| "-".to_owned(), |mean| scale.difference(mean));
    estimate.se.map_or_else(|| mean.clone(), |se| format!("{mean} ± {}", scale.text(se)))
}
