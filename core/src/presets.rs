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
    "pretraining",
    "resnet152",
    "vit-l-16",
    "lr-and-batch",
    "domainbed-random",
];

/// How the line begins that says which figure or table a preset makes.
const MAKES: &str = "Makes ";

/// A preset by its name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

impl Preset {
    /// The words of its first lines.
    fn comment(&self) -> impl Iterator<Item = &'static str> {
        self.text.lines().map_while(|line| line.strip_prefix("# "))
    }

    /// What it is.
    pub fn about(&self) -> String {
        self.comment().take_while(|line| !line.starts_with(MAKES)).collect::<Vec<_>>().join(" ")
    }

    /// Which figure or table its results make.
    pub fn makes(&self) -> &'static str {
        self.comment().find_map(|line| line.strip_prefix(MAKES)).unwrap_or_default().trim_end_matches('.')
    }

    /// The command that makes it, of the sweep on the preset's own dataset.
    pub fn command(&self) -> &'static str {
        self.comment().find(|line| line.starts_with("sortie ")).unwrap_or_default()
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
        assert_eq!(planned, [160, 288, 144, 152, 168, 192, 288, 432, 288, 640, 288, 288, 384, 240]);
        for preset in PRESETS {
            let sweep = SweepSpec::parse(&preset.text(Some("office_home")), None).unwrap();
            assert_eq!(
                (sweep.name, sweep.work.dataset()),
                (format!("{}-office_home", preset.name), Some("office_home"))
            );
            assert!(preset.about().contains("trials"), "{}", preset.about());
            assert!(!preset.about().contains("Makes") && !preset.makes().is_empty(), "{}", preset.name);
            assert!(preset.command().contains(&format!(" {} ", preset.name)), "{}", preset.command());
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
