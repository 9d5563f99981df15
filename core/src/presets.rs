//! The paper's experiments as sweep files: those of `examples/`, for any dataset.

use toml_edit::{DocumentMut, value};

/// A sweep file with a name by which commands know it.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// The name.
    pub name: &'static str,
    /// The file's text, for the dataset that the paper reports first.
    text: &'static str,
}

macro_rules! presets {
    ($($name:literal),+ $(,)?) => {
        &[$(Preset { name: $name, text: include_str!(concat!("../../examples/", $name, ".toml")) }),+]
    };
}

/// All of them, in the order of the paper.
pub const PRESETS: &[Preset] = presets![
    "figure1",
    "dropout-rates",
    "last-layer-lr",
    "weight-average",
    "ensemble",
    "linear",
    "scratch",
    "domainnet",
    "no-selection",
    "domainbed-random",
];

/// A preset by its name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

impl Preset {
    /// What it is, in the words of its first lines.
    pub fn about(&self) -> String {
        let comment = self.text.lines().map_while(|line| line.strip_prefix("# "));
        comment.collect::<Vec<_>>().join(" ")
    }

    /// The file's text. With a dataset it is about that one, and the sweep is named after both.
    pub fn text(&self, dataset: Option<&str>) -> String {
        let (Some(dataset), Ok(mut file)) = (dataset, self.text.parse::<DocumentMut>()) else {
            return self.text.to_owned();
        };
        file["name"] = value(format!("{}-{}", self.name, dataset.to_ascii_lowercase()));
        file["data"]["dataset"] = value(dataset);
        file.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SweepSpec;
    use crate::trial::Work;

    #[test]
    fn every_preset_plans_the_papers_trials_for_any_dataset() {
        let planned: Vec<_> = PRESETS
            .iter()
            .map(|preset| SweepSpec::parse(&preset.text(None), None).unwrap().trials_planned().unwrap())
            .collect();
        assert_eq!(planned, [160, 288, 144, 152, 168, 192, 288, 432, 288, 240]);
        for preset in PRESETS {
            let sweep = SweepSpec::parse(&preset.text(Some("office_home")), None).unwrap();
            assert_eq!(
                (sweep.name, sweep.work.dataset()),
                (format!("{}-office_home", preset.name), Some("office_home"))
            );
            assert!(preset.about().contains("trials"), "{}", preset.about());
        }
    }

    #[test]
    fn the_schedule_of_domainnet_is_its_own() {
        let sweep = SweepSpec::parse(&find("domainnet").unwrap().text(None), None).unwrap();
        let Work::Finetune(settings) = sweep.work else { panic!("a command") };
        assert_eq!(
            (settings.steps, settings.evaluate_every, settings.milestones),
            (30_000, 1_000, vec![15_000, 25_000])
        );
    }
}
